"""Reads for the event loop: a query runs on one of a few threads with a connection of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from shared.database import Database

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
"""More readers would only wait for the interpreter, and each keeps a connection with a cache."""


class Reader:
    """Runs queries beside the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")

    async def call(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What ``query`` says, given a connection and these arguments.

        Raises:
            DatabaseUnavailable: where it cannot be asked.
        """

        def ask() -> T:
            with self._database.read() as connection:
                return query(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    async def call_in_snapshot(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for a query of several statements that have to agree with each other.

        Raises:
            DatabaseUnavailable: where it cannot be asked.
        """

        def ask() -> T:
            with self._database.snapshot() as connection:
                return query(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def close(self) -> None:
        """Let the threads end, without waiting for a query that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
