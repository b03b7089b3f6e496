"""What a campaign found, as a page."""

import argparse
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a campaign on one database."""

    database: str
    counts: Counter[str]
    recoveries: list[float]
    """Seconds, sorted."""
    runs: Counter[str]
    """By status."""
    attempts: int
    lost: int
    """Attempts that a killed or paused worker lost."""
    violations: dict[int, list[str]]

    @property
    def sentence(self) -> str:
        """The result in one line."""
        found = f"BROKEN {self.violations}" if self.violations else "all six invariants hold"
        return (
            f"{sum(self.runs.values())} runs, {self.lost} attempts lost, recovery "
            f"p50 {self.percentile(50)} s, p95 {self.percentile(95)} s; {found}"
        )

    def percentile(self, percent: int) -> str:
        """A percentile of the recoveries."""
        if not self.recoveries:
            return "-"
        place = min(len(self.recoveries) * percent // 100, len(self.recoveries) - 1)
        return f"{self.recoveries[place]:.2f}"

    def rows(self) -> dict[str, str]:
        """What the page says of it."""
        counts = {name: str(self.counts[name]) for name in sorted(self.counts)}
        return {
            "runs accepted and ended": ", ".join(
                f"{count} {status}" for status, count in sorted(self.runs.items())
            ),
            "attempts at tasks": str(self.attempts),
            "attempts lost with their worker": str(self.lost),
            **counts,
            "recoveries measured": str(len(self.recoveries)),
            "recovery p50": f"{self.percentile(50)} s",
            "recovery p95": f"{self.percentile(95)} s",
            "recovery, longest": f"{self.percentile(100)} s",
            "invariants broken": str(self.violations or "none"),
        }


def write_report(arguments: argparse.Namespace, results: list[Result]) -> None:
    """Write the page that keeps command and seed beside what they came to."""
    command = (
        f"python -m tests.faults.campaign --seconds {arguments.seconds:g} "
        f"--seed {arguments.seed} --workers {arguments.workers} --lease {arguments.lease:g} "
        f"--database {arguments.database}"
    )
    tables = [result.rows() for result in results]
    names = list(dict.fromkeys(name for table in tables for name in table))
    lines = [
        "# Faults under load",
        "",
        "Real processes are killed, paused and cut off at random while runs are submitted through",
        "the API; whoever is killed is replaced. Afterwards the six invariants are asked of the",
        "database and of the tasks' own journal (`tests/faults/checks.py`). Recovery is the time",
        "from a kill -9 of a worker to the next attempt at each task that it ran. Written by",
        "`make chaos`:",
        "",
        f"    {command}",
        "",
        "| | " + " | ".join(result.database for result in results) + " |",
        "| --- |" + " --- |" * len(results),
        *(
            f"| {name} | " + " | ".join(table.get(name, "0") for table in tables) + " |"
            for name in names
        ),
        "",
    ]
    arguments.report.parent.mkdir(exist_ok=True)
    arguments.report.write_text("\n".join(lines), encoding="utf-8")
