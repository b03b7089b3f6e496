"""The works that everyone does: what is measured, written down once, as data.

The same list drives the product and every peer, so that a row of the table always means the
same work. Only the standard library is imported: the peers' interpreters read this file, too.

What makes a comparison fair:

* A *step* is a task that does nothing and returns ``{"success": true, "data": {}}``. What is
  measured is what a system adds to the user's code.
* A *sequential* work is a run of so many steps one after another, from the submit until the
  submitter knows the result, one run at a time.
* A *parallel* work is a run that forks into so many steps and joins in one more, measured the
  same way.
* A *throughput* work is so many runs of three steps submitted as fast as the system takes
  them, from the first submit until the last result, with **two** worker processes, or what
  comes nearest to that in the peer. It is told in runs a second.
* Whoever needs a Redis gets one of its own, of the same build, on the loopback interface, and
  every file that is written lies in one file system.
* Every peer runs as its own documentation recommends for speed, with the durability it ships
  with; each ``*_side.py`` says how and what else was tried.
* Each work has a budget of time. What does not fit in it is "-" in the table, with the reason.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Unit(StrEnum):
    """What the samples of a work count. The value is what the table prints."""

    SECONDS = "ms"
    """Samples are seconds and shown as milliseconds; less is better."""
    MICROSECONDS = "µs"
    """Samples are seconds, too, but so short that they are shown as microseconds."""
    PER_SECOND = "/s"
    """Samples are runs (or requests) a second; more is better."""
    OVERHEAD = "%"
    """Samples are percent that one thing takes more than another; less is better."""
    PERCENT = "% of a core"
    """Samples are percent of one core's time; less is better."""
    BYTES = "MB"
    """Samples are bytes of resident memory; less is better."""

    @property
    def factor(self) -> float:
        """By what a sample is multiplied to be shown."""
        match self:
            case Unit.SECONDS:
                return 1e3
            case Unit.MICROSECONDS:
                return 1e6
            case Unit.BYTES:
                return 1e-6
            case Unit.PER_SECOND | Unit.PERCENT | Unit.OVERHEAD:
                return 1.0


class Shape(StrEnum):
    """What a work does; each side knows how it does each shape."""

    SEQUENTIAL = "sequential"
    """``size`` steps one after another."""
    PARALLEL = "parallel"
    """``size`` steps at the same time, and a join."""
    THROUGHPUT = "throughput"
    """``flows`` runs of ``size`` steps in flight at the same time."""
    HTTP_SEQUENTIAL = "http-sequential"
    """The same as SEQUENTIAL through ``POST /run-flow?wait=``."""
    HTTP_THROUGHPUT = "http-throughput"
    """The same as THROUGHPUT through ``POST /run-flow`` on 64 connections."""
    HTTP_POST = "http-post"
    """One ``POST /run-flow`` at a time until its 202."""
    HTTP_GET = "http-get"
    """``GET /flows/{id}`` with ``size`` finished runs stored."""
    LANGUAGE = "language"
    """What a part of the flow language costs."""
    IDLE = "idle"
    """Processor time of processes that have nothing to do."""
    MEMORY = "memory"
    """Resident memory after the other works."""
    LIMIT = "limit"
    """One primitive operation of the machine, of a database or of Redis."""


PEER_SHAPES = frozenset({Shape.SEQUENTIAL, Shape.PARALLEL, Shape.THROUGHPUT})
"""What a peer can do as well; the other shapes are the product's and the machine's."""


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table."""

    name: str
    """Its key, in the samples and on the command line."""
    title: str
    """What the table calls it."""
    shape: Shape
    unit: Unit = Unit.SECONDS
    size: int = 0
    """Steps, width or stored runs, as the shape says."""
    flows: int = 1
    """How many runs one sample consists of."""
    repetitions: int = 1
    """How many samples one round takes, as far as the budget allows."""
    budget_seconds: float = 60
    quantile: float = 0.5
    """Which one of a round's ordered samples stands for the round."""
    goal: float | None = None
    """What the product aims at on two cores, as it is shown."""


def _sequential(steps: int, repetitions: int, goal: float | None = None) -> Work:
    return Work(
        f"sequential-{steps}",
        f"{steps} sequential steps",
        Shape.SEQUENTIAL,
        size=steps,
        repetitions=repetitions,
        goal=goal,
    )


def _parallel(width: int, repetitions: int, goal: float) -> Work:
    return Work(
        f"parallel-{width}",
        f"{width:,} parallel steps and a join",
        Shape.PARALLEL,
        size=width,
        repetitions=repetitions,
        goal=goal,
    )


