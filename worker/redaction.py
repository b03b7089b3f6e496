"""Takes the secrets that a task was given out of what it leaves behind.

A task may return, log or raise whatever it likes, also what it was told in confidence. So what
is about to be stored of it is searched for the secrets in its params. What a task encodes or
takes apart first is not found: this guards against accidents, not against the task's author.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from worker.execution import AttemptResult

MASK = "***"
_SHORTEST = 4
"""A shorter secret would be found everywhere, and what is left would tell it."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """The secrets of one attempt."""

    secrets: tuple[str, ...]

    @classmethod
    def of(cls, secrets: Iterable[str]) -> "Redaction":
        """For these secrets, the longest first: one may hold another."""
        long_enough = {secret for secret in secrets if len(secret) >= _SHORTEST}
        return cls(tuple(sorted(long_enough, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """``text`` without them."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def json(self, content: bytes | None) -> bytes | None:
        """JSON without them, in any of its strings and keys."""
        if content is None:
            return None
        for secret in self.secrets:
            content = content.replace(orjson.dumps(secret)[1:-1], MASK.encode())
        return content

    def result(self, result: AttemptResult) -> AttemptResult:
        """An attempt's result without them; its lines were redacted when they were logged."""
        if not self.secrets:
            return result
        starts = result.starts
        if starts is not None:
            starts = replace(starts, input=self.json(starts.input) or b"null")
        return replace(
            result, data=self.json(result.data), error=self.json(result.error), starts=starts
        )
