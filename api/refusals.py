"""What is wrong with a request itself, before any of it reaches the domain."""

from collections.abc import Sequence

from shared.errors import Finding, InvalidDefinition, InvalidInput, LimitExceeded


class InvalidRequest(InvalidInput):
    """A parameter or header that cannot be used; :attr:`findings` names the places."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings[:3]))
        self.findings = tuple(findings)


class RefusedDefinition(InvalidDefinition):
    """A definition with errors, of which the first are listed."""

    def __init__(self, findings: Sequence[Finding], error_count: int) -> None:
        super().__init__(findings)
        self.error_count = error_count
        """How many there are in all."""


class UnsupportedBody(InvalidInput):
    """A body of a type or an encoding that is not read."""


class BodyTooSlow(InvalidInput):
    """The body did not come in time."""


class BodyTooLarge(LimitExceeded):
    """The body is longer than the limit."""


def invalid(place: str, name: str, message: str) -> InvalidRequest:
    """One thing wrong with the parameter or header ``name``."""
    return InvalidRequest([Finding(f"/{place}/{name}", f"invalid_{place}", message)])
