"""The Redis keys of the doorbell: a queue and a bell for each pool of workers."""

from dataclasses import dataclass
from functools import lru_cache

from shared.pools import DEFAULT_QUEUE


def bell_key(queue_name: str) -> str:
    """The list on which workers wait for a ring of this queue."""
    return f"{queue_name}:bell"


@dataclass(frozen=True, slots=True)
class Pool:
    """Where in Redis the rings for one pool of workers are."""

    queue: str
    """Its name in definitions."""
    key: str
    """arq's queue."""
    others_bell: str | None = None
    """Where workers that take every queue hear of a pool that is not the default one."""

    @property
    def bell(self) -> str:
        """The list on which the pool's workers wait."""
        return bell_key(self.key)


def others_bell_key(queue_name: str) -> str:
    """The list on which the names of pools come that were rung, but for the default one."""
    return f"{queue_name}:pools:bell"


@lru_cache(maxsize=1_000)
def pool_of(queue_name: str, queue: str) -> Pool:
    """The pool of a queue in the installation that is named ``queue_name``."""
    if queue == DEFAULT_QUEUE:
        return Pool(queue, queue_name)
    return Pool(queue, f"{queue_name}:pool:{queue}", others_bell_key(queue_name))
