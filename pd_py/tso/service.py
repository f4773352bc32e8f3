"""The timestamp oracle of one term of leadership: keeps the allocator's bound durable, and lets callers wait for timestamps.

Every allocation asks whether the lease holds at that moment, so a leader that was cut off or stopped gives nothing out after its
lease, and what it gave out before is below the bound from which its successor begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.codec.ts import MAX_LOGICAL
from core_py.errors import DbError
from core_py.ids import Ts
from core_py.ports import Clock, StatusError
from core_py.runtime.log import get_logger
from pd_py.member.fenced import FencedStore
from pd_py.tso.allocator import UPDATE_INTERVAL_MS, TsoAllocator

CLOCK_JUMP_MS = 100
"""A wall clock that goes back by more than this is told to the operators."""
BOUND_KEY = "timestamp"


class TsoService:
    """The oracle. `begin`, then `run` as a task; `on_event` hears the public names of `pd_tso_events`."""

    def __init__(
        self, store: FencedStore, prefix: str, clock: Clock, on_event: Callable[[str], None] = lambda _event: None
    ) -> None:
        self._store = store
        self._key = f"{prefix}/{BOUND_KEY}"
        self._clock = clock
        self._event = on_event
        self._allocator = TsoAllocator()
        self._updated = asyncio.Event()
        self._saving = False
        self._wall_ms = 0

    async def begin(self) -> None:
        """Become able to serve: start above what any earlier leader may have given. Raises NotLeader, OutcomeUnknown."""
        persisted = self._store.get(self._key)
        self._wall_ms = self._clock.wall_ms()
        await self._save(self._allocator.begin(self._wall_ms, int(persisted) if persisted else 0))

    async def _save(self, bound_ms: int) -> None:
        await self._store.write({self._key: str(bound_ms).encode()})
        self._allocator.saved(bound_ms)
        self._event("save")

    async def run(self) -> None:
        """Follow the clock until cancelled."""
        while True:
            await asyncio.sleep(UPDATE_INTERVAL_MS / 1000)
            self._watch_clock()
            try:
                await self.update()
            except DbError as error:  # what is saved already can still be given out; the next round tries again
                self._event("err_save_update_ts")
                get_logger().warn("the timestamp bound was not saved", error=str(error))

    def _watch_clock(self) -> None:
        wall_ms = self._clock.wall_ms()
        if wall_ms < self._wall_ms - CLOCK_JUMP_MS:
            self._event("system_time_slow")
            get_logger().error(
                "the wall clock went back; timestamps go on from where they were until it has caught up: check NTP",
                back_ms=self._wall_ms - wall_ms,
                ahead_ms=self._allocator.clock_lag_ms(wall_ms),
            )
        self._wall_ms = wall_ms

    async def update(self) -> None:
        """One step of following the clock. Raises NotLeader, OutcomeUnknown."""
        bound = self._allocator.update(self._clock.wall_ms())
        self._wake()
        if bound is not None and not self._saving:
            self._saving = True
            try:
                await self._save(bound)
            finally:
                self._saving = False
            self._allocator.update(self._clock.wall_ms())
            self._wake()

    def _wake(self) -> None:
        self._updated.set()
        self._updated.clear()

    def now(self, count: int) -> Ts | None:
        """The last of `count` timestamps, or None when `allocate` would have to wait. Raises StatusError."""
        if not 0 < count < MAX_LOGICAL:
            raise StatusError("INVALID_ARGUMENT", f"tso count {count} is out of range")
        if not self._store.is_valid:
            self._event("not_leader_anymore")
            raise StatusError("UNAVAILABLE", "requested pd is not leader of cluster")
        return self._allocator.allocate(count)

    async def allocate(self, count: int) -> Ts:
        """The last of `count` timestamps; waits while the counter of this millisecond is used up. Raises StatusError."""
        while True:
            ts = self.now(count)
            if ts is not None:
                return ts
            self._event("exceeded_max_logical")
            self._allocator.update(self._clock.wall_ms())
            ts = self.now(count)
            if ts is not None:
                return ts
            await self._updated.wait()
