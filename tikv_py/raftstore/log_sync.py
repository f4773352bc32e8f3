"""Making the raft log durable: one sync at a time, for everything that was written before it (group commit).

While a sync runs the next turns write on, and the sync after it is for all of them. What waited for a sync is handed back to the
store in the order it was written. How long syncs take is the measure of the disk's health; an idle store writes something
small now and then, so that a disk which hangs is noticed before somebody needs it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tikv_py.engine.port import CF_DEFAULT
from tikv_py.raftstore import keys
from tikv_py.raftstore.slow_score import SlowScore
from tikv_py.raftstore.turn import Unsynced

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


class LogSync:
    """Of one store's raft database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._interval_s = float(store.config.inspect_interval)
        self._unsynced: list[Unsynced] = []
        self._must_sync = False
        self._wake = asyncio.Event()
        self.slow_score = SlowScore(self._interval_s, store.clock.monotonic())

    def add(self, unsynced: list[Unsynced], *, must_sync: bool) -> None:
        """What was written; `must_sync` unless it holds nothing that anybody relies on."""
        self._unsynced += unsynced
        self._must_sync |= must_sync
        self._wake.set()

    async def run(self) -> None:
        """Sync for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._unsynced = self._unsynced, []
            must_sync, self._must_sync = self._must_sync, False
            fail = self._store.fail
            if fail.armed:
                await fail.reach("raft_before_sync")
            if must_sync:
                await self._sync()
            if fail.armed:
                await fail.reach("raft_after_sync")
            self._store.persisted(pending)

    async def _sync(self) -> None:
        store, clock = self._store, self._store.clock
        self.slow_score.began(clock.monotonic())
        with store.breaking():
            await store.workers.sync(store.raft_db.sync_wal)
        store.listener.on_sync(self.slow_score.ended(clock.monotonic()))

    async def inspect(self) -> None:
        """Tell the score that time passes; give an idle disk something to sync."""
        store = self._store
        while True:
            await asyncio.sleep(self._interval_s)
            if self.slow_score.tick(store.clock.monotonic()):
                batch = store.raft_db.batch()
                batch.put(CF_DEFAULT, keys.INSPECT_KEY, b"")
                with store.breaking():
                    store.raft_db.write(batch)
                self.add([], must_sync=True)
