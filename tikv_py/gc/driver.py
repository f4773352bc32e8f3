"""Moves the GC safe point on, so that a cluster without SQL servers collects its garbage by itself.

One store does it: the one that leads the first region (the one that begins at minus infinity), because exactly one store
does, and everybody's leader changes move it on by themselves. Should two believe so for a moment, both do the same, and PD's
safe points only go forward.

Every `gc.run-interval`, to `gc.life-time` ago:

    1 AdvanceTxnSafePoint     as far as barriers, service safe points and the oldest transactions of TiDB servers let it
    2 end all transactions of before it, over all regions (`tikv_py.gc.lock_cleanup`)
    3 AdvanceGCSafePoint      the stores learn it with their next poll, refuse older readers, and collect

A safe point that somebody else has moved on is taken up where it is: step 2 and 3 are repeated for it, if its GC safe point
is behind. `gc.life-time = 0` turns this off; a cluster whose TiDB servers run their own GC worker with a longer life time needs
that.

What it does not do: hold the safe point back for transactions that no TiDB server reports. They are ended when they are older than
the life time; a GC barrier keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.codec import ts as tso
from core_py.errors import DbError
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.client.pd.client import PdClient
from tikv_py.gc.config import GcConfig
from tikv_py.gc.lock_cleanup import LockCleanup
from tikv_py.gc.region_calls import RegionCalls
from tikv_py.raftstore.store import Store


class GcDriver:
    """See the module's text."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        calls: RegionCalls,
        config: GcConfig,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._pd = pd
        self._calls = calls
        self._config = config
        self._cleanup = LockCleanup(calls)
        self._scope = TaskScope("gc driver", on_failure=on_failure)

    def start(self) -> None:
        """Begin, unless the life time is 0."""
        if self._config.life_time:
            self._scope.spawn(self._rounds(), name="gc driver")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()
        await self._calls.close()

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(float(self._config.run_interval))
            if not self._is_chosen():
                continue
            try:
                await self.advance()
            except DbError as error:
                get_logger().warn("gc safe point not advanced", error=str(error))

    def _is_chosen(self) -> bool:
        return any(peer.is_complete() and not peer.region.start_key for peer in self._store.peers.values())

    async def advance(self) -> int:
        """One round; the GC safe point after it. Raises DbError."""
        state = await self._pd.get_gc_state()
        now_ms = tso.physical_ms(await self._pd.timestamp())
        target = tso.compose(max(0, now_ms - int(self._config.life_time * 1000)), 0)
        safe_point = state.txn_safe_point
        if target > safe_point:
            safe_point = await self._pd.advance_txn_safe_point(target)
        if safe_point <= state.gc_safe_point:
            return state.gc_safe_point
        fail = self._store.fail
        if fail.armed:
            await fail.reach("gc_driver_before_locks")
        locks = await self._cleanup.run(safe_point)
        reached = await self._pd.advance_gc_safe_point(safe_point)
        get_logger().info("gc safe point advanced", safe_point=reached, locks=locks)
        return reached
