"""The command ``flow-manager``.

Nothing is imported here but what parses the command line: each command imports what it uses,
so that ``--help`` and completion are quick. ``api`` and ``worker`` are started as processes and
never imported.
"""

import sys

from flow_manager.command.exits import ExitStatus
from shared.errors import FlowManagerError, InvalidInput


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    from flow_manager.command.application import application

    try:
        application(prog_name="flow-manager")
    except FlowManagerError as error:
        print(f"flow-manager: {error}", file=sys.stderr)
        sys.exit(ExitStatus.INVALID if isinstance(error, InvalidInput) else ExitStatus.FAILED)
