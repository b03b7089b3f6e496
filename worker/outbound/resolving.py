"""From a name to its addresses, on threads of its own.

Not the event loop's ``getaddrinfo``: that shares a handful of threads with everything else in
the worker, and a few names whose servers never answer would hold them all for half a minute.
These threads are daemons, since a look-up cannot be interrupted, and must not hold up the
worker's exit either.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeAlias

from worker.outbound.addresses import Address
from worker.outbound.errors import ConnectionFailed

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives a name's addresses as texts, best first. Raises OSError where there are none."""

MAX_LOOKUPS = 32
"""At a time. One that was given up keeps its place until its thread has ended."""
MAX_ADDRESSES = 64
"""Of one name. No honest name has more; each one has to be checked."""


class ThreadedResolver:
    """``getaddrinfo`` of the system, with the system's own time limits."""

    def __init__(self, max_lookups: int = MAX_LOOKUPS) -> None:
        self._places = asyncio.Semaphore(max_lookups)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of ``host``."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def finish(found: Sequence[str] | OSError) -> None:
            self._places.release()
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found = _look_up(host, port)
            # The loop may be closed by now: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, found)

        try:
            threading.Thread(target=work, name="flow-manager-lookup", daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            raise OSError(str(error)) from None
        return await answer


async def resolve(resolver: Resolver, host: str, port: int) -> list[Address]:
    """The addresses of ``host``, in the resolver's order, each once.

    Raises:
        ConnectionFailed: it has none, or too many.
    """
    try:
        texts = await resolver(host, port)
        addresses = list(dict.fromkeys(ip_address(text) for text in texts))
    except OSError as error:
        raise ConnectionFailed(f"{host} cannot be resolved: {error.strerror or error}") from None
    except ValueError:
        raise ConnectionFailed(f"{host} was resolved to what is no address") from None
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise ConnectionFailed(
            f"{host} has {len(addresses)} addresses; 1 to {MAX_ADDRESSES} can be used"
        )
    return addresses


def _look_up(host: str, port: int) -> Sequence[str] | OSError:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError:
        # The standard library's own encoding of names refuses some that are well formed.
        return OSError("the name cannot be encoded")
    return [str(address[0]) for *_, address in found]
