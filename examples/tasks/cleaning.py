"""Tasks of ``clean-up.json``. Nothing outside of the folder is ever removed."""

import time
from pathlib import Path
from typing import Any

from flow_manager import TaskContext, task


@task("find_old")
def find_old(folder: str, seconds: float) -> dict[str, Any]:
    """Lists the files that were last changed longer ago than that."""
    limit = time.time() - seconds
    files = [path for path in sorted(Path(folder).iterdir()) if path.is_file()]
    old = [str(path) for path in files if path.stat().st_mtime < limit]
    return {"success": True, "data": {"files": old}}


@task("remove")
def remove(context: TaskContext, folder: str, path: str, dry_run: bool) -> dict[str, Any]:
    """Removes a file of the folder; with `dry_run` it only says that it would."""
    file = Path(path).resolve()
    if not file.is_relative_to(Path(folder).resolve()):
        return {"success": False, "data": {"path": path, "problem": "is not in the folder"}}
    if dry_run:
        context.log.info("would remove %s", file)
    else:
        # An attempt before this one may have removed it and died.
        file.unlink(missing_ok=True)
    return {"success": True, "data": {"path": path, "removed": not dry_run}}
