"""The store's work for PD: telling it how the store and its regions are, and doing what it asks.

Region heartbeats are sent at once when leadership, membership or bounds change, and at an interval; when the stream
connects, all leaders are reported, because PD keeps regions in memory. Sleeping regions are reported less often. A command
PD sends is proposed if the region is still at the epoch it was meant for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

from core_py.errors import DbError, PdError
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2, pdpb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore import admin
from tikv_py.raftstore.listener import StoreListener
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import same_epoch
from tikv_py.raftstore.store import Store
from tikv_py.server.disk_watch import DiskWatch
from tikv_py.server.flow_report import FlowReport
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.split_worker import SplitWorker, split_region

RETRY_S = 0.5
SLEEPERS_EVERY = 5  # of a sleeping region PD hears every so many intervals: nothing in its report has changed
DOWN_PEER_S = 3.0  # silence after which a follower is reported, with its seconds; PD decides when that is too long


class PdWorker(StoreListener):
    """Hears from the store loop, speaks to PD."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        clock: Clock,
        metrics: StoreMetrics,
        splits: SplitWorker,
        disk: DiskWatch,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._fail = store.fail
        self._pd = pd
        self._clock = clock
        self._metrics = metrics
        self._splits = splits
        self._disk = disk
        self._scope = TaskScope("pd worker", on_failure=on_failure)
        self._due: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._stream = pd.region_heartbeat_stream()
        self._started_s = clock.wall_ms() // 1000
        self._turns_told = 0
        self._flows = FlowReport(clock.wall_ms())

    def start(self) -> None:
        """Begin."""
        self._store.listener = self
        self._scope.spawn(self._store_heartbeats(), name="store heartbeat")
        self._scope.spawn(self._region_heartbeats(), name="region heartbeat")
        self._scope.spawn(self._interval(), name="region heartbeat interval")
        self._scope.spawn(self._commands(), name="pd commands")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    def on_role_change(self, peer: Peer) -> None:
        """Leadership moved."""
        if peer.is_leader:
            # What it did as a follower the leader before has reported.
            peer.reported_flow, peer.reported_s = replace(peer.flow), self._clock.wall_ms() // 1000
            self._report(peer.region.id)

    def on_region_change(self, peer: Peer) -> None:
        """Bounds or members changed."""
        if peer.is_leader:
            self._report(peer.region.id)

    def on_split(self, regions: list[metapb_pb2.Region], *, is_leader: bool) -> None:
        """A leader's region was split."""
        if is_leader:
            self._scope.spawn(self._report_split(regions), name="report split")

    def on_apply(self, peer: Peer, entries: int) -> None:
        """Entries were applied."""
        self._metrics.applied.inc(entries)

    def on_sync(self, seconds: float) -> None:
        """The raft log was synced."""
        self._metrics.raft_syncs.inc()
        self._metrics.disk.append_log.observe(seconds)
        self._metrics.disk.slow_score.set(self._store.log_sync.slow_score.value)

    def on_channel_full(self, kind: str) -> None:
        """A message was dropped."""
        self._metrics.channel_full.labels(kind).inc()

    def _report(self, region_id: int) -> None:
        self._due[region_id] = None
        self._wake.set()

    async def _report_split(self, regions: list[metapb_pb2.Region]) -> None:
        try:
            if self._fail.armed and (reason := await self._fail.reach("pd_report_split")) is not None:
                raise PdError(f"failpoint: {reason}")
            await self._pd.report_batch_split(regions)
        except DbError as error:  # the heartbeats of the new regions say the same
            get_logger().info("split not reported", error=str(error))

    async def _store_heartbeats(self) -> None:
        while True:
            try:
                if self._fail.armed and (reason := await self._fail.reach("pd_store_heartbeat")) is not None:
                    raise PdError(f"failpoint: {reason}")
                await self._pd.store_heartbeat(self._store_stats())
                self._metrics.pd_heartbeat.labels("store").inc()
            except DbError as error:
                get_logger().warn("store heartbeat failed", error=str(error))
            await asyncio.sleep(float(self._store.config.pd_store_heartbeat_tick_interval))

    def _store_stats(self) -> pdpb_pb2.StoreStats:
        self._metrics.disk.slow_score.set(self._store.log_sync.slow_score.value)
        self._metrics.raft_turns.inc(self._store.turns - self._turns_told)
        self._turns_told = self._store.turns
        disk = self._disk
        peers = self._store.peers.values()
        used = self._store.kv_db.approximate_size()
        self._metrics.store_size.labels("capacity").set(disk.capacity)
        self._metrics.store_size.labels("available").set(disk.available)
        self._metrics.store_size.labels("used").set(used)
        self._metrics.region_count.labels("region").set(len(peers))
        leaders = missing = size = 0
        for peer in peers:  # there may be very many
            leader_id = peer.node.leader_id
            leaders += leader_id == peer.peer_id
            missing += not leader_id
            size += peer.approximate_size
        self._metrics.region_count.labels("leader").set(leaders)
        self._metrics.leader_missing.set(missing)
        self._metrics.region_size.set(size)
        self._metrics.engine_size.labels("kv").set(used)
        self._metrics.engine_size.labels("raft").set(self._store.raft_db.approximate_size())
        stats = pdpb_pb2.StoreStats(
            store_id=self._store.store_id,
            capacity=disk.capacity,
            available=disk.available,
            slow_score=int(self._store.log_sync.slow_score.value),
            used_size=used,
            region_count=len(peers),
            start_time=self._started_s,
        )
        self._flows.fill(stats, self._store.peers, self._clock.wall_ms())
        return stats

    async def _interval(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(float(self._store.config.pd_heartbeat_tick_interval))
            hibernation = self._store.hibernation
            for region_id, peer in self._store.peers.items():
                its_turn = (region_id + number) % SLEEPERS_EVERY == 0
                if peer.is_leader and (its_turn or not hibernation.is_asleep(region_id)):
                    self._report(region_id)

    def _report_all(self) -> None:
        for region_id, peer in self._store.peers.items():
            if peer.is_leader:
                self._report(region_id)

    async def _region_heartbeats(self) -> None:
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            region_id = next(iter(self._due))
            del self._due[region_id]
            peer = self._store.peers.get(region_id)
            if peer is None or not peer.is_leader:
                continue
            try:
                if self._fail.armed and (reason := await self._fail.reach("pd_region_heartbeat")) is not None:
                    raise PdError(f"failpoint: {reason}")
                await self._stream.send(self._heartbeat(peer))
                self._metrics.pd_heartbeat.labels("region").inc()
            except DbError as error:
                get_logger().warn("region heartbeat failed", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._report_all()

    def _heartbeat(self, peer: Peer) -> pdpb_pb2.RegionHeartbeatRequest:
        flow = peer.flow.since(peer.reported_flow)
        peer.reported_flow = replace(peer.flow)
        request = pdpb_pb2.RegionHeartbeatRequest(
            region=peer.region,
            leader=peer.meta(),
            term=peer.node.term,
            approximate_size=max(1, peer.approximate_size),  # 0 would mean that it was not measured
            approximate_keys=peer.approximate_keys,
            bytes_written=flow.written_bytes,
            keys_written=flow.written_keys,
            bytes_read=flow.read_bytes,
            keys_read=flow.read_keys,
        )
        request.interval.start_timestamp = peer.reported_s or self._started_s
        request.interval.end_timestamp = peer.reported_s = self._clock.wall_ms() // 1000
        now = self._clock.monotonic()
        if self._store.hibernation.is_asleep(peer.region.id):
            return request  # the members are silent because all is well
        for meta in peer.region.peers:
            if meta.id == peer.peer_id:
                continue
            silent = now - peer.heard.setdefault(meta.id, now)
            if silent >= DOWN_PEER_S:
                request.down_peers.add(peer=meta, down_seconds=int(silent))
            if not peer.has_caught_up(meta.id):
                request.pending_peers.append(meta)
        peer.pending = {meta.id for meta in request.pending_peers}
        return request

    async def _commands(self) -> None:
        while True:
            try:
                response = await self._stream.receive()
            except DbError as error:
                get_logger().warn("region heartbeat stream ended", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._report_all()
                continue
            peer = self._store.peers.get(response.region_id)
            if peer is not None and peer.is_leader and same_epoch(peer.region.region_epoch, response.region_epoch):
                self._scope.spawn(self._obey(peer, response), name="pd command")

    async def _obey(self, peer: Peer, response: pdpb_pb2.RegionHeartbeatResponse) -> None:
        try:
            if self._fail.armed and (reason := await self._fail.reach("pd_command")) is not None:
                raise PdError(f"failpoint: {reason}")
            if response.HasField("change_peer"):
                change = response.change_peer
                await admin.change_peers(self._store, peer, [(change.change_type, change.peer)])
            elif response.HasField("change_peer_v2"):
                changes = [(change.change_type, change.peer) for change in response.change_peer_v2.changes]
                await admin.change_peers(self._store, peer, changes)
            elif response.HasField("transfer_leader"):
                admin.transfer_leader(self._store, peer, response.transfer_leader.peer)
            elif response.HasField("merge"):
                await admin.merge_region(self._store, peer, response.merge.target)
            elif response.HasField("split_region"):
                await self._split(peer, response.split_region)
        except DbError as error:
            get_logger().info("pd command not done", region=response.region_id, error=str(error))

    async def _split(self, peer: Peer, command: pdpb_pb2.SplitRegion) -> None:
        if command.policy == pdpb_pb2.CheckPolicy.USEKEY:
            await split_region(self._store, self._pd, peer, list(command.keys))
        else:
            await self._splits.split_by_half(peer)
