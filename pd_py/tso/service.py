"""Keeps the allocator following the clock and its bound durable, and lets callers wait for timestamps."""

from __future__ import annotations

import asyncio

from core_py.codec.ts import MAX_LOGICAL
from core_py.ids import Ts
from core_py.ports import Clock, StatusError
from core_py.runtime.log import get_logger
from pd_py.metastore.port import MetaStore
from pd_py.tso.allocator import UPDATE_INTERVAL_MS, TsoAllocator

CLOCK_ALARM_MS = 2000
BOUND_KEY = "timestamp"


class TsoService:
    """The timestamp oracle of the leading member."""

    def __init__(self, metastore: MetaStore, prefix: str, clock: Clock) -> None:
        self._metastore = metastore
        self._key = f"{prefix}/{BOUND_KEY}"
        self._clock = clock
        self._allocator = TsoAllocator()
        self._updated = asyncio.Event()
        self._saving = False

    async def begin(self) -> None:
        """Become able to serve: start above what any earlier leader may have given."""
        persisted = self._metastore.get(self._key)
        bound = self._allocator.begin(self._clock.wall_ms(), int(persisted) if persisted else 0)
        await self._save(bound)

    async def _save(self, bound_ms: int) -> None:
        await self._metastore.write({self._key: str(bound_ms).encode()})
        self._allocator.saved(bound_ms)

    async def run(self) -> None:
        """Follow the clock until cancelled."""
        alarmed = False
        while True:
            await asyncio.sleep(UPDATE_INTERVAL_MS / 1000)
            await self.update()
            lag = self._allocator.clock_lag_ms(self._clock.wall_ms())
            if lag > CLOCK_ALARM_MS and not alarmed:
                get_logger().error("the wall clock is behind the timestamps given out", lag_ms=lag)
            alarmed = lag > CLOCK_ALARM_MS

    async def update(self) -> None:
        """One step of following the clock."""
        bound = self._allocator.update(self._clock.wall_ms())
        if bound is not None and not self._saving:
            self._saving = True
            try:
                await self._save(bound)
            finally:
                self._saving = False
            self._allocator.update(self._clock.wall_ms())
        self._updated.set()
        self._updated.clear()

    async def allocate(self, count: int) -> Ts:
        """The last of `count` timestamps; waits when the counter of this millisecond is used up."""
        if not 0 < count < MAX_LOGICAL:
            raise StatusError("INVALID_ARGUMENT", f"tso count {count} is out of range")
        while True:
            ts = self._allocator.allocate(count)
            if ts is not None:
                return ts
            await self._updated.wait()
