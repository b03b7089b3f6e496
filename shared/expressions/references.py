"""What an expression may name, and which of it an expression does name.

Names are resolved when the expression is read: which task, which root, which variable of a
comprehension. So validation sees every reference there is, and none can be made up from data
while a run goes on: ``tasks``, ``run`` and ``secrets`` are no values that could be passed on.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

from shared.errors import InvalidExpression
from shared.expressions.budget import Json


class EarlierResult(Protocol):
    """What a finished task left behind, as expressions see it."""

    @property
    def success(self) -> bool | None:
        """None where it raised."""

    @property
    def data(self) -> Json:
        """The JSON that it returned."""

    @property
    def error(self) -> Json:
        """Type and message where it raised."""

    @property
    def iteration(self) -> int:
        """Which visit it was."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The values behind the names, for one evaluation. Nothing in it is ever changed."""

    input: Json = None
    tasks: Mapping[str, EarlierResult] = field(default_factory=dict)
    """The last finished visit of each task that ran before, by name."""
    iteration: int = 1
    previous: Json = None
    item: Json = None
    index: int | None = None
    run: Mapping[str, Json] = field(default_factory=dict)
    """``id``, ``flow_id`` and ``started_at``; when a run ends also how it will have ended."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    now: datetime | None = None
    """The time that ``now()`` tells; without it, ``now()`` is an error."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a name, and where."""

    task: str | None
    """The task's name, for what begins with ``tasks``."""
    kind: str
    """For a task ``data``, ``success``, ``error``, ``iteration``, or ``finished`` for
    ``"name" in tasks``, which may be asked before the task ran. Else the root itself."""
    offset: int
    """Where the reference begins, in characters from the start of the text."""
    key: str | None = None
    """For ``secrets`` and ``run`` what of them; None for everything else."""


VALUES = ("input", "iteration", "previous", "item", "index")
"""Roots that are values."""

CONTAINERS = ("tasks", "run", "secrets")
"""Roots that only something can be read of."""

ROOTS = (*VALUES, *CONTAINERS)
TASK_KINDS = ("data", "success", "error", "iteration")
ENDING_RUN_KEYS = ("status", "outcome", "error")
"""What only the tasks that run when a run ends can read of it."""
RUN_KEYS = ("id", "flow_id", "started_at", *ENDING_RUN_KEYS)
CONSTANTS: dict[str, Json] = {"true": True, "false": False, "null": None}


_GUESSED_LENGTH = 40
_GUESSED_AMONG = 60
"""Comparing takes time with the square of the length: names are guessed while it is short."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What was probably meant by a word that is not known."""
    if len(word) > _GUESSED_LENGTH:
        return None
    likely = islice((each for each in known if len(each) <= _GUESSED_LENGTH), _GUESSED_AMONG)
    close = difflib.get_close_matches(word, list(likely), n=1)
    return close[0] if close else None


def step(node: ast.expr) -> tuple[ast.expr, str] | None:
    """What a node reads from and under which key, where the key is written out."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ):
        return node.value, node.slice.value
    return None


def is_root(node: ast.expr, root: str) -> bool:
    """Whether a node is that root's name. Variables cannot hide a root."""
    return isinstance(node, ast.Name) and node.id == root


def task_reference(node: ast.expr) -> Reference | None:
    """The task result that a node reads, or None where it is about something else.

    Raises:
        InvalidExpression: it begins like one and goes on wrongly.
    """
    outer = step(node)
    if outer is None:
        return None
    inner = step(outer[0])
    if inner is None or not is_root(inner[0], "tasks"):
        return None
    task, kind = inner[1], outer[1]
    if kind not in TASK_KINDS:
        message = f"a task has {', '.join(TASK_KINDS)}; {kind[:40]!r} is probably in its data"
        meant = nearest(kind, TASK_KINDS) or f"data.{kind}"[:60]
        raise InvalidExpression(node.col_offset, message, meant)
    return Reference(task, kind, node.col_offset)


def key_reference(node: ast.expr) -> Reference | None:
    """The secret, or the fact about the run, that a node reads, or None.

    Raises:
        InvalidExpression: the run has no such fact.
    """
    read = step(node)
    if read is None:
        return None
    if is_root(read[0], "secrets"):
        return Reference(None, "secrets", node.col_offset, read[1])
    if not is_root(read[0], "run"):
        return None
    if read[1] not in RUN_KEYS:
        message = f"run has {', '.join(RUN_KEYS)}"
        raise InvalidExpression(node.col_offset, message, nearest(read[1], RUN_KEYS))
    return Reference(None, "run", node.col_offset, read[1])


def finished_reference(node: ast.Compare) -> Reference | None:
    """The task that ``"name" in tasks`` asks for, or None for another comparison."""
    if len(node.ops) != 1 or not isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return None
    if not is_root(node.comparators[0], "tasks"):
        return None
    if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
        return Reference(node.left.value, "finished", node.left.col_offset)
    message = "only a name in quotes can be looked for in tasks"
    raise InvalidExpression(node.left.col_offset, message)


def refuse_bare(name: str, offset: int) -> InvalidExpression:
    """The error for a root that is no value."""
    if name == "tasks":
        message = "tasks is read with a task's name that is written out: tasks.NAME.data"
    elif name == "run":
        message = f"run is read with a key that is written out: {', '.join(RUN_KEYS)}"
    else:
        message = "secrets is read with a name that is written out: secrets.NAME"
    return InvalidExpression(offset, message)
