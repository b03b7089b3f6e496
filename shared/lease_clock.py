"""The clock that leases are measured with, readable without asking the database each time.

On SQLite it is the host's monotonic clock. On PostgreSQL it is the database's: every
heartbeat measures how far it is from ours, and in between we count on from there, so that no
process's wall clock matters.
"""

import time

from sqlalchemy import Connection

from shared.database import Database


class LeaseClock:
    """Reads the lease clock of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._offset_seconds = 0.0

    def now(self) -> float:
        """The lease time, as of the last :meth:`synchronise`."""
        return time.monotonic() + self._offset_seconds

    def synchronise(self, connection: Connection) -> float:
        """Measure the database's clock; return the lease time."""
        lease_time = self._database.lease_clock(connection)
        self._offset_seconds = lease_time - time.monotonic()
        return lease_time
