"""The table of addresses that may not be called."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.outbound.addresses import denial, normalise, read_ipv4

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1",
    "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.254",
    "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::a00:1", "100::1", "100:0:0:1::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1",
    "2001:30::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1",
    "2620:4f:8000::1", "3ffe::1", "3fff::1", "3fff:fff::1", "5f00::1", "4000::1", "8000::1",
    "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1",
    "feff::1", "ff02::1", "ff0e::1", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:8.8.8.8",
    "2606:4700::1%eth0",
]  # fmt: skip

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "168.63.129.15", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.167.255.255",
    "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2003::1",
    "2606:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_purpose_addresses_are_denied(text: str) -> None:
    assert denial(ip_address(text)) is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_up_to_the_edges_of_the_table_are_not_denied(text: str) -> None:
    assert denial(ip_address(text)) is None


@given(st.ip_addresses(v=4))
def test_nothing_that_python_calls_not_global_is_allowed(address: IPv4Address) -> None:
    # Python's own view is incomplete, never wrong in this direction.
    if not address.is_global or address.is_multicast:
        assert denial(address) is not None


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_however_it_is_carried(address: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{address}")
    assert normalise(mapped) == address
    assert denial(mapped) == denial(address)
    assert (denial(IPv6Address(f"64:ff9b::{address}")) is None) == (denial(address) is None)
    value = int(address)
    for tunnelled in (
        value,
        (0x2002 << 112) | (value << 80),
        (0x2001_0000 << 96) | (value << 64),
        (0x2001_0000 << 96) | (value ^ 0xFFFF_FFFF),
        (0x64FF9B << 96) | (1 << 80) | value,
        (0xFFFF << 48) | value,
    ):
        assert denial(IPv6Address(tunnelled)) is not None


@given(st.integers(0, 2**128 - 1))
@example(0)
@example(2**128 - 1)
def test_outside_global_unicast_there_is_only_nat64_and_mapped_ipv4(value: int) -> None:
    address = IPv6Address(value)
    in_global_unicast = value >> 125 == 0b001
    carries_ipv4 = value >> 32 in (0xFFFF, 0x64FF9B << 64)
    if not in_global_unicast and not carries_ipv4:
        assert denial(address) is not None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("127.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"), ("0x7f000001", "127.0.0.1"), ("0X7F.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"), ("017700000001", "127.0.0.1"), ("0x7f.0.0.0x1", "127.0.0.1"),
        ("0", "0.0.0.0"), ("0x", "0.0.0.0"), ("00", "0.0.0.0"), ("169.16689662", "169.254.169.254"),
        ("0251.0376.0251.0376", "169.254.169.254"), ("4294967295", "255.255.255.255"),
        ("10.65535", "10.0.255.255"), ("0x00000000000000007f000001", "127.0.0.1"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)  # fmt: skip
def test_ipv4_is_read_as_the_c_library_reads_it(host: str, address: str) -> None:
    assert read_ipv4(host) == IPv4Address(address)


@pytest.mark.parametrize(
    "host",
    ["256.0.0.1", "1.2.3.256", "1.2.65536", "4294967296", "1.2.3.4.5", "08.0.0.1", "a.1",
     "example.0x7f", "1..1", "0x100000000", "1.2.3.09"],
)  # fmt: skip
def test_what_ends_in_a_number_and_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        read_ipv4(host)


@pytest.mark.parametrize("host", ["example.com", "1.example", "0x7g", "127.0.0.1.nip.io", "1e3"])
def test_names_are_no_addresses(host: str) -> None:
    assert read_ipv4(host) is None


@given(st.lists(st.sampled_from(["0", "1", "07", "010", "0x1f", "255", "256", "65536", "9"]),
                min_size=1, max_size=4))  # fmt: skip
def test_reading_agrees_with_the_c_library(parts: list[str]) -> None:
    host = ".".join(parts)
    try:
        theirs: bytes | None = socket.inet_aton(host)
    except OSError:
        theirs = None
    try:
        ours = read_ipv4(host)
    except ValueError:
        ours = None
    assert (ours and ours.packed) == theirs
