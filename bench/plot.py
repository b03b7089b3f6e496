"""The plot: a panel a work, a bar a system, drawn as SVG without any library.

The scale is logarithmic, since the figures lie up to three orders of magnitude apart; so each
bar carries its figure in words. The picture brings its own background, in a light and a dark
form chosen by the reader's preference: it is legible on whatever page it stands.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.report import rounded
from bench.results import Results
from bench.sides import PEERS, PRODUCT, SideKind
from bench.works import COMMON_WORKS, Unit, Work

WIDTH = 860
LEFT = 150
"""Where bars begin; names stand before it."""
RIGHT = 110
"""Room for the figures behind the longest bar."""
BAR = 16
GAP = 5
PANEL_HEAD = 34
MARGIN = 22
SHORTEST = 3.0

STYLE = """
  .card { fill: #ffffff; stroke: #d7dce2 } .title { fill: #17202a; font-weight: 600 }
  .name, .figure { fill: #3d4852 } .own { font-weight: 600; fill: #17202a }
  .grid { stroke: #e6e9ed } .scale { fill: #75808b; font-size: 10px }
  .peer { fill: #a9b4c0 } .product { fill: #2563c9 }
  text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  @media (prefers-color-scheme: dark) {
    .card { fill: #14181d; stroke: #333b44 } .name, .figure { fill: #c3cbd3 }
    .title, .own { fill: #eef1f4 } .grid { stroke: #262d35 } .scale { fill: #8a95a1 }
    .peer { fill: #5b6773 } .product { fill: #5b9bff }
  }
"""


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    value: float | None
    is_product: bool


def draw(results: Results) -> str:
    """The SVG document."""
    sides = [side for side in (PRODUCT, *PEERS) if side.name in results.rounds]
    works = [w for w in COMMON_WORKS if any(results.value(side.name, w) for side in sides)]
    body: list[str] = []
    top = float(MARGIN)
    for work in works:
        bars = [_bar(results, side, work) for side in sides]
        body.extend(_panel(work, bars, top))
        top += PANEL_HEAD + len(bars) * (BAR + GAP) + MARGIN
    return "\n".join(_document(body, top))


def _bar(results: Results, side: SideKind, work: Work) -> _Bar:
    value = results.value(side.name, work)
    return _Bar(side.title, value.middle if value else None, side is PRODUCT)


def _document(body: Sequence[str], height: float) -> Iterator[str]:
    label = "Time or throughput of each work on each system; the figures are in the tables."
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
    )
    yield f"<style>{STYLE}</style>"
    yield (
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>'
    )
    yield from body
    yield "</svg>\n"


def _panel(work: Work, bars: Sequence[_Bar], top: float) -> Iterator[str]:
    values = [bar.value for bar in bars if bar.value]
    low = 10 ** math.floor(math.log10(min(values)) - 0.3)
    high = max(values)
    better = "more is better" if work.unit is Unit.PER_SECOND else "less is better"
    name = work.title[0].upper() + work.title[1:]
    title = escape(f"{name}, {work.unit.value} (logarithmic, {better})")
    yield f'<text class="title" x="{MARGIN}" y="{top + 12:.1f}">{title}</text>'
    first = top + PANEL_HEAD
    yield from _scale(low, high, first, first + len(bars) * (BAR + GAP) - GAP)
    for number, bar in enumerate(bars):
        yield from _row(bar, low, high, first + number * (BAR + GAP))


def _scale(low: float, high: float, top: float, bottom: float) -> Iterator[str]:
    """A line for each power of ten."""
    power = low
    while power <= high:
        x = LEFT + _length(power, low, high)
        yield f'<line class="grid" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
        yield (
            f'<text class="scale" x="{x:.1f}" y="{top - 5:.1f}" text-anchor="middle" '
            f'style="font-size:10px">{rounded(power)}</text>'
        )
        power *= 10


def _row(bar: _Bar, low: float, high: float, top: float) -> Iterator[str]:
    baseline = top + BAR - 4
    own = " own" if bar.is_product else ""
    yield (
        f'<text class="name{own}" x="{LEFT - 10}" y="{baseline:.1f}" text-anchor="end">'
        f"{escape(bar.name)}</text>"
    )
    if bar.value is None:
        yield f'<text class="figure" x="{LEFT + 6}" y="{baseline:.1f}">-</text>'
        return
    length = max(_length(bar.value, low, high), SHORTEST)
    kind = "product" if bar.is_product else "peer"
    yield (
        f'<rect class="{kind}" x="{LEFT}" y="{top:.1f}" width="{length:.1f}" '
        f'height="{BAR}" rx="2"/>'
    )
    yield (
        f'<text class="figure{own}" x="{LEFT + length + 6:.1f}" y="{baseline:.1f}">'
        f"{rounded(bar.value)}</text>"
    )


def _length(value: float, low: float, high: float) -> float:
    room = WIDTH - LEFT - RIGHT
    return room * math.log10(value / low) / max(math.log10(high / low), 1e-9)
