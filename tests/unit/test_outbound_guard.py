"""The guard of outgoing calls: what is hostile connects to nothing.

No packet leaves the machine: names are resolved and connections are made by the tests' own
world, which keeps what would have been connected to.
"""

import contextlib
from ipaddress import ip_network

import pytest

from shared.errors import InvalidSettings
from shared.settings import Settings, load_settings
from tests.unit.outbound_hostile import HOSTILE_HOSTS, HOSTILE_LOCATIONS, HOSTILE_URLS
from tests.unit.outbound_world import (
    NOBODY,
    OK,
    PUBLIC,
    World,
    get,
    nothing_connects,
    redirect_to,
)
from worker.outbound.connecting import GuardedBackend
from worker.outbound.errors import ConnectionFailed, HttpError, RequestRefused
from worker.outbound.policy import OutboundPolicy
from worker.outbound.process import install, installed


@pytest.fixture
def world() -> World:
    return World(
        names={
            **{name: [addresses] for name, addresses in HOSTILE_HOSTS.items()},
            # Honest: were it called for a URL that only looks like it, that would be seen.
            "example.com": [[PUBLIC]],
        }
    )


def test_there_are_enough_hostile_urls() -> None:
    assert len(set(HOSTILE_URLS)) == len(HOSTILE_URLS) >= 100
    assert len(HOSTILE_LOCATIONS) >= 80


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_a_hostile_url_connects_to_nothing(world: World, url: str) -> None:
    with nothing_connects(world), pytest.raises(HttpError):
        await world.outbound().send(get(url), follow_redirects=True)


async def test_without_the_table_many_of_them_would_connect(world: World) -> None:
    # The counter-test: a world in which nothing is ever connected to would prove nothing.
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    outbound = world.outbound(OutboundPolicy(allowed_networks=everything))
    for url in HOSTILE_URLS:
        with contextlib.suppress(HttpError):
            await outbound.send(get(url))
    assert len(world.connects) >= 60


@pytest.mark.parametrize("location", HOSTILE_LOCATIONS)
async def test_a_redirect_to_a_hostile_url_connects_to_nothing_more(
    world: World, location: str
) -> None:
    world.answers = [redirect_to(location), OK]
    with pytest.raises(HttpError):
        await world.outbound().send(get("http://example.com/"), follow_redirects=True)
    assert world.connects == [(PUBLIC, 80)]


async def test_a_fragment_does_not_name_the_host(world: World) -> None:
    await world.outbound().send(get("http://example.com#@127.0.0.1/../"))
    assert world.connects == [(PUBLIC, 80)]


async def test_a_name_is_resolved_once_and_its_checked_address_is_called(world: World) -> None:
    # A hostile name server: first a public address, then a private one (DNS rebinding).
    world.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    response = await world.outbound().send(get("https://rebind.example:8443/x"))
    assert response.body == b"ok"
    assert world.looked_up == ["rebind.example"]
    assert world.connects == [(PUBLIC, 8443)]
    # The name is kept for the other side.
    assert world.server_names == ["rebind.example"]
    assert b"Host: rebind.example:8443\r\n" in world.streams[0].sent


async def test_a_second_request_is_checked_anew(world: World) -> None:
    world.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    outbound = world.outbound()
    await outbound.send(get("http://rebind.example/"))
    with nothing_connects(world), pytest.raises(RequestRefused, match="a loopback address"):
        await outbound.send(get("http://rebind.example/"))


async def test_a_redirect_to_the_same_name_is_checked_anew(world: World) -> None:
    world.names["rebind.example"] = [[PUBLIC], ["10.0.0.1"]]
    world.answers = [redirect_to("/again"), OK]
    with pytest.raises(RequestRefused, match="a private address"):
        await world.outbound().send(get("http://rebind.example/"), follow_redirects=True)
    assert world.connects == [(PUBLIC, 80)]


async def test_ipv4_in_its_mapped_form_is_called_as_what_it_is(world: World) -> None:
    world.names["mapped.example"] = [[f"::ffff:{PUBLIC}"]]
    await world.outbound().send(get("http://mapped.example/"))
    assert world.connects == [(PUBLIC, 80)]


