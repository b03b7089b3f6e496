"""The database goes away: PostgreSQL is restarted or cuts us off, SQLite's disk is full."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import DatabaseUnavailable
from tests.faults.flows import chain, diamond
from tests.faults.harness import Cluster, open_checked
from tests.faults.restartable import Restartable, restartable_server
from tests.servers import Valkey
from tests.waiting import wait_until


@pytest.fixture
def restartable() -> Iterator[Restartable]:
    """A PostgreSQL server that may be restarted."""
    with restartable_server() as server:
        yield server


@pytest.mark.postgres
async def test_postgresql_is_restarted_under_load(
    tmp_path: Path, restartable: Restartable, valkey: Valkey
) -> None:
    async with open_checked(tmp_path, restartable.url, valkey.url) as cluster:
        workers = await cluster.start_workers(2)
        await _begin(cluster)
        await asyncio.to_thread(restartable.restart)
        await _go_on(cluster)
        assert all(worker.is_alive for worker in workers)


@pytest.mark.postgres
async def test_postgresql_cuts_every_connection_again_and_again(
    tmp_path: Path, restartable: Restartable, valkey: Valkey
) -> None:
    async with open_checked(tmp_path, restartable.url, valkey.url) as cluster:
        workers = await cluster.start_workers(2)
        await _begin(cluster)
        for _ in range(10):
            await asyncio.to_thread(restartable.cut_connections)
            await asyncio.sleep(0.15)
        await _go_on(cluster)
        assert all(worker.is_alive for worker in workers)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MB: the write-ahead log alone may take four."""
    folder = Path(tempfile.mkdtemp(prefix="flow-disk-"))
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "flow-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounting.returncode:
        folder.rmdir()
        pytest.skip(f"mounting is not permitted: {mounting.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


async def test_a_full_disk_stops_the_work_and_loses_none(
    tmp_path: Path, small_disk: Path, valkey: Valkey
) -> None:
    async with open_checked(tmp_path, f"sqlite:///{small_disk}/flow.db", valkey.url) as cluster:
        workers = await cluster.start_workers(2)
        await _begin(cluster)
        _fill(small_disk / "ballast")
        with pytest.raises(DatabaseUnavailable, match="full"):
            await _submit_for_ever(cluster)
        await asyncio.sleep(0.5)
        (small_disk / "ballast").unlink()
        await _go_on(cluster)
        assert all(worker.is_alive for worker in workers)


async def _begin(cluster: Cluster) -> None:
    """Get work under way that takes a few seconds."""
    runs = await cluster.submit_many(chain(12, 0.15), 30)
    await cluster.submit_many(diamond(10, 0.5), 10)
    await cluster.started(runs[-1], "t1")
    cluster.look_closely()


async def _go_on(cluster: Cluster) -> None:
    """Everything ends by itself, and new work is done as ever."""
    await cluster.all_ended()
    await wait_until(
        lambda: cluster.query("SELECT count(*) FROM flow_run WHERE status = 'running'") == [0],
        description="whatever was committed has ended",
        timeout=10,
    )
    await cluster.submit(diamond(10))
    await cluster.all_ended()


async def _submit_for_ever(cluster: Cluster) -> None:
    # The write-ahead log may have some room left in itself.
    while True:
        await cluster.submit(chain(1))


def _fill(path: Path) -> None:
    """Leave no free byte on the disk."""
    with path.open("wb", buffering=0) as ballast:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError:
                continue
