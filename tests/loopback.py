"""A guard: no test of this process ever sends a packet to another machine."""

import ipaddress
import socket
import sys

_allowed_names = {"localhost", "", None}
_INTERNET = (socket.AF_INET, socket.AF_INET6)


class OutsideLoopback(RuntimeError):
    """A test tried to reach another machine. Not an OSError, which much code would swallow."""


def install() -> None:
    """Refuse every connect, send and name lookup outside loopback, for good."""
    sys.addaudithook(_refuse_outside)


def _refuse_outside(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        sock, address = arguments[0], arguments[1]
        if isinstance(sock, socket.socket) and sock.family not in _INTERNET:
            return
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise OutsideLoopback(f"{event} to {address[0]} was refused: only loopback here")
    elif event == "socket.getaddrinfo" and not _is_loopback(arguments[0]):
        raise OutsideLoopback(f"looking up {arguments[0]!r} was refused: only loopback here")


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in _allowed_names:
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    # The unspecified address is where servers listen; its lookup leaves the machine nowhere.
    return address.is_loopback or address.is_unspecified or bool(mapped and mapped.is_loopback)
