"""Readable names of branches, such as ``main/split:resize``."""

from collections.abc import Sequence

MAX_PATH_LENGTH = 500
"""A loop that forks in every round would otherwise name its branches without end."""


def head_path(parent: str, task: str, head: str) -> str:
    """The path of the branch that starts at ``head`` when ``task`` forks in ``parent``."""
    path = f"{parent}/{task}:{head}"
    return path if len(path) <= MAX_PATH_LENGTH else parent


def merged_path(paths: Sequence[str]) -> str:
    """The path of the branch that a join makes of others: what all of them share."""
    if len(paths) == 1:
        return paths[0]
    segments = [path.split("/") for path in (min(paths), max(paths))]
    shared = []
    for first, last in zip(*segments, strict=False):
        if first != last:
            break
        shared.append(first)
    return "/".join(shared) or "main"


def item_path(path: str, task: str, index: int) -> str:
    """The path of the branch that runs one item of a list."""
    return f"{path}/{task}[{index}]"


ENDING = "ending"
"""Begins the path of the branch of a run's ending: all others begin with ``main``."""
FINALLY_PATH = f"{ENDING}/finally"


def undoing_path(task: str, iteration: int, index: int | None) -> str:
    """The path of the ending branch while it undoes a visit, or one item, of ``task``."""
    visit = f"#{iteration}" if iteration > 1 else ""
    item = "" if index is None else f"[{index}]"
    return f"{ENDING}/undo:{task}{visit}{item}"


def is_ending(path: str) -> bool:
    """Whether a branch belongs to its run's ending."""
    return path.startswith(ENDING)
