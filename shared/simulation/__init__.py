"""Runs a definition in memory: what would happen, without a database, a queue or a task.

Pure. ``run`` holds the rules of the engine in virtual time (``agenda``), ``branches`` the books
of the joins by the workers' own decider, ``recall`` what later tasks see, ``ending`` what is
undone. What tasks come to is asked of the
caller (``shared.stubs``, ``flow_manager.testing``).
"""

from shared.simulation.questions import RUN_ID
from shared.simulation.run import Steps, simulate_run
from shared.simulation.values import (
    Answer,
    Attempt,
    Bounds,
    Result,
    SentSignal,
    SimulatedRun,
    SimulatedTaskRun,
    Start,
)

__all__ = [
    "RUN_ID",
    "Answer",
    "Attempt",
    "Bounds",
    "Result",
    "SentSignal",
    "SimulatedRun",
    "SimulatedTaskRun",
    "Start",
    "Steps",
    "simulate_run",
]
