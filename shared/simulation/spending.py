"""What a simulation has cost so far, held against its bounds."""

from shared.errors import LimitExceeded
from shared.simulation.values import Bounds


class Spending:
    """Counts the attempts and bytes of one run."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._attempts = 0
        self._bytes = 0

    def attempt(self) -> None:
        """Count an attempt.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._attempts += 1
        self.announce(0)

    def announce(self, attempts: int) -> None:
        """Refuse what cannot be done any more: so many attempts are about to come.

        Raises:
            LimitExceeded: they are too many.
        """
        most = self._bounds.max_attempts
        if self._attempts + attempts > most:
            raise LimitExceeded(f"the simulation has more than {most} attempts at tasks")

    def content(self, content: bytes | None) -> None:
        """Count params or data.

        Raises:
            LimitExceeded: they are too large together.
        """
        self._bytes += 0 if content is None else len(content)
        most = self._bounds.max_bytes
        if self._bytes > most:
            raise LimitExceeded(
                f"the params and data of the simulation have more than {most} bytes together"
            )
