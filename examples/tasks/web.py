"""The task of ``scraping.json`` that is no request: it reads what came."""

from html.parser import HTMLParser
from typing import Any

from flow_manager import task


class _Title(HTMLParser):
    """Keeps the text of the first ``<title>``."""

    def __init__(self) -> None:
        super().__init__()
        self.title: str | None = None
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_inside = tag == "title" and self.title is None

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.title = data.strip()
            self._is_inside = False


@task("read_title")
async def read_title(page: str, html: str) -> dict[str, Any]:
    """Finds the title of a page; null where it has none."""
    reader = _Title()
    reader.feed(html)
    return {"success": True, "data": {"page": page, "title": reader.title}}
