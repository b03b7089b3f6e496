"""Runs a definition in memory: what would happen, without a database, a queue or a task.

Pure. ``run`` holds the rules of the engine in virtual time, ``branches`` the books of the joins
by the workers' own decider, ``recall`` what expressions see. What tasks come to is asked of the
caller (``shared.stubs``, ``flow_manager.testing``).
"""

from shared.simulation.run import RUN_ID, Steps, simulate_run
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
