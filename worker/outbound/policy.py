"""What may be called, and how much of it, as one frozen value made from the settings."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from shared.settings import Settings
from worker.outbound.addresses import Address, Network, denial, normalise
from worker.outbound.errors import RequestRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundPolicy:
    """The rules for every call of this process. The defaults allow public addresses only."""

    allowed_hosts: frozenset[str] = frozenset()
    """Names that may have any address: whoever set them trusts who answers for them."""
    allowed_networks: tuple[Network, ...] = ()
    """Addresses that may be called although they are not public."""
    allowed_ports: frozenset[int] = frozenset()
    """Empty: every port."""
    max_response_bytes: int = 1_000_000
    timeout_seconds: float = 30.0
    max_redirects: int = 5

    @classmethod
    def of(cls, settings: Settings) -> "OutboundPolicy":
        """The rules that the settings give."""
        return cls(
            allowed_hosts=frozenset(settings.http_allowed_hosts),
            allowed_networks=tuple(ip_network(text) for text in settings.http_allowed_networks),
            allowed_ports=frozenset(settings.http_allowed_ports),
            max_response_bytes=settings.http_max_response_bytes,
            timeout_seconds=settings.http_timeout_seconds,
            max_redirects=settings.http_max_redirects,
        )

    def check(self, host: str, port: int, address: Address) -> Address:
        """The address to connect to for ``host``, which resolved to ``address``.

        Raises:
            RequestRefused: it may not be called.
        """
        self.check_port(port)
        address = normalise(address)
        if host in self.allowed_hosts or self._is_allowed(address):
            return address
        if (kind := denial(address)) is not None:
            # Not which address: a definition must not map the names of a private network.
            raise RequestRefused(
                f"{host} may not be called: it is {kind}, or a name for one; the operator can "
                "allow it by http_allowed_networks or http_allowed_hosts"
            )
        return address

    def check_port(self, port: int) -> None:
        """Asked before a name is looked up, too: a refused port needs no look-up.

        Raises:
            RequestRefused: it may not be called.
        """
        if self.allowed_ports and port not in self.allowed_ports:
            raise RequestRefused(f"port {port} may not be called: it is not in http_allowed_ports")

    def _is_allowed(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        return any(address in network for network in self.allowed_networks)
