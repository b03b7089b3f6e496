"""Tasks of the media example: the long way (a class) and the short way (a function).

Run it with ``FLOW_TASK_MODULES=examples/media.py`` and ``examples/media.json``: `split` forks
into `resize`, `thumbnails`, `tag` and `scan`, which meet at `approve`. The picture is smaller
than what `resize` is asked for, so it says no; its branch goes by `shrink` to the same join.
`thumbnails` runs once for each width. The scanner is busy at the first attempt. `approve` waits
for a signal, and what comes with it decides whether `publish` runs.
"""

import asyncio
import zlib
from typing import Any

from pydantic import BaseModel, Field

from flow_manager import BaseTask, TaskContext, TaskResult, task

DEFAULT_PICTURE = {"name": "harbour.jpg", "width": 1_600, "height": 900}


def picture_of(context: TaskContext) -> dict[str, Any]:
    """The picture the run was started with."""
    given = context.input.get("picture") if isinstance(context.input, dict) else None
    return {**DEFAULT_PICTURE, **(given if isinstance(given, dict) else {})}


@task("split")
async def split(context: TaskContext) -> dict[str, Any]:
    """Looks the picture up and hands it to the branches."""
    picture = picture_of(context)
    context.log.info("splitting the work on %s", picture["name"])
    return {"success": True, "data": {"picture": picture}}


class ResizeParams(BaseModel):
    """What is wanted."""

    width: int = Field(gt=0, le=20_000)
    """In pixels."""


class Resize(BaseTask):
    """Resizes the picture to `width`. Says no where that would enlarge it."""

    name = "resize"
    Params = ResizeParams

    async def run(self, context: TaskContext) -> TaskResult:
        """Compute the new size; the work itself is only pretended."""
        picture, width = picture_of(context), context.params.width
        if width > picture["width"]:
            context.log.warning("%d is wider than the picture (%d)", width, picture["width"])
            return TaskResult(success=False, data={"widest": picture["width"]})
        await asyncio.sleep(0.05)
        height = round(picture["height"] * width / picture["width"])
        return TaskResult(success=True, data={"width": width, "height": height})


class Shrink(BaseTask):
    """The way out where `resize` said no: keeps the largest size there is."""

    name = "shrink"

    async def run(self, context: TaskContext) -> TaskResult:
        """Take what `resize` left as its data."""
        picture = picture_of(context)
        before = context.previous if isinstance(context.previous, dict) else {}
        width = before.get("widest", picture["width"])
        context.log.info("keeping a width of %d", width)
        return TaskResult(success=True, data={"width": width, "height": picture["height"]})


@task("tag")
async def tag(context: TaskContext, words: list[str] | None = None) -> dict[str, Any]:
    """Finds words for the picture."""
    await asyncio.sleep(0.03)
    found = words or picture_of(context)["name"].rsplit(".", 1)[0].split("-")
    return {"success": True, "data": {"tags": sorted(found)}}


@task("thumbnail")
async def thumbnail(context: TaskContext, width: int) -> dict[str, Any]:
    """Makes a small copy; one of the items of a list."""
    await asyncio.sleep(0.02)
    picture = picture_of(context)
    height = round(picture["height"] * width / picture["width"])
    return {"success": True, "data": {"width": width, "height": height}}


class ScannerIsBusy(Exception):
    """Nothing is wrong that a moment would not mend."""


@task("scan")
def scan(context: TaskContext) -> dict[str, Any]:
    """Scans the picture, at the second attempt. Not async, so it runs on a thread."""
    if context.attempt == 1:
        raise ScannerIsBusy("the scanner is busy")
    picture = picture_of(context)
    checksum = zlib.crc32(repr(sorted(picture.items())).encode())
    context.log.info("scanned %s", picture["name"])
    return {"success": True, "data": {"clean": True, "checksum": f"{checksum:08x}"}}


@task("publish")
async def publish(
    context: TaskContext, tags: list[str], sizes: int, approved_by: str
) -> dict[str, Any]:
    """Publishes the picture. The key makes it happen only once, however often it is tried."""
    context.log.info("publishing with the key %s", context.idempotency_key)
    published = {"picture": picture_of(context)["name"], "tags": tags, "sizes": sizes}
    return {"success": True, "data": {**published, "approved_by": approved_by}}
