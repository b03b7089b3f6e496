"""What all tests share: servers from wheels, and a guard around the machine."""

from tests import loopback
from tests.servers import (
    _postgresql_server,
    _postgresql_template,
    _reused_postgresql,
    _sqlite_template,
    _valkey_server,
    bare_database_url,
    bare_postgresql_url,
    bare_sqlite_url,
    database_url,
    postgresql_url,
    redis_url,
    sqlite_url,
    valkey,
)

__all__ = [
    "_postgresql_server",
    "_postgresql_template",
    "_reused_postgresql",
    "_sqlite_template",
    "_valkey_server",
    "bare_database_url",
    "bare_postgresql_url",
    "bare_sqlite_url",
    "database_url",
    "postgresql_url",
    "redis_url",
    "sqlite_url",
    "valkey",
]

loopback.install()
