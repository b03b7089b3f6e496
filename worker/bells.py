"""The bells that a worker listens to: those of its pools or, where it takes every queue, the
default one and the one that tells which other pool was rung.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Sequence

from shared.bells import Pool, others_bell_key, pool_of
from shared.pools import DEFAULT_QUEUE, EVERY_QUEUE, checked_queue

_MOST_LEARNED = 100
"""Other pools that are looked at without being rung: the rest is found by the sweeps."""


class Bells:
    """Which bells to wait on, and where to look for rings."""

    def __init__(self, queue_name: str, queues: Collection[str]) -> None:
        self._queue_name = queue_name
        self._takes_all = EVERY_QUEUE in queues
        own = (DEFAULT_QUEUE,) if self._takes_all else dict.fromkeys(queues)
        self._own = {pool.bell: pool for pool in (pool_of(queue_name, queue) for queue in own)}
        self._learned: OrderedDict[str, Pool] = OrderedDict()
        self._waited_on = deque(self._own)
        if self._takes_all:
            self._waited_on.append(others_bell_key(queue_name))

    @property
    def first(self) -> Pool:
        """The pool whose queue arq knows."""
        return next(iter(self._own.values()))

    @property
    def pools(self) -> Sequence[Pool]:
        """Every pool to look at where it is not known which one was rung."""
        return [*self._own.values(), *self._learned.values()]

    @property
    def waited_on(self) -> Sequence[str]:
        """The bells: Redis answers with the first of them that has been rung."""
        return list(self._waited_on)

    def heard(self, bell: str, token: bytes) -> Sequence[Pool]:
        """The pool that was rung; it has the last place among them next time, so that one that
        is always rung does not drown the others. None where the token does not name any."""
        if bell in self._waited_on:
            self._waited_on.remove(bell)
            self._waited_on.append(bell)
        pool = self._own.get(bell) or self._learn(token)
        return [] if pool is None else [pool]

    def _learn(self, token: bytes) -> Pool | None:
        try:
            pool = pool_of(self._queue_name, checked_queue(token.decode()))
        except ValueError:
            # Others may write to Redis, too.
            return None
        self._learned[pool.queue] = pool
        self._learned.move_to_end(pool.queue)
        if len(self._learned) > _MOST_LEARNED:
            self._learned.popitem(last=False)
        return pool
