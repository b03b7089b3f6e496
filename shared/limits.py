"""Limits as a definition gives them: what counts together, and how much of it may go on.

A key is text with expressions. What it comes to says who is counted together: visits of all
flows that name the same key, or the runs of one flow. This module reads keys and turns their
values into text; who holds a place under a key stands in the database (``shared.store.ledger``).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson
from pydantic import JsonValue

from shared.definition import FlowDefinition, TaskDefinition
from shared.durations import Rate, parse_rate
from shared.errors import ExpressionError
from shared.expressions import Scope, Template, parse_template
from shared.expressions.budget import shape

MAX_SHOWN_KEY = 200
"""Characters of a key that are kept to be shown. Keys are compared by their hash, so longer ones
count as what they are."""

OnLimit: TypeAlias = Literal["wait", "refuse", "cancel_running"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one who asks for a place allows under its key."""

    concurrency: int | None = None
    """Places that may be in use, its own included."""
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class LimitKey:
    """What is counted together."""

    id: str
    """SHA-256 of the scope and the whole key, in hex."""
    shown: str
    """The key as it may be shown."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of a task."""

    template: Template
    bounds: Bounds

    @property
    def task_names(self) -> frozenset[str]:
        """The tasks whose results the key reads."""
        return self.template.task_names

    def key_in(self, scope: Scope) -> LimitKey:
        """The key of one visit.

        Raises:
            ExpressionError: it cannot be worked out, or is no plain value.
        """
        return _key("task", "", _rendered(self.template, scope, "limit.key"))


@dataclass(frozen=True, slots=True)
class RunLimit:
    """The place that a run needs before it may begin."""

    key: LimitKey
    bounds: Bounds
    on_limit: OnLimit


def read_limits(definition: FlowDefinition) -> Mapping[str, Limit]:
    """The limits of a definition that is known to be valid, by their tasks."""
    return {
        task.name: Limit(
            parse_template(key_of(task)),
            Bounds(
                task.limit.concurrency,
                None if task.limit.rate is None else parse_rate(task.limit.rate),
            ),
        )
        for task in definition.tasks
        if task.limit is not None
    }


def key_of(task: TaskDefinition) -> str:
    """The text of a limited task's key: its type where it gives none."""
    assert task.limit is not None
    if task.limit.key is not None:
        return task.limit.key
    # A type may be called anything: what looks like an expression in it is none.
    return task.task_type.replace("${", "$${")


def run_limit(definition: FlowDefinition, given: JsonValue) -> RunLimit | None:
    """What a run with this input needs to begin; None where its flow is not limited.

    Raises:
        ExpressionError: the key cannot be worked out from the input.
    """
    rule = definition.concurrency
    if rule is None:
        return None
    text = _rendered(parse_template(rule.key or ""), Scope(input=given), "concurrency.key")
    return RunLimit(_key("run", definition.id, text), Bounds(rule.limit), rule.on_limit)


def _rendered(template: Template, scope: Scope, field: str) -> str:
    try:
        value = template.render(scope)
    except ExpressionError as error:
        raise ExpressionError(f"{field}: {error.message}", error.offset) from None
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        raise ExpressionError(f"{field} must give a text or a number, and gives {shape(value)}")
    return orjson.dumps(value).decode()


def _key(kind: str, scope: str, text: str) -> LimitKey:
    whole = orjson.dumps([kind, scope]) + text.encode("utf-8", errors="backslashreplace")
    shown = text if len(text) <= MAX_SHOWN_KEY else text[: MAX_SHOWN_KEY - 1] + "…"
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return LimitKey(hashlib.sha256(whole).hexdigest(), shown)
