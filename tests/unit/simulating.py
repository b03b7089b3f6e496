"""Short ways to write definitions and to simulate them."""

from datetime import UTC, datetime
from typing import Any

from shared.findings import Findings
from shared.simulated_tasks import rehearse
from shared.simulation import Bounds, SimulatedRun, Start
from shared.stubs import read_scripts
from shared.validation import validate_definition

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def flow_of(
    tasks: dict[str, dict[str, Any]], *conditions: tuple[Any, ...], **fields: Any
) -> dict[str, Any]:
    """A definition: its tasks by name, and conditions as source, targets after a success and
    after a failure, and further fields."""
    return {
        "id": "test",
        "start_task": next(iter(tasks)),
        "tasks": [{"name": name, **given} for name, given in tasks.items()],
        "conditions": [
            {
                "source_task": source,
                "target_task_success": success,
                "target_task_failure": rest[0] if rest else "end",
                **(rest[1] if len(rest) > 1 else {}),
            }
            for source, success, *rest in conditions
        ],
        **fields,
    }


def simulated(
    definition: dict[str, Any],
    outcomes: dict[str, Any] | None = None,
    *,
    given: Any = None,
    signals: dict[str, Any] | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  # frozen
    timeout_seconds: float = 20,
) -> SimulatedRun:
    """What a definition comes to."""
    validated = validate_definition(definition)
    assert validated.flow is not None, validated.errors
    findings = Findings(20)
    scripts = read_scripts(outcomes or {}, validated.flow.tasks, "/outcomes", findings)
    assert not findings.errors, findings.errors
    start = Start(input=given, at=AT, signals=signals or {}, bounds=bounds)
    return rehearse(validated.flow, start, scripts, timeout_seconds=timeout_seconds)
