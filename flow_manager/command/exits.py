"""What the command's exit statuses mean. Scripts rely on them."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended."""

    SUCCESS = 0
    """It did what was asked; of a run: it completed with outcome success."""
    FAILED = 1
    """It could not; of a run: it failed, or completed with outcome failure."""
    INVALID = 2
    """What was given cannot be used: options, settings, a definition, an input."""
    CANCELLED = 3
    """The run was cancelled."""
    WAITED_TOO_LONG = 124
    """The run was not over within ``--timeout``; it goes on."""
    INTERRUPTED = 130
    """Ctrl-C; what was only waited for goes on."""
