"""What tasks are said to come to in a simulation, read from JSON with every mistake located.

An outcome is ``true`` or ``false``; one of the words ``success``, ``failure``, ``error`` and
``timeout``; ``{"success": true, "data": {...}}`` as a task returns it; ``{"error": {"type":
..., "message": ...}}``; or a list of them for consecutive attempts, of which the last one
repeats. ``seconds`` says how long it takes. For a task that goes through a list each item has
the same outcomes, or its own: ``{"items": [...]}``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import orjson
from pydantic import JsonValue

from shared.documents import escape
from shared.durations import parse_duration
from shared.errors import InvalidDuration, TaskTimeout
from shared.findings import Findings, quoted
from shared.simulation import Answer, Attempt
from shared.status import Reason

_EMPTY = b"{}"
_FORM = (
    'an outcome is true, false, "success", "failure", "error", "timeout", '
    '{"success": ..., "data": ...}, {"error": ...}, {"items": [...]} or a list of them'
)
_FIELDS = ("success", "data", "error", "seconds", "items")

SUCCESS = Answer("success", _EMPTY)
FAILURE = Answer("failure", _EMPTY, reason=Reason.RETURNED_FAILURE)


@dataclass(frozen=True, slots=True)
class Script:
    """What the attempts at one task come to."""

    answers: tuple[Answer, ...] = ()
    """Of consecutive attempts; the last one repeats."""
    items: "tuple[Script, ...]" = ()
    """Of the items of a list, where each has its own; the last one repeats."""

    def of_item(self, index: int | None) -> "Script":
        """What holds for an item."""
        if index is None or not self.items:
            return self
        return self.items[min(index, len(self.items) - 1)]


class Scripts:
    """The scripts of one run, and how far each has come."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._told: Counter[tuple[str, int | None]] = Counter()

    def answer(self, attempt: Attempt) -> Answer | None:
        """What an attempt comes to; None where nothing is said of its task."""
        script = self._scripts.get(attempt.task)
        if script is None:
            return None
        answers = script.of_item(attempt.index).answers
        key = (attempt.task, attempt.index)
        self._told[key] += 1
        return answers[min(self._told[key], len(answers)) - 1]


def raised(kind: str, message: str, traceback: str | None = None) -> Answer:
    """An attempt that raises."""
    error = {"type": kind, "message": message, "traceback": traceback}
    is_timeout = kind == TaskTimeout.__name__
    return Answer("error", None, error, Reason.TIMED_OUT if is_timeout else Reason.RAISED)


def read_scripts(
    value: JsonValue, tasks: Iterable[str], pointer: str, findings: Findings
) -> dict[str, Script]:
    """The outcomes of a simulation by the names of tasks."""
    if not isinstance(value, dict):
        findings.error(pointer, "wrong_type", "the outcomes must be an object by names of tasks")
        return {}
    known = dict.fromkeys(tasks)
    scripts: dict[str, Script] = {}
    for name, outcome in value.items():
        place = f"{pointer}/{escape(name)}"
        if name not in known:
            findings.unknown(place, "unknown_task", "task", name, known)
            continue
        scripts[name] = _read_script(outcome, place, findings)
    return scripts


def read_signals(value: JsonValue, pointer: str, findings: Findings) -> dict[str, JsonValue]:
    """The signals of a simulation by their names."""
    if isinstance(value, dict):
        return value
    findings.error(pointer, "wrong_type", "the signals must be an object by their names")
    return {}


def _read_script(value: JsonValue, pointer: str, findings: Findings) -> Script:
    if isinstance(value, dict) and "items" in value:
        return _read_items(value, pointer, findings)
    outcomes = value if isinstance(value, list) else [value]
    if not outcomes:
        findings.error(pointer, "bad_outcome", "a list of outcomes has at least one")
    answers = []
    for index, outcome in enumerate(outcomes):
        place = f"{pointer}/{index}" if isinstance(value, list) else pointer
        answers.append(_read_answer(outcome, place, findings))
    return Script(tuple(answers) or (SUCCESS,))


def _read_items(value: dict[str, JsonValue], pointer: str, findings: Findings) -> Script:
    items = value["items"]
    if not isinstance(items, list) or not items or len(value) > 1:
        message = '"items" stands alone, and is a list of at least one outcome'
        findings.error(f"{pointer}/items", "bad_outcome", message)
        return Script((SUCCESS,))
    scripts = [
        _read_script(item, f"{pointer}/items/{index}", findings) for index, item in enumerate(items)
    ]
    return Script((SUCCESS,), tuple(scripts))


def _read_answer(value: JsonValue, pointer: str, findings: Findings) -> Answer:
    match value:
        case True | "success":
            return SUCCESS
        case False | "failure":
            return FAILURE
        case "error":
            return raised("Exception", "as the outcomes say")
        case "timeout":
            return raised(TaskTimeout.__name__, "as the outcomes say")
        case dict():
            return _read_object(value, pointer, findings)
        case _:
            findings.error(pointer, "bad_outcome", _FORM)
            return SUCCESS


def _read_object(value: dict[str, JsonValue], pointer: str, findings: Findings) -> Answer:
    for field in value:
        if field not in _FIELDS:
            place = f"{pointer}/{escape(field)}"
            message = f"there is no field {quoted(field)} here; what a task returns is its data"
            findings.error(place, "unknown_field", message, 'put it under "data"')
    answer = SUCCESS
    if "error" in value:
        if "success" in value or "data" in value:
            message = "an attempt that raises has neither success nor data"
            findings.error(f"{pointer}/error", "bad_outcome", message)
        answer = _read_error(value["error"], f"{pointer}/error", findings)
    else:
        success = value.get("success", True)
        if not isinstance(success, bool):
            findings.error(f"{pointer}/success", "wrong_type", '"success" must be true or false')
        answer = SUCCESS if success is True else FAILURE
        if "data" in value:
            answer = replace(answer, content=orjson.dumps(value["data"]))
    if "seconds" not in value:
        return answer
    try:
        return replace(answer, seconds=parse_duration(value["seconds"]))
    except InvalidDuration as error:
        findings.error(f"{pointer}/seconds", "wrong_value", f'"seconds" {error}')
        return answer


def _read_error(value: JsonValue, pointer: str, findings: Findings) -> Answer:
    match value:
        case str():
            return raised("Exception", value)
        case {"type": str(kind), **rest} if not rest.keys() - {"message"}:
            message = rest.get("message", "")
            if isinstance(message, str):
                return raised(kind, message)
    findings.error(
        pointer, "bad_outcome", 'an error is its message, or {"type": ..., "message": ...}'
    )
    return SUCCESS
