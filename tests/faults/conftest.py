"""A cluster a test, and the invariants at its end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faults.harness import Cluster, open_checked
from tests.servers import Valkey

OpenCluster = Callable[..., Awaitable[Cluster]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are ``faults``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
async def open_cluster(
    tmp_path: Path, database_url: str, valkey: Valkey
) -> AsyncIterator[OpenCluster]:
    """Makes a cluster with settings of its own; afterwards the six invariants must hold."""
    async with AsyncExitStack() as stack:

        async def open_one(**settings: object) -> Cluster:
            return await stack.enter_async_context(
                open_checked(tmp_path, database_url, valkey.url, **settings)
            )

        yield open_one


@pytest.fixture
async def cluster(open_cluster: OpenCluster) -> Cluster:
    """A cluster with the default settings."""
    return await open_cluster()
