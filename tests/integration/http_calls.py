"""Attempts at ``http_request`` as a worker makes them, with loopback as the only way out."""

import contextlib
import ssl
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import orjson

from shared.registry import Registry
from shared.settings import Settings
from worker.execution import AttemptResult, Execution, Executor
from worker.http_request import HttpRequest
from worker.outbound.client import Outbound
from worker.outbound.policy import OutboundPolicy
from worker.outbound.process import install

LIMIT = 50_000
POLICY = OutboundPolicy(
    allowed_networks=(ip_network("127.0.0.0/8"),), max_response_bytes=LIMIT, timeout_seconds=10
)
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
KEY = "run-1:call it:2"


@contextlib.contextmanager
def calling() -> Iterator[Executor]:
    """What runs the attempts; the way out is installed meanwhile."""
    registry = Registry()
    registry.add(HttpRequest)
    executor = Executor(registry, Settings(task_timeout_seconds=20))
    install(Outbound(POLICY, tls=TRUSTS_NOBODY))
    try:
        yield executor
    finally:
        install(None)
        executor.close()


async def call(
    executor: Executor, timeout_seconds: float | None = None, **params: Any
) -> AttemptResult:
    return await executor.execute(
        Execution(
            task_type="http_request", name="call it", params=params, idempotency_key=KEY,
            timeout_seconds=timeout_seconds,
        )
    )  # fmt: skip


def data_of(result: AttemptResult, kind: str = "success") -> dict[str, Any]:
    assert result.kind == kind, result
    assert result.data is not None
    data: dict[str, Any] = orjson.loads(result.data)
    return data


def error_of(result: AttemptResult) -> tuple[str, str]:
    """Type and message."""
    assert result.kind == "error", result
    assert result.error is not None
    error = orjson.loads(result.error)
    return error["type"], error["message"]
