"""A run as a tree of branches and tasks, drawn again after each change.

A branch's path says where it forked off (``main/split:resize``), so the tree needs nothing but
the task runs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from flow_manager.command.output import STATUS_STYLES, duration
from flow_manager.results import Run, TaskRunResult

SYMBOLS = {
    "running": "▸",
    "waiting": "…",
    "success": "✓",
    "failed": "✗",
    "cancelled": "∅",
}
PLAIN_SYMBOLS = {
    "running": ">",
    "waiting": "~",
    "success": "+",
    "failed": "x",
    "cancelled": "-",
}
MAX_TASKS = 200
"""Tasks that are drawn, the latest ones: a terminal shows no more at a time."""


def follow(runs: Iterable[Run], console: Console) -> Run:
    """Draw a run after each of its changes; the run as it was last.

    Where the output is no terminal, only the last state is printed.
    """
    last: Run | None = None
    with drawing(console) as show:
        for last in runs:
            show(last)
    assert last is not None
    return last


@contextmanager
def drawing(console: Console) -> Iterator[Callable[[Run], None]]:
    """A place where the latest state of a run stands."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            yield lambda run: live.update(draw(run, console), refresh=True)
        return

    def show(run: Run) -> None:
        if run.is_over:
            console.print(draw(run, console))

    yield show


def draw(run: Run, console: Console) -> RenderableType:
    """The run as it is."""
    symbols = SYMBOLS if (console.encoding or "").lower().startswith("utf") else PLAIN_SYMBOLS
    tree = Tree(_heading(run), guide_style="dim")
    branches: dict[str, Tree] = {}
    hidden = max(0, len(run.tasks) - MAX_TASKS)
    if hidden or run.tasks_truncated:
        tree.add(Text("... earlier or further tasks are not shown", style="dim"))
    for task in run.tasks[hidden:]:
        _branch(tree, branches, task.branch).add(_line(task, symbols))
    if run.error is None:
        return tree
    place = f" in {run.error.task}" if run.error.task else ""
    error = Text(f"{run.error.type}{place}: {run.error.message}", style="red")
    return Group(tree, error)


def _heading(run: Run) -> Text:
    text = Text(run.name or run.flow_id, style="bold")
    text.append(f"  {run.flow_run_id}  ", style="dim")
    text.append(run.status.value, style=STATUS_STYLES[run.status.value])
    if run.ending is not None:
        text.append(f", in its ending: will be {run.ending.status.value}", style="yellow")
    if run.outcome is not None:
        text.append(f", outcome {run.outcome.value}", style=STATUS_STYLES[run.outcome.value])
    if run.duration_ms is not None:
        text.append(f"  {duration(run.duration_ms)}", style="dim")
    if run.rerun_of is not None:
        text.append(f"  rerun of {run.rerun_of}", style="dim")
    return text


def _branch(tree: Tree, branches: dict[str, Tree], path: str) -> Tree:
    """The node of a branch. The main branch is the tree itself, others hang under their parent."""
    if "/" not in path:
        return tree
    if path not in branches:
        parent, _, own = path.rpartition("/")
        above = _branch(tree, branches, parent)
        branches[path] = above.add(Text(own, style="dim"))
    return branches[path]


def _line(task: TaskRunResult, symbols: dict[str, str]) -> Text:
    style = STATUS_STYLES[task.status.value]
    text = Text(f"{symbols[task.status.value]} ", style=style)
    text.append(task.name)
    if task.index is not None:
        text.append(f"[{task.index}]")
    if task.iteration > 1:
        text.append(f" (visit {task.iteration})", style="dim")
    if task.attempt > 1:
        text.append(f" (attempt {task.attempt})", style="dim")
    text.append(f"  {duration(task.duration_ms)}", style="dim")
    if task.error is not None:
        text.append(f"  {task.error.type}: {_first_line(task.error.message)}", style="red")
    elif task.reason:
        # Of what a rerun kept the old task run's id would only fill the line.
        reason = "kept" if task.reason.startswith("kept:") else task.reason
        text.append(f"  {reason}", style=style)
    return text


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]
