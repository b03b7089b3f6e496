"""The servers that the tests stand on, and the guard around them."""

import socket

import pytest
from sqlalchemy import create_engine, text

from tests.loopback import OutsideLoopback
from tests.servers import Valkey


def test_each_test_gets_an_empty_database_of_its_own(database_url: str) -> None:
    engine = create_engine(database_url)
    for _ in range(2):
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE only_once (id INTEGER)"))
            connection.execute(text("DROP TABLE only_once"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("round_number", [1, 2])
def test_each_test_gets_an_empty_redis(valkey: Valkey, round_number: int) -> None:
    with valkey.client() as client:
        assert client.dbsize() == 0
        client.set("left", round_number)
    if round_number == 1:
        # What a test does to the server is repaired for the next.
        valkey.pause()


def test_redis_keeps_its_address_over_a_restart(valkey: Valkey) -> None:
    url, pid = valkey.url, valkey.pid
    valkey.restart()
    assert valkey.url == url
    assert valkey.pid != pid


@pytest.mark.parametrize("host", ["203.0.113.7", "::ffff:203.0.113.7", "169.254.169.254"])
def test_the_guard_refuses_other_machines(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(OutsideLoopback):
        client.connect((host, 80))
    with socket.socket(family, socket.SOCK_DGRAM) as client, pytest.raises(OutsideLoopback):
        client.sendto(b"", (host, 53))


def test_the_guard_refuses_name_lookups() -> None:
    with pytest.raises(OutsideLoopback):
        socket.getaddrinfo("example.com", 80)
    assert socket.getaddrinfo("localhost", 80)
