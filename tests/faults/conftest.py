"""A cluster a test, and the invariants at its end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.checks import check
from tests.faults.harness import Cluster
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
    opened: list[Cluster] = []

    async def open_one(**settings: object) -> Cluster:
        cluster = Cluster(tmp_path, database_url, valkey.url, **settings)
        opened.append(cluster)
        await cluster.open()
        return cluster

    yield open_one
    for cluster in opened:
        try:
            with cluster.database.read() as connection:
                found = check(
                    connection,
                    cluster.journal,
                    acknowledged=cluster.acknowledged,
                    seen=cluster.seen,
                    earlier=cluster.earlier,
                )
        finally:
            await cluster.close()
        assert found == {}


@pytest.fixture
async def cluster(open_cluster: OpenCluster) -> Cluster:
    """A cluster with the default settings."""
    return await open_cluster()
