"""What a task returned, read strictly and turned into the bytes that are stored.

Strict, because what is stored is shown and handed on as JSON: a value that would silently
become something else (NaN, a date, a number as a key) is refused with the path to it.
UUIDs and enum members are written as their text and value, tuples as lists.
"""

import enum
import inspect
import math
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson
from pydantic import BaseModel

from shared.errors import InvalidTaskResult, LimitExceeded
from shared.task_context import Json
from shared.tasks import Finish, RunFlow, Suspend, TaskResult

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_EMPTY = b"{}"
_MAX_DEPTH = 200
"""Levels of arrays and objects; orjson itself gives up at 254."""

_SHAPES = 'return {"success": True or False, "data": {...}}, a TaskResult, a bool or None'


@dataclass(frozen=True, slots=True)
class Returned:
    """A result that can be recorded."""

    success: bool
    data: bytes
    finishes: bool = False
    """Whether it ends the whole run."""
    cancels: tuple[str, ...] = ()
    """Tasks whose branches end with it."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A wait that a task asked for: until a time, a signal, or what comes first."""

    wake_at: datetime | None
    """In UTC."""
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class SubFlowRequest:
    """A stored definition that a task wants to be run."""

    flow_id: str
    version: int | None
    input: bytes
    """JSON."""


def read_result(returned: object, max_bytes: int) -> Returned | Suspension | SubFlowRequest:
    """The result a task returned, or what it wants to wait for.

    Raises:
        InvalidTaskResult: it has another shape than is allowed, or is not JSON.
        LimitExceeded: its data is larger than ``max_bytes``.
    """
    if isinstance(returned, dict):
        return _read_dict(returned, max_bytes)
    if isinstance(returned, TaskResult):
        result = _result(returned.success, returned.data, max_bytes)
        return replace(result, cancels=returned.cancels) if returned.cancels else result
    if returned is None or isinstance(returned, bool):
        return Returned(returned is not False, _EMPTY)
    if isinstance(returned, Finish):
        return Returned(True, encode_data(returned.data, max_bytes), finishes=True)
    if isinstance(returned, Suspend):
        return Suspension(_wake_time(returned), returned.signal)
    if isinstance(returned, RunFlow):
        content = encode_data(returned.input, max_bytes)
        return SubFlowRequest(returned.flow_id, returned.version, content)
    if inspect.iscoroutine(returned):
        returned.close()
        raise InvalidTaskResult("run() returned a coroutine: make it `async def`, or await it")
    raise InvalidTaskResult(f"run() returned {_kind(returned)}; {_SHAPES}")


def encode_data(data: Json, max_bytes: int) -> bytes:
    """``data`` as stored JSON.

    Raises:
        InvalidTaskResult: a value is not JSON; the message starts with the path to it.
        LimitExceeded: it is larger than ``max_bytes``.
    """
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json")
    try:
        encoded = orjson.dumps(data, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        # orjson says what is wrong but not where; only now is looking for it worth the time.
        raise InvalidTaskResult(_find(data) or f"data: {error}") from None
    if len(encoded) > max_bytes:
        raise LimitExceeded(
            f"data is {len(encoded)} bytes of JSON, over max_result_bytes ({max_bytes}); "
            "store large results elsewhere and return where"
        )
    # orjson writes NaN and infinities as null, and NUL, which PostgreSQL cannot store, escaped.
    if (b"null" in encoded or b"\\u0000" in encoded) and (problem := _find(data)) is not None:
        raise InvalidTaskResult(problem)
    return encoded


def _read_dict(returned: dict[object, object], max_bytes: int) -> Returned:
    if "success" not in returned:
        raise InvalidTaskResult(f'the returned dict has no "success"; {_SHAPES}')
    if len(returned) > 1 + ("data" in returned):
        others = ", ".join(sorted(repr(key) for key in returned if key not in ("success", "data")))
        raise InvalidTaskResult(
            f'the returned dict holds {others[:200]}; only "success" and "data" are kept, '
            'put it under "data"'
        )
    if "data" not in returned:
        return _result(returned["success"], {}, max_bytes)
    return _result(returned["success"], returned["data"], max_bytes)


def _result(success: object, data: Json, max_bytes: int) -> Returned:
    if success is not True and success is not False:
        raise InvalidTaskResult(f"success must be True or False, not {_kind(success)}")
    if data == {} and type(data) is dict:
        return Returned(success, _EMPTY)
    return Returned(success, encode_data(data, max_bytes))


def _wake_time(suspend: Suspend) -> datetime | None:
    if suspend.until is not None:
        return suspend.until.astimezone(UTC)
    if suspend.seconds is None:
        return None
    return datetime.now(UTC) + timedelta(seconds=suspend.seconds)


def _find(data: Json) -> str | None:
    """The first value in ``data`` that is not JSON, as ``path: what is wrong``."""
    # A stack of our own: data may be nested deeper than Python can call.
    waiting: list[tuple[str, Json, int]] = [("data", data, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        problem = _problem(value)
        if problem is not None:
            return f"{path}: {problem}"
        if depth > _MAX_DEPTH:
            return f"{path[:200]}: nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    return f"{path}: the key {key!r:.100} is {_kind(key)}, not a text"
                if (problem := _text_problem(key)) is not None:
                    return f"{path}: the key {key!a:.100} {problem}"
            inside = [(_step(path, key), value[key], depth + 1) for key in value]
            waiting.extend(reversed(inside))
        elif isinstance(value, list | tuple):
            inside = [(f"{path}[{i}]", item, depth + 1) for i, item in enumerate(value)]
            waiting.extend(reversed(inside))
    return None


def _problem(value: Json) -> str | None:
    """What is wrong with ``value`` itself, whatever it holds."""
    if isinstance(value, enum.Enum) and not isinstance(value, str | int | float):
        return _problem(value.value)
    if value is None or isinstance(value, bool | uuid.UUID | dict | list):
        return None
    if isinstance(value, str):
        problem = _text_problem(value)
        return f"the text {problem}" if problem else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not JSON"
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else "the number is beyond 64 bits"
    return None if type(value) is tuple else f"{_kind(value)} is not JSON"


def _text_problem(text: str) -> str | None:
    if "\x00" in text:
        return "holds NUL, which cannot be stored"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    return None


def _step(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{key[:100]!a}]"


def _kind(value: object) -> str:
    return type(value).__name__
