"""What somebody wants to see simulated, read from JSON: the service and the command read the same.

``{"flow": {...}, "input": ..., "outcomes": {...}, "signals": {...}}``, or a bare definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from shared.errors import Finding, InvalidDefinition
from shared.findings import MAX_FINDINGS, Findings
from shared.flow import Flow
from shared.input_schema import check_input
from shared.settings import Settings
from shared.simulated_tasks import rehearse
from shared.simulation import Bounds, SimulatedRun, Start
from shared.stubs import Script, read_scripts, read_signals
from shared.submissions import split_submission
from shared.validation import Limits, validate_definition

_OWN_FIELDS = ("outcomes", "signals")


@dataclass(frozen=True, slots=True)
class SimulationRequest:
    """A valid definition, and what its tasks come to."""

    flow: Flow
    input: JsonValue
    scripts: Mapping[str, Script]
    signals: Mapping[str, JsonValue]
    warnings: tuple[Finding, ...]

    def carry_out(self, settings: Settings, at: datetime) -> SimulatedRun:
        """Simulate the run, ``at`` being the time that its clock shows at first.

        Raises:
            LimitExceeded: it goes further, or takes longer, than the settings allow.
        """
        bounds = Bounds(
            settings.simulation_max_attempts, settings.max_items, settings.simulation_max_bytes
        )
        start = Start(input=self.input, at=at, signals=self.signals, bounds=bounds)
        seconds = settings.simulation_timeout_seconds
        return rehearse(
            self.flow,
            start,
            self.scripts,
            timeout_seconds=seconds,
            max_result_bytes=settings.max_result_bytes,
        )


def read_simulation(
    document: JsonValue, settings: Settings, params_schemas: Mapping[str, JsonValue]
) -> SimulationRequest:
    """Read a request.

    Task types need not be registered: a flow may be thought through before its tasks are
    written. ``params_schemas`` are those of the types that are known.

    Raises:
        InvalidDefinition: something in it cannot be used; every place is named.
    """
    extra: dict[str, JsonValue] = {}
    if isinstance(document, dict) and "flow" in document:
        extra = {name: document[name] for name in _OWN_FIELDS if name in document}
        document = {name: one for name, one in document.items() if name not in extra}
    submission = split_submission(document)
    validated = validate_definition(
        submission.definition,
        prefix=submission.prefix,
        limits=Limits(settings.max_tasks, settings.max_edges),
        params_schemas=params_schemas,
    )
    if validated.flow is None:
        raise InvalidDefinition(validated.errors)
    findings = Findings(MAX_FINDINGS)
    schema = validated.flow.definition.input_schema
    for wrong in check_input(schema, submission.input, MAX_FINDINGS):
        findings.error(wrong.pointer, wrong.code, wrong.message)
    outcomes = extra.get("outcomes", {})
    scripts = read_scripts(outcomes, validated.flow.tasks, "/outcomes", findings)
    signals = read_signals(extra.get("signals", {}), "/signals", findings)
    if findings.errors:
        raise InvalidDefinition(findings.errors)
    return SimulationRequest(validated.flow, submission.input, scripts, signals, validated.warnings)
