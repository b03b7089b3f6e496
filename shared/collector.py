"""Keeps what lives long out of the garbage collector's way.

Modules, task types and definitions stay for as long as the process does; a full collection
looks at all of them and stops everything for up to a tenth of a second in the middle of a
wide fork. Frozen, they are still freed when nobody refers to them any more: only a cycle of
them would stay, and they are in none once the collection before the freeze is over.
"""

import gc

YOUNG_OBJECTS = 10_000
"""Allocations between two looks at the youngest ones. Python's own 700 is less than one
batch of steps makes."""


def keep_from_collector() -> None:
    """Collect once, and from then on leave alone what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
