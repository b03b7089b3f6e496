"""The one way out of this process.

A task is made without arguments, anew for each attempt, and its context knows nothing of
settings. So the worker installs the way out once, before it runs anything. Where nobody did,
the strictest rules hold: public addresses only.
"""

from worker.outbound.client import Outbound
from worker.outbound.policy import OutboundPolicy

_installed: Outbound | None = None


def install(outbound: Outbound | None) -> None:
    """Let tasks call through ``outbound`` from now on; None is the strictest rules again."""
    global _installed
    _installed = outbound


def installed() -> Outbound:
    """What tasks call through."""
    global _installed
    if _installed is None:
        _installed = Outbound(OutboundPolicy())
    return _installed
