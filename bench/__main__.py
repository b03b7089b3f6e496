"""``python -m bench``: measure, print the table, and with ``--write`` publish it."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.environments import PROJECT, open_workspace
from bench.plot import draw
from bench.processes import end_on_sigterm
from bench.report import markdown, plain
from bench.results import Results
from bench.sides import SIDES, SideKind, prepare, run_round
from bench.works import WORKS, Work

REPORT = PROJECT / "docs" / "benchmarks.md"
PLOT = REPORT.with_suffix(".svg")
ROUNDS = 3


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        type=lambda text: _names(text, list(SIDES)),
        default=list(SIDES),
        metavar="SIDE,...",
        help=f"whom to measure: {', '.join(SIDES)}",
    )
    parser.add_argument(
        "--works",
        type=lambda text: _names(text, list(WORKS)),
        default=list(WORKS),
        metavar="WORK,...",
        help="which rows of the table (default: all)",
    )
    parser.add_argument(
        "--repeat", type=int, default=ROUNDS, metavar="N", help=f"rounds (default: {ROUNDS})"
    )
    parser.add_argument("--quick", action="store_true", help="small works, to see that all runs")
    parser.add_argument(
        "--again", action="store_true", help="measure nothing: show the last run's samples"
    )
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md and its plot"
    )
    return parser.parse_args()


def _measure(
    sides: list[SideKind], works: set[str], rounds: int, *, is_quick: bool
) -> tuple[Results, bool]:
    """All rounds of all sides in turn, and whether every one of them was complete."""
    results, is_complete = Results(is_quick=is_quick), True
    interpreters = {side.name: prepare(side) for side in sides}
    for number in range(rounds):
        for side in sides:
            wanted: list[Work] = [work for work in side.works if work.name in works]
            if not wanted:
                continue
            print(f"round {number + 1} of {rounds}: {side.name}", file=sys.stderr, flush=True)
            found = run_round(side, interpreters[side.name], wanted, is_quick=is_quick)
            results.add(side.name, found.versions, found.measurements)
            is_complete = is_complete and found.is_complete
    return results, is_complete


def _publish(results: Results) -> None:
    REPORT.parent.mkdir(exist_ok=True)
    PLOT.write_text(draw(results), "utf-8")
    REPORT.write_text(markdown(results, PLOT.name), "utf-8")


def main() -> int:
    """Run the benchmark; the exit status."""
    arguments = _arguments()
    end_on_sigterm()
    samples: Path = open_workspace() / "samples.json"
    is_complete = True
    if arguments.again:
        results = Results.load(samples)
    else:
        sides = [SIDES[name] for name in arguments.only]
        try:
            results, is_complete = _measure(
                sides, set(arguments.works), arguments.repeat, is_quick=arguments.quick
            )
        except subprocess.CalledProcessError as error:
            print(f"an environment could not be made: {error}", file=sys.stderr)
            return 1
        results.save(samples)
    print(plain(results))
    if not is_complete:
        print("a side broke down: its figures are not for publishing", file=sys.stderr)
        return 1
    if arguments.write and results.is_quick:
        print("the figures of small works are not for publishing", file=sys.stderr)
        return 1
    if arguments.write:
        _publish(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
