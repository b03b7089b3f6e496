"""What was used last, up to a total weight."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps values by key and lets go of those not used for longest. Safe to use in threads."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value of ``key``, if it is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def add(self, key: K, value: V, weight: int) -> None:
        """Keep ``value``, unless it is heavier than a quarter of everything may be."""
        if weight > self._max_weight // 4:
            return
        with self._lock:
            _, present = self._kept.pop(key, (None, 0))
            self._kept[key] = (value, weight)
            self._weight += weight - present
            while self._weight > self._max_weight:
                _, (_, gone) = self._kept.popitem(last=False)
                self._weight -= gone
