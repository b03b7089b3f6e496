"""``python -P -m worker.lost PID``: declare a worker of this host lost, now.

For a supervisor that saw its child die: recovery then takes milliseconds instead of a lease.
"""

import socket
import sys

from shared.database import create_database
from shared.settings import load_settings
from shared.store import workers
from shared.store.freeing import rescue_branches


def main() -> int:
    """Free what the workers of a process held; print how many branches that were."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: python -m worker.lost PID", file=sys.stderr)  # noqa: T201  # a command
        return 2
    database = create_database(load_settings())
    with database.write() as connection:
        found = workers.live_process(connection, socket.gethostname(), int(sys.argv[1]))
        lost = workers.mark_lost(connection, found)
        freed = rescue_branches(connection, lost, database.lease_clock(connection)) if lost else []
    print(f"{len(freed)} branches freed")  # noqa: T201  # a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
