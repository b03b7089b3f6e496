"""The tables: for the terminal, and as ``docs/benchmarks.md``."""

from collections.abc import Iterator, Sequence

from bench.results import Results, Value
from bench.sides import LIMITS, PEERS, PRODUCT, SIDES, SideKind
from bench.works import COMMON_WORKS, LIMIT_WORKS, PRODUCT_WORKS, Unit, Work

ABSENT = "-"

HEAD = """\
# Benchmarks

What Flow Manager adds to the time of a task, measured on the running product, and the same
work on other systems in the same run on the same machine. Written by `make bench
ARGS=--write`; do not edit it.

![The works of the first table, each with one bar a system]({plot})

*{machine}*

Times are from the submit until the submitter knows the result, for tasks that do nothing.
The multiplier behind a figure says how many times Flow Manager is better at that work; below
1 the other one is. "-" was not done, the notes say why.
"""

METHOD = """\
## How it is measured

* Everything ran in one go: {rounds}, in which the systems take turns. A figure is
  the median over the rounds; within a round it is the median of the samples, for p99 their
  99th percentile, with the first runs left out as a warm-up.
* Two worker processes everywhere, or what comes nearest: Celery has two prefork processes,
  DBOS runs workflows in the process that starts them and in two processes for the throughput.
* A parallel work is a task that forks into so many branches, and a task that joins them. Flow
  Manager's definition names each branch as a task of its own.
* What a system records, and where, is its own affair and stands under its name. SAQ and Celery
  keep everything in Redis, which writes no file here: they are faster than anything durable
  needs to be, and lose their runs with Redis.
* Each peer is set up as its documentation says is fast; what was tried stands in the head of
  its script in `bench/peers/`, its packages in `bench/peers/requirements/`.

Run it with `make bench`; `make bench ARGS="--only flow-manager,saq --works parallel-100"`
measures a part of it, `--quick` finds out in a few minutes whether all of it runs.
"""


def plain(results: Results) -> str:
    """All that was measured, for the terminal."""
    return "\n".join(_sections(results))


def markdown(results: Results, plot: str) -> str:
    """The document."""
    rounds = max((len(r) for works in results.rounds.values() for r in works.values()), default=0)
    counted = "one round" if rounds == 1 else f"{rounds} rounds"
    head = HEAD.format(plot=plot, machine=", ".join(results.machine))
    return "\n".join([head, *_sections(results), METHOD.format(rounds=counted)])


def _sections(results: Results) -> Iterator[str]:
    sides = [side for side in (PRODUCT, *PEERS) if side.name in results.rounds]
    if sides:
        yield "## The same work on each system\n"
        yield from _common_table(results, sides)
        yield from _remarks(results, sides)
    if any(results.value(PRODUCT.name, work) for work in PRODUCT.works):
        yield "## Flow Manager's own figures\n"
        yield from _own_table(results)
    if LIMITS.name in results.rounds:
        yield "## The limits of the machine\n"
        yield from _limit_table(results)
    yield from _notes(results)
    yield from _versions(results)


def _common_table(results: Results, sides: Sequence[SideKind]) -> Iterator[str]:
    rows = [
        [work.title, *(_cell(results, side, work) for side in sides)]
        for work in COMMON_WORKS
        if _is_measured(results, work)
    ]
    yield from _table(["work", *(_title(results, side) for side in sides)], rows)


def _own_table(results: Results) -> Iterator[str]:
    rows = [
        [
            work.title,
            _figure(value, work.unit),
            _span(value, work.unit),
            _goal(work),
            _of_goal(value, work),
        ]
        for work in (*COMMON_WORKS, *PRODUCT_WORKS)
        if (value := results.value(PRODUCT.name, work))
    ]
    yield from _table(["work", "median", "least to greatest round", "goal", "better by"], rows)


def _limit_table(results: Results) -> Iterator[str]:
    rows = [
        [work.title, _figure(value, work.unit)]
        for work in LIMIT_WORKS
        if (value := results.value(LIMITS.name, work))
    ]
    yield from _table(["operation", "p50"], rows)


def _remarks(results: Results, sides: Sequence[SideKind]) -> Iterator[str]:
    for side in sides:
        yield f"* {_title(results, side)}: {side.remark}."
    yield ""


def _notes(results: Results) -> Iterator[str]:
    notes = [
        f"* {side.title}, {work.title}: {reason}."
        for side in SIDES.values()
        for work in side.works
        if (reason := results.reason(side.name, work))
    ]
    if notes:
        yield "Not measured:\n"
        yield from notes
        yield ""


def _versions(results: Results) -> Iterator[str]:
    if not any(results.versions.values()):
        return
    yield "Versions:\n"
    for name, side in SIDES.items():
        if packages := results.versions.get(name):
            named = ", ".join(f"{package} {version}" for package, version in packages.items())
            yield f"* {side.title}: {named}"
    yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (header, rule, *rows):
        first, *others = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "| " + " | ".join((first, *others)) + " |"
    yield ""


def _is_measured(results: Results, work: Work) -> bool:
    return any(work.name in works for works in results.rounds.values())


def _title(results: Results, side: SideKind) -> str:
    version = results.versions.get(side.name, {}).get(side.version_of, "")
    return f"{side.title} {version}".strip()


def _cell(results: Results, side: SideKind, work: Work) -> str:
    value = results.value(side.name, work)
    if value is None:
        return ABSENT
    figure = _figure(value, work.unit)
    if side is PRODUCT:
        return f"**{figure}**"
    ratio = results.ratio(side.name, PRODUCT.name, work)
    return figure if ratio is None else f"{figure} ({rounded(ratio)}x)"


def _figure(value: Value, unit: Unit) -> str:
    return f"{rounded(value.middle)} {unit.value}"


def _span(value: Value, unit: Unit) -> str:
    return f"{rounded(value.least)} to {rounded(value.greatest)} {unit.value}"


def _goal(work: Work) -> str:
    if work.goal is None:
        return ""
    sign = "≥" if work.unit is Unit.PER_SECOND else "≤"
    return f"{sign} {work.goal:,.0f} {work.unit.value}"


def _of_goal(value: Value, work: Work) -> str:
    """How many times better than its goal a figure is; below 1 the goal is missed."""
    if work.goal is None or not value.middle:
        return ""
    if value.middle < 0:
        return "reached"
    is_rate = work.unit is Unit.PER_SECOND
    ratio = value.middle / work.goal if is_rate else work.goal / value.middle
    return f"{rounded(ratio)}x"


def rounded(number: float) -> str:
    """The number with as many digits as it deserves: two or three that count."""
    if number >= 100:
        return f"{number:,.0f}"
    if number >= 10:
        return f"{number:.0f}" if number == int(number) else f"{number:.1f}"
    return f"{number:.2g}" if number < 0.1 else f"{number:.2f}".rstrip("0").rstrip(".")
