"""Rings as they come out of Redis: ours are read, others are refused without harm."""

from typing import Any

import fakeredis
import orjson
import pytest

from shared.ids import new_id
from shared.queue import load_job, make_jobs
from worker.rings import read_ring

ID = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"


def _payload(*arguments: object, name: str = "run_branches") -> bytes:
    return orjson.dumps({"t": None, "f": name, "a": list(arguments), "k": {}, "et": 1})


def test_what_was_rung_is_what_is_read() -> None:
    """By way of Redis, which gives back the bytes it was given."""
    ids = [new_id() for _ in range(5)]
    redis: Any = fakeredis.FakeRedis()
    for job in make_jobs(ids, chunks=2, now_milliseconds=1):
        redis.set(job.job_id, job.payload)
    read = [one for key in sorted(redis.keys()) for one in read_ring(redis.get(key) or b"")]
    assert sorted(read) == sorted(ids)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80\x04K\x01.",
        b"[]",
        _payload(["not-an-id"]),
        _payload([ID, "not-an-id"]),
        _payload([7]),
        _payload("text"),
        _payload([ID], "more"),
        _payload([ID], name="another"),
    ],
)
def test_what_is_no_ring_of_ours_is_refused(payload: bytes) -> None:
    assert read_ring(payload) == []


def test_a_pickle_is_never_loaded() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        load_job(b"\x80\x04]\x94.")
