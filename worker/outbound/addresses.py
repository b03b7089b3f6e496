"""Which addresses may be called: an explicit table of those that may not.

The table follows IANA's registries of special-purpose addresses and of the IPv6 address
space. ``ipaddress``'s own properties are not asked, because they change between versions of
Python and leave gaps: ``is_private`` is false for 100.64.0.0/10, for multicast and for NAT64,
behind which there may be any IPv4 address.

Nothing is looked up and nothing is connected to here.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_DENIED_IPV4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        # Public by its number, but answered by the machine's own host and by nobody else.
        ("168.63.129.16/32", "a cloud platform's own address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol assignment"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "an AS112 address"),
        ("192.52.193.0/24", "a multicast relay"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "an AS112 address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")
"""The one prefix that stands for an IPv4 address and is called as it is: in a network without
IPv4 every IPv4 host is reached through it."""

_DENIED_IPV6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b:1::/48", "a local NAT64 address"),
        ("100::/64", "a discard address"),
        ("100:0:0:1::/64", "a dummy address"),
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001::/23", "a protocol assignment"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "an AS112 address"),
        ("3ffe::/16", "a former test address"),
        ("3fff::/20", "a documentation address"),
        ("5f00::/16", "a segment routing address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
        # What IANA has not given out as global unicast, which is 2000::/3, in the registry's
        # own blocks. Last, so that the kinds above are named where there is one.
        ("::/8", "a reserved address"),
        ("100::/8", "a reserved address"),
        ("200::/7", "a reserved address"),
        ("400::/6", "a reserved address"),
        ("800::/5", "a reserved address"),
        ("1000::/4", "a reserved address"),
        ("4000::/3", "a reserved address"),
        ("6000::/3", "a reserved address"),
        ("8000::/3", "a reserved address"),
        ("a000::/3", "a reserved address"),
        ("c000::/3", "a reserved address"),
        ("e000::/4", "a reserved address"),
        ("f000::/5", "a reserved address"),
        ("f800::/6", "a reserved address"),
        ("fe00::/9", "a reserved address"),
    )
)

_IPV4_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The upper half of an interface id that carries an IPv4 address in its lower half."""


def denial(address: Address) -> str | None:
    """Why ``address`` may not be called, in a few words; None where it may.

    An IPv4 address that is written in, or carried inside, an IPv6 address is what counts.
    """
    if isinstance(address, IPv6Address):
        return _ipv6_denial(address)
    return next((kind for network, kind in _DENIED_IPV4 if address in network), None)


def normalise(address: Address) -> Address:
    """The address that a connection would really go to: IPv4 out of its mapped form.

    Every system connects to ``::ffff:10.0.0.1`` over IPv4, so it is that address.
    """
    if isinstance(address, IPv6Address) and (mapped := address.ipv4_mapped) is not None:
        return mapped
    return address


def read_ipv4(host: str) -> IPv4Address | None:
    """``host`` read as the C library reads an IPv4 address; None where it is none.

    That is one to four numbers, each decimal, octal (``0177``) or hexadecimal (``0x7f``); the
    last one fills all the bytes that are left, so ``127.1`` and ``2130706433`` are 127.0.0.1.

    Raises:
        ValueError: it ends in a number, so it is no name, and is no address either. What reads
            on after such an end, or cuts it off, would come to another host.
    """
    parts = host.split(".")
    if not _IPV4_NUMBER.fullmatch(parts[-1]):
        return None
    if len(parts) > 4 or not all(_IPV4_NUMBER.fullmatch(part) for part in parts):
        raise ValueError("it ends in a number and is no IPv4 address")
    *leading, last = [_read_number(part) for part in parts]
    if any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        raise ValueError("it holds a number that is too large for an IPv4 address")
    value = last
    for place, number in enumerate(leading):
        value += number << (8 * (3 - place))
    return IPv4Address(value)


def _read_number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    if len(text) > 1 and text[0] == "0":
        try:
            return int(text, 8)
        except ValueError:
            raise ValueError("it holds an octal number with an 8 or a 9") from None
    return int(text)


def _ipv6_denial(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "an address of one interface only"
    plain = normalise(address)
    if isinstance(plain, IPv4Address):
        return denial(plain)
    if address in _NAT64:
        inside = IPv4Address(int(address) & 0xFFFF_FFFF)
        kind = denial(inside)
        return None if kind is None else f"NAT64 for {inside}, {kind}"
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return "an ISATAP address"
    return next((kind for network, kind in _DENIED_IPV6 if address in network), None)