def _limit(name: str, title: str, repetitions: int = 1_000) -> Work:
    return Work(
        name, title, Shape.LIMIT, Unit.MICROSECONDS, repetitions=repetitions, budget_seconds=10
    )


COMMON_WORKS = (
    _sequential(10, 50, goal=9),
    _sequential(40, 25),
    _parallel(100, 20, goal=25),
    Work(
        "throughput-3",
        "runs of 3 steps, many at a time",
        Shape.THROUGHPUT,
        Unit.PER_SECOND,
        size=3,
        flows=2_000,
        repetitions=3,
        goal=900,
    ),
    _parallel(1_000, 5, goal=90),
    _parallel(10_000, 2, goal=800),
)
"""What the product and the peers do. A shape's larger works come after its smaller ones: what
the smaller one took tells whether the larger can fit in its budget."""

LANGUAGE_WORKS = (
    Work(
        "expression",
        "one expression, such as `previous.score >= 80 and input.kind == 'loan'`",
        Shape.LANGUAGE,
        Unit.MICROSECONDS,
        repetitions=20,
        budget_seconds=10,
        goal=2,
    ),
    Work(
        "params",
        "what a step with an expression in its params takes more than one without",
        Shape.LANGUAGE,
        Unit.OVERHEAD,
        repetitions=40,
        goal=20,
    ),
    Work(
        "list-10000",
        "a list (`for_each`) of 10,000 items",
        Shape.LANGUAGE,
        size=10_000,
        repetitions=4,
        goal=1_000,
    ),
    Work(
        "sleeping-10000",
        "10,000 sleeping runs, which hold no slot: the latest wake-up after its time",
        Shape.LANGUAGE,
        size=10_000,
        quantile=1.0,
        goal=1_000,
    ),
)
"""What parts of the flow language cost."""

PRODUCT_WORKS = (
    *LANGUAGE_WORKS,
    Work(
        "http-sequential-10",
        "10 sequential steps through `POST /run-flow?wait=`",
        Shape.HTTP_SEQUENTIAL,
        size=10,
        repetitions=50,
    ),
    Work(
        "http-throughput-3",
        "runs of 3 steps through `POST /run-flow`, 64 connections, until all are finished",
        Shape.HTTP_THROUGHPUT,
        Unit.PER_SECOND,
        size=3,
        flows=2_000,
        repetitions=3,
        goal=600,
    ),
    Work(
        "http-post-p50", "`POST /run-flow`, p50", Shape.HTTP_POST, size=3, repetitions=300, goal=4
    ),
    Work(
        "http-post-p99",
        "`POST /run-flow`, p99",
        Shape.HTTP_POST,
        size=3,
        repetitions=300,
        quantile=0.99,
    ),
    Work(
        "http-get-p50",
        "`GET /flows/{id}` with a million stored runs, p50",
        Shape.HTTP_GET,
        size=1_000_000,
        repetitions=500,
        budget_seconds=300,
        goal=3,
    ),
    Work("idle-worker", "idle worker process", Shape.IDLE, Unit.PERCENT, goal=1),
    Work("idle-dev", "idle `flow-manager dev`, all its processes", Shape.IDLE, Unit.PERCENT),
    Work("memory-api", "memory of the API process", Shape.MEMORY, Unit.BYTES, goal=100),
    Work("memory-worker", "memory of a worker process", Shape.MEMORY, Unit.BYTES, goal=100),
)
"""What only the product does: HTTP, and what it costs to have it."""

LIMIT_WORKS = (
    _limit("fdatasync", "fdatasync of 4 KB appended"),
    _limit("sqlite-commit", "SQLite, one row committed (WAL, `synchronous=FULL`)"),
    _limit("sqlite-commit-no-fsync", "SQLite, the same without fsync (`synchronous=OFF`)"),
    _limit("postgresql-commit", "PostgreSQL, one row committed (psycopg)"),
    _limit("redis-round-trip", "Redis, one round trip (hiredis)"),
    _limit("redis-wake-up", "Redis, wake-up of another process by a blocking pop"),
)
"""What nobody can be faster than on this machine."""

ALL_WORKS = COMMON_WORKS + PRODUCT_WORKS + LIMIT_WORKS
WORKS = {work.name: work for work in ALL_WORKS}


def quick(work: Work) -> Work:
    """The same work, small enough to find out whether it runs at all."""
    small_flows = work.flows if work.flows == 1 else 100
    most = {Shape.HTTP_GET: 5_000, Shape.LANGUAGE: 1_000}.get(work.shape, work.size)
    small_size = min(work.size, most)
    return replace(
        work,
        size=small_size,
        flows=small_flows,
        repetitions=min(work.repetitions, 3),
        budget_seconds=min(work.budget_seconds, 15),
    )
