"""Watches every second which regions are read too much and splits them; the judging is `tikv_py.raftstore.load_split`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import DbError
from core_py.ports import Random
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.raftstore.config import LoadSplitConfig
from tikv_py.raftstore.load_split import HotReads, is_hot
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.server.metrics import SplitMetrics
from tikv_py.server.split_worker import SplitWorker

INTERVAL_S = 1.0


class LoadSplitWorker:
    """Attaches `HotReads` to the peers that deserve it."""

    def __init__(
        self,
        store: Store,
        splits: SplitWorker,
        config: LoadSplitConfig,
        rng: Random,
        metrics: SplitMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._splits = splits
        self._config = config
        self._rng = rng
        self._metrics = metrics
        self._scope = TaskScope("load split worker", on_failure=on_failure)
        self._last: dict[int, tuple[Peer, int, int]] = {}
        """By region: whose flow, its queries and its read bytes a second ago."""

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._seconds(), name="load split")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _seconds(self) -> None:
        clock = self._store.clock
        then = clock.monotonic()
        while True:
            await asyncio.sleep(INTERVAL_S)
            now = clock.monotonic()
            self._look(max(now - then, INTERVAL_S / 2))
            then = now

    def _look(self, seconds: float) -> None:
        last, self._last = self._last, {}
        for region_id in self._store.hibernation.awake:  # reading wakes a region: one that sleeps is not read
            peer = self._store.peers[region_id]
            if not peer.is_leader:
                peer.hot_reads = None
                continue
            flow = peer.flow
            queries = flow.read_keys - flow.scan_surplus
            self._last[region_id] = peer, queries, flow.read_bytes
            before = last.get(region_id)
            if before is None or before[0] is not peer:
                continue
            if is_hot(self._config, queries - before[1], flow.read_bytes - before[2], seconds):
                self._hot(peer)
            else:
                peer.hot_reads = None

    def _hot(self, peer: Peer) -> None:
        reads = peer.hot_reads
        if reads is None:
            peer.hot_reads = HotReads(self._config, self._rng)
            self._metrics.load_events.labels("load_fit").inc()
        elif reads.end_second():
            peer.hot_reads = None
            key = reads.split_key(peer.region)
            self._metrics.load_events.labels("no_fit_key" if key is None else "prepare_to_split").inc()
            if key is not None:
                self._scope.spawn(self._split(peer, key), name=f"load split of region {peer.region.id}")

    async def _split(self, peer: Peer, key: bytes) -> None:
        region_id = peer.region.id
        get_logger().info("splitting by load", region=region_id, key=key.hex())
        try:
            await self._splits.split(peer, [key])
        except DbError as error:
            get_logger().info("split by load failed", region=region_id, error=str(error))
