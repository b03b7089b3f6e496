"""How results are printed: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import orjson
from pydantic import JsonValue

if TYPE_CHECKING:
    from rich.table import Table

STATUS_STYLES = {
    "running": "cyan",
    "waiting": "yellow",
    "completed": "green",
    "success": "green",
    "failed": "red",
    "failure": "red",
    "cancelled": "magenta",
    "fine": "green",
    "doubtful": "yellow",
    "wrong": "red",
    "live": "green",
    "stopping": "yellow",
    "lost": "red",
}

TEXT_COLUMNS = frozenset({"description", "source", "what was found", "value"})
"""They may take several lines; others are cut where a terminal is narrow."""
LEAST_WIDTHS = {"run": 36, "worker": 36, "status": 9, "outcome": 7, "took": 6}
"""Of what is never cut: ids, because they are copied, and what a run came to."""
PIPE_WIDTH = 1_000


def print_json(value: object) -> None:
    """Print a value as JSON, indented, in UTF-8 whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns, or the sentence ``empty`` where there are none."""
    from rich.console import Console

    lines = list(rows)
    if lines:
        # Who pipes a table wants a row a line, whatever its length.
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        Console(highlight=False, width=width).print(_table(columns, lines))
    else:
        print(empty)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            no_wrap=column not in TEXT_COLUMNS,
            overflow="fold" if column in TEXT_COLUMNS else "ellipsis",
            min_width=LEAST_WIDTHS.get(column),
        )
    for row in rows:
        # Text, not markup: names come from definitions.
        table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in row))
    return table


def rows_in(document: JsonValue) -> list[dict[str, JsonValue]]:
    """The list in an answer, wherever it stands."""
    found: JsonValue = document
    if isinstance(document, dict):
        found = next((value for value in document.values() if isinstance(value, list)), [])
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def cell(value: JsonValue) -> str:
    """A value as it stands in a table."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(cell(each) for each in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def duration(milliseconds: float | None) -> str:
    """A duration, short."""
    if milliseconds is None:
        return ""
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def local_time(time: datetime | None) -> str:
    """A time in the time zone of who reads it, without its year."""
    return "" if time is None else time.astimezone().strftime("%m-%d %H:%M:%S")
