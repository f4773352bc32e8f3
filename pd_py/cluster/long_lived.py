"""Keeps Python's cycle collector from walking all regions again and again.

A region is a handful of objects that live long and form no cycles, but a full collection visits every one: two seconds with
a million regions, in which PD answers nobody. So after the number of regions has grown by a tenth, what is alive is set
aside (`gc.freeze`). Objects set aside are still freed when their last reference goes. What is lost is the collection of a
cycle that was alive at such a moment and dies later; the moments are few, because each needs more regions than ever before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

STEP = 10_000
"""Fewer new regions than this are not worth the trouble."""


@contextmanager
def no_collection() -> Iterator[None]:
    """While very many long-lived objects are made at once: the collector would walk them all many times and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class LongLived:
    """Decides when to set aside."""

    def __init__(self) -> None:
        self._next = STEP

    def note(self, regions: int) -> bool:
        """Say how many regions there are; True when what is alive was set aside."""
        if regions < self._next:
            return False
        self._next = regions + max(STEP, regions // 10)
        gc.collect()
        gc.freeze()
        return True