async def test_the_addresses_of_a_host_are_tried_in_turn(world: World) -> None:
    world.names["example.com"] = [["2606:4700::1", PUBLIC]]
    world.dead = {"2606:4700::1": NOBODY}
    assert (await world.outbound().send(get("http://example.com/"))).status == 200
    assert world.connects == [("2606:4700::1", 80), (PUBLIC, 80)]


async def test_a_host_where_nobody_answers_is_tried_a_few_times(world: World) -> None:
    addresses = [f"93.184.215.{n}" for n in range(20)]
    world.names["example.com"] = [addresses]
    world.dead = dict.fromkeys(addresses, NOBODY)
    with pytest.raises(ConnectionFailed, match=r"^GET http://example\.com: nobody answers$"):
        await world.outbound().send(get("http://example.com/"))
    assert [host for host, _ in world.connects] == addresses[:4]


async def test_unix_sockets_are_refused(world: World) -> None:
    backend = GuardedBackend(OutboundPolicy(), world.resolve, world)
    with pytest.raises(RequestRefused, match="unix sockets"):
        await backend.connect_unix_socket("/run/docker.sock")


# --- What the operator allows --------------------------------------------------------------------


async def test_an_allowed_network_may_be_called_and_no_other(world: World) -> None:
    policy = OutboundPolicy(allowed_networks=(ip_network("10.2.0.0/16"), ip_network("fd12::/16")))
    outbound = world.outbound(policy)
    for url in ("http://10.2.3.4/", "http://[::ffff:10.2.3.4]/", "http://[fd12::1]/"):
        await outbound.send(get(url))
    assert [host for host, _ in world.connects] == ["10.2.3.4", "10.2.3.4", "fd12::1"]
    for url in ("http://10.3.0.1/", "http://127.0.0.1/", "http://[64:ff9b::10.2.3.4]/"):
        with nothing_connects(world), pytest.raises(RequestRefused):
            await outbound.send(get(url))


async def test_an_allowed_host_may_have_any_address_and_no_other_host(world: World) -> None:
    outbound = world.outbound(OutboundPolicy(allowed_hosts=frozenset({"redis"})))
    await outbound.send(get("http://REDIS.:6379/"))
    assert world.connects == [("172.18.0.3", 6379)]
    for url in ("http://172.18.0.3:6379/", "http://postgres/", "http://redis.example.com/"):
        with nothing_connects(world), pytest.raises(HttpError):
            await outbound.send(get(url))


async def test_only_allowed_ports_may_be_called_where_some_are_named(world: World) -> None:
    outbound = world.outbound(OutboundPolicy(allowed_ports=frozenset({80, 443})))
    await outbound.send(get("http://example.com/"))
    await outbound.send(get("https://example.com/"))
    with nothing_connects(world), pytest.raises(RequestRefused, match="port 6379"):
        await outbound.send(get("http://example.com:6379/"))
    assert world.looked_up == ["example.com", "example.com"]


def test_settings_become_the_policy() -> None:
    settings = Settings(
        http_allowed_hosts="Redis., api.internal",
        http_allowed_networks="10.0.0.0/8,fd00::/8",
        http_allowed_ports="80, 443",
        http_max_redirects=2,
    )
    policy = OutboundPolicy.of(settings)
    assert policy.allowed_hosts == {"redis", "api.internal"}
    assert policy.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert policy.allowed_ports == {80, 443}
    assert OutboundPolicy.of(Settings()) == OutboundPolicy()


@pytest.mark.parametrize(
    "given",
    [
        {"http_allowed_hosts": "http://x"},
        {"http_allowed_hosts": "*.example.com"},
        {"http_allowed_hosts": "bücher.example"},
        {"http_allowed_networks": "10.0.0.1/8"},
        {"http_allowed_networks": "everything"},
        {"http_allowed_ports": "0"},
        {"http_allowed_ports": "http"},
    ],
)
def test_settings_that_would_not_mean_what_they_say_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=f"FLOW_{next(iter(given)).upper()}"):
        load_settings(**given)


def test_without_a_way_out_installed_only_public_addresses_may_be_called() -> None:
    install(None)
    assert installed().policy == OutboundPolicy()
    assert installed() is installed()
    install(None)
