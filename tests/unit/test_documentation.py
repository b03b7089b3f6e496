"""What the documents point to is there, and what they show is well-formed."""

import re
from pathlib import Path

import orjson
import pytest

from shared.validation import validate_definition

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_JSON = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def _anchors(text: str) -> set[str]:
    """As the usual places that show Markdown make them of headings."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    broken = []
    for match in _LINK.finditer(_CODE.sub("", document.read_text())):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if target.startswith(("http://", "https://")):
            continue
        place = (document.parent / target).resolve() if target else document
        if not place.exists():
            broken.append(target)
        elif anchor and anchor not in _anchors(place.read_text()):
            broken.append(f"{target}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_whole_definition_of_a_document_is_good(document: Path) -> None:
    for text in _JSON.findall(document.read_text()):
        if "..." in text:
            continue
        # Some blocks show several values, or members without the object around them.
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            orjson.loads(f"[{text}]" if text.lstrip().startswith("{") else f"{{{text}}}")
            continue
        flow = value.get("flow", value) if isinstance(value, dict) else None
        if isinstance(flow, dict) and "tasks" in flow:
            assert validate_definition(flow).errors == (), text
