"""Tasks of ``nightly-import.json``: plain functions, so each runs on a thread."""

import csv
from pathlib import Path
from typing import Any

from flow_manager import TaskContext, task


class FileStillGrows(Exception):
    """Somebody is writing the file; a moment later it is whole."""


@task("list_files")
def list_files(folder: str, pattern: str) -> dict[str, Any]:
    """Lists the files of a folder that fit a pattern. None is a failure."""
    files = sorted(str(path) for path in Path(folder).glob(pattern) if path.is_file())
    return {"success": bool(files), "data": {"files": files}}


@task("import_file")
def import_file(context: TaskContext, path: str) -> dict[str, Any]:
    """Adds up the amounts of a file.

    A file without a line end at its end is still being written: an error, tried again. A broken
    row is there tomorrow as well: a failure, which is not.
    """
    text = Path(path).read_text("utf-8")
    if not text.endswith("\n"):
        raise FileStillGrows(path)
    amounts = []
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        # A worker that is asked to stop, stops here.
        context.heartbeat()
        try:
            amounts.append(float(row["amount"]))
        except (KeyError, TypeError, ValueError):
            problem = f"line {number} has no amount"
            context.log.warning("%s: %s", path, problem)
            return {"success": False, "data": {"path": path, "problem": problem}}
    data = {"path": path, "rows": len(amounts), "total": round(sum(amounts), 2)}
    return {"success": True, "data": data}
