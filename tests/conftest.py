"""What all tests share: servers from wheels, and a guard around the machine."""

from tests import loopback
from tests.servers import (
    _postgresql_server,
    _valkey_server,
    database_url,
    postgresql_url,
    redis_url,
    sqlite_url,
    valkey,
)

__all__ = [
    "_postgresql_server",
    "_valkey_server",
    "database_url",
    "postgresql_url",
    "redis_url",
    "sqlite_url",
    "valkey",
]

loopback.install()
