"""The split checker: measures regions that may have grown too large and splits those that have.

At every check interval the leaders are measured whose written bytes since the last time reach the diff, or whose size is not
known: after a restart, a change of leader, a split, a merge. Apply only ever adds to a region's approximate numbers, so a
measurement also corrects those, for PD's balancing. One region is measured at a time, in slices with pauses as long as the
slices, so that a store that has to measure all its regions goes on serving. A failure (PD is away, the region changed
meanwhile) leaves the size unknown, and the next interval tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import DbError, PdError
from core_py.region_errors import EpochNotMatch, UndeterminedResult
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore import admin, split_check
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import AdminRefused
from tikv_py.raftstore.split_check import Measured, RegionScan, SplitLimits
from tikv_py.raftstore.store import Store
from tikv_py.server.metrics import SplitMetrics

SPLIT_TIMEOUT_S = 10.0  # a leader without a quorum must not hold up the splits of other regions
PAUSE_MAX_S = 0.1


async def split_region(store: Store, pd: PdClient, peer: Peer, split_keys: list[bytes]) -> list[metapb_pb2.Region]:
    """Split at keys in the encoding of region bounds, with ids from PD; the parts from left to right.

    Raises region errors, PdError, AdminRefused.
    """
    fail = store.fail
    if fail.armed and (reason := await fail.reach("split_before_ids")) is not None:
        raise PdError(f"failpoint: {reason}")
    ids = await pd.ask_batch_split(peer.region, len(split_keys))
    if fail.armed and (reason := await fail.reach("split_before_propose")) is not None:
        raise PdError(f"failpoint: {reason}")
    splits = [(key, one.new_region_id, list(one.new_peer_ids)) for key, one in zip(split_keys, ids, strict=True)]
    return await admin.split(store, peer, splits)


class SplitWorker:
    """See the module's text."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        limits: SplitLimits,
        metrics: SplitMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._pd = pd
        self._limits = limits
        self._metrics = metrics
        self._scope = TaskScope("split worker", on_failure=on_failure)
        self._measuring = asyncio.Lock()

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._rounds(), name="split check")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(float(self._store.config.split_region_check_tick_interval))
            for region_id in [peer.region.id for peer in self._store.peers.values() if self._is_due(peer)]:
                peer = self._store.peers.get(region_id)
                if peer is not None and self._is_due(peer):
                    await self._check(peer)

    def _is_due(self, peer: Peer) -> bool:
        grown = peer.unmeasured_bytes >= self._store.config.region_split_check_diff
        return peer.is_leader and peer.snapshot is None and (grown or not peer.size_known)

    async def _check(self, peer: Peer) -> None:
        region_id = peer.region.id
        self._metrics.checks.labels("all").inc()
        try:
            measured = await self._measure(peer)
            cuts = split_check.choose(measured, peer.region, self._limits)
            if cuts:
                await self.split(peer, cuts)
        except DbError as error:
            peer.size_known = False
            self._metrics.checks.labels("fail").inc()
            get_logger().info("split check failed", region=region_id, error=str(error))
        else:
            self._metrics.checks.labels("success" if cuts else "ignore").inc()

    async def split_by_half(self, peer: Peer) -> None:
        """Split a region in the middle of its bytes. Raises region errors, PdError, AdminRefused."""
        measured = await self._measure(peer)
        middle = split_check.half(measured, peer.region)
        if middle is None:
            raise AdminRefused(f"region {peer.region.id} has no two user keys to split between")
        await self.split(peer, [middle])

    async def split(self, peer: Peer, cuts: list[bytes]) -> None:
        """Split at keys in the encoding of region bounds. Raises region errors, PdError, AdminRefused."""
        try:
            async with asyncio.timeout(SPLIT_TIMEOUT_S):
                await split_region(self._store, self._pd, peer, cuts)
        except TimeoutError:
            raise UndeterminedResult(peer.region.id) from None

    async def _measure(self, peer: Peer) -> Measured:
        """Measure a region and correct its approximate numbers. Raises EpochNotMatch when it changed meanwhile."""
        async with self._measuring:
            clock, region = self._store.clock, peer.region
            size, keys = peer.approximate_size, peer.approximate_keys
            peer.unmeasured_bytes, peer.size_known = 0, False
            began = clock.monotonic()
            view = self._store.kv_db.snapshot(split_check.region_ranges(region))
            try:
                scan = RegionScan(view, self._limits.split_size)
                slice_began = began
                while await self._store.workers.run(scan.advance):
                    await asyncio.sleep(min(clock.monotonic() - slice_began, PAUSE_MAX_S))
                    slice_began = clock.monotonic()
            finally:
                view.release()
            self._metrics.duration.observe(clock.monotonic() - began)
        if peer.destroyed or peer.region.region_epoch.version != region.region_epoch.version:
            raise EpochNotMatch(f"region {region.id} was split or merged while it was measured", (peer.region,))
        measured = scan.result()
        peer.approximate_size += measured.size - size
        peer.approximate_keys += measured.keys - keys
        peer.size_known = True
        self._metrics.size.observe(measured.size)
        self._metrics.keys.observe(measured.keys)
        return measured
