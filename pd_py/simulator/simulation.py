"""One run: PD's real cluster (`pd_py.cluster.cluster`) and scheduling (`pd_py.schedule.core`) over a simulated world.

Stores and leaders report through the same messages and at the same intervals as real ones; only the metadata store, the clock and
the network are simulated. Every figure a case asserts is measured here.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import count
from random import Random

from pd_py.cluster.cluster import Cluster
from pd_py.schedule.core import SchedulingCore
from pd_py.schedule.operator import AddLearner, Operator, OperatorStatus, OpKind, Step, TransferLeader
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.placement.manager import RuleManager
from pd_py.schedule.placement.region_label import RegionLabeler
from pd_py.schedule.records import Finished
from pd_py.schedule.schedulers.registry import DEFAULTS, make_scheduler
from pd_py.schedule.view import RegionView
from pd_py.simulator.events import Events
from pd_py.simulator.metadata import MemoryMetadata
from pd_py.simulator.world import SimRegion, SimStore, World
from protos.kvproto import metapb_pb2, pdpb_pb2

CLUSTER_ID = 7
REGION_HEARTBEAT_S = 60
STORE_HEARTBEAT_S = 10.0
PATROL_S = 0.5
ROUND_S = 10.0
SCHEDULERS_S = 0.05
PD_IDS = 1 << 40
READS_REPORTED = 256


class Counts:
    """Hears of operators (`OperatorListener`)."""

    def __init__(self) -> None:
        self.created: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.peers_moved = self.leaders_moved = 0
        self.last_at = 0.0
        self.touched: set[int] = set()
        """Regions whose replicas or leadership were moved since this was last emptied."""
        self.events: Events | None = None

    def created_total(self) -> int:
        """How many operators began."""
        return sum(self.created.values())

    def created_by(self, *names: str) -> int:
        """How many operators of some descriptions began."""
        return sum(self.created[name] for name in names)

    def ended_by(self, status: OperatorStatus) -> int:
        """How many operators that ran ended in a way."""
        return sum(count for (_, name), count in self.ended.items() if name == status.value)

    def created_now(self, operator: Operator, now: float) -> None:
        """Count one that began."""
        self.created[operator.description] += 1
        self.last_at = now
        if not operator.kind & (OpKind.MERGE | OpKind.SPLIT):
            self.touched.add(operator.region_id)

    def ended_now(self, finished: Finished) -> None:
        """Count an end."""
        self.ended[finished.operator.description, finished.status.value] += 1
        if finished.status is OperatorStatus.SUCCESS:
            steps = finished.operator.steps
            self.peers_moved += sum(isinstance(step, AddLearner) for step in steps)
            self.leaders_moved += sum(isinstance(step, TransferLeader) for step in steps)


class Listener:
    """Brings operators' news to the counts with the time."""

    def __init__(self, counts: Counts, events: Events) -> None:
        self._counts = counts
        self._events = events

    def created(self, operator: Operator) -> None:
        """One began to run."""
        self._counts.created_now(operator, self._events.now)

    def ended(self, finished: Finished) -> None:
        """One ended; those that never ran are not counted."""
        if finished.started_at != finished.at or finished.status is OperatorStatus.SUCCESS:
            self._counts.ended_now(finished)


class Simulation:
    """A world with its PD."""

    def __init__(self, options: ScheduleOptions, seed: int) -> None:
        self.options = options
        self.events = Events()
        self.rng = Random(seed)
        self.world = World(self.events, self.rng)
        self.counts = Counts()
        meta = metapb_pb2.Cluster(id=CLUSTER_ID, max_peer_count=options.max_replicas)
        metadata = MemoryMetadata({f"/pd/{CLUSTER_ID}/raft": meta.SerializeToString()})
        self.cluster = Cluster(metadata, self.events, CLUSTER_ID, options=options)
        self.core = SchedulingCore(
            self.cluster,
            self.rng,
            self._tell,
            partial(next, count(PD_IDS)),
            rules=RuleManager(),
            labels=RegionLabeler(),
            listener=Listener(self.counts, self.events),
        )
        rules = self.core.rules
        rules.commit(rules.plan_default(options.max_replicas, options.location_labels, options.isolation_level))
        self.core.round_s = ROUND_S
        self.cluster.has_operator = self.core.controller.__contains__
        self.cluster.on_region = lambda region: self.core.on_region_heartbeat(region, self.events.now)
        self.cluster.regions.on_gone.append(lambda region: self.core.on_region_gone(region.region_id, self.events.now))
        self.world.report = self.region_heartbeat
        self.world.report_split = self._split
        self._wheel: list[list[int]] = [[] for _ in range(REGION_HEARTBEAT_S)]
        self._reported: set[int] = set()

    # begin

    def start(self) -> None:
        """Register all stores and regions with PD, and let time and schedulers begin."""
        for store in self.world.stores.values():
            self.join(store)
        for region in self.world.regions.values():
            self.region_heartbeat(region)
        for store in self.world.stores.values():
            self.store_heartbeat(store)  # what a store uses of its disk goes with the regions that are known
        for name in DEFAULTS:
            self.core.schedulers.add(make_scheduler(name, {}), 0.0)
        self.events.every(1.0, self._heartbeat_second)
        self.events.every(PATROL_S, lambda: self.core.patrol(self.events.now))
        self.events.every(SCHEDULERS_S, self._schedule)

    def join(self, store: SimStore) -> None:
        """A store registers and begins to report."""
        meta = metapb_pb2.Store(id=store.store_id, address=f"store{store.store_id}:20160", version="8.5.0")
        meta.labels.extend([metapb_pb2.StoreLabel(key=key, value=value) for key, value in store.labels])
        self.cluster.stores_info.put(meta, self.events.now)
        self.store_heartbeat(store)
        first = STORE_HEARTBEAT_S * self.rng.random()
        self.events.every(STORE_HEARTBEAT_S, lambda: self.store_heartbeat(store), first)

    def _schedule(self) -> None:
        if self.core.schedulers.next_at() <= self.events.now:
            self.core.run_schedulers(self.events.now)

    def _tell(self, region: RegionView, step: Step) -> None:
        self.world.take_step(region, step)

    # reports

    def _heartbeat_second(self) -> None:
        bucket = self._wheel[int(self.events.now) % REGION_HEARTBEAT_S]
        gone = False
        for region_id in bucket:
            region = self.world.regions.get(region_id)
            if region is None:
                gone = True
            else:
                self.region_heartbeat(region, REGION_HEARTBEAT_S)
        if gone:
            bucket[:] = [region_id for region_id in bucket if region_id in self.world.regions]

    def region_heartbeat(self, region: SimRegion, interval_s: int = 0) -> None:
        """A leader reports its region, if it lives."""
        leader = self.world.stores[region.leader]
        if not leader.alive:
            return
        if region.region_id not in self._reported:
            self._reported.add(region.region_id)
            self._wheel[self.rng.randrange(0, REGION_HEARTBEAT_S)].append(region.region_id)
        request = pdpb_pb2.RegionHeartbeatRequest(
            region=region_pb(region), term=region.term, approximate_size=region.size_bytes
        )
        request.approximate_keys = region.size_bytes // 100
        request.leader.CopyFrom(peer_pb(region, region.leader))
        now = self.events.now
        for store_id, peer in region.peers.items():
            if peer.peer_id in region.pending:
                request.pending_peers.append(peer_pb(region, store_id))
            store = self.world.stores[store_id]
            if not store.alive:
                silent = int(now - store.died_at)
                request.down_peers.append(pdpb_pb2.PeerStats(peer=peer_pb(region, store_id), down_seconds=silent))
        if interval_s:
            request.bytes_written = int(region.write_rate * interval_s)
            request.keys_written = int(region.write_rate * interval_s) // 100
            request.interval.start_timestamp = int(now) - interval_s
            request.interval.end_timestamp = int(now)
        self.cluster.region_heartbeat(request)

    def _split(self, parts: list[SimRegion]) -> None:
        self.cluster.region_split([region_pb(part) for part in parts])
        self.core.on_region_split([part.region_id for part in parts], self.events.now)

    def store_heartbeat(self, store: SimStore) -> None:
        """A store reports itself, if it lives."""
        if not store.alive:
            return
        seconds, now = int(STORE_HEARTBEAT_S), int(self.events.now)
        held = self.cluster.tree.held_by(store.store_id)
        used = held.region_bytes
        stats = pdpb_pb2.StoreStats(
            store_id=store.store_id,
            capacity=store.capacity,
            available=max(store.capacity - used, 0),
            used_size=used,
            region_count=held.region_count,
            receiving_snap_count=store.snapshots,
        )
        stats.interval.start_timestamp, stats.interval.end_timestamp = now - seconds, now
        for region in self.flowing:
            if store.store_id not in region.peers:
                continue
            stats.bytes_written += int(region.write_rate * seconds)
            stats.keys_written += int(region.write_rate * seconds) // 100
            if region.leader == store.store_id and region.read_rate:
                stats.bytes_read += int(region.read_rate * seconds)
                stats.keys_read += int(region.read_rate * seconds) // 100
                if len(stats.peer_stats) < READS_REPORTED:
                    peer = stats.peer_stats.add(region_id=region.region_id)
                    peer.read_bytes = int(region.read_rate * seconds)
                    peer.read_keys = int(region.read_rate * seconds) // 100
        self.cluster.store_heartbeat(stats)

    @property
    def flowing(self) -> list[SimRegion]:
        """Regions that are read or written; set once, before the start."""
        if self._flowing is None:
            self._flowing = [one for one in self.world.regions.values() if one.write_rate or one.read_rate]
        return self._flowing

    _flowing: list[SimRegion] | None = None

    # running

    def run_until_quiet(self, limit_s: float, quiet_s: float) -> float:
        """Run until no operator has begun for a while; returns when the last one did."""
        end = self.events.now + limit_s
        began = self.events.now
        while self.events.now < end:
            self.events.run_until(min(self.events.now + 10.0, end))
            quiet = self.events.now - max(self.counts.last_at, began)
            if quiet >= quiet_s and not len(self.core.controller):
                break
        return max(self.counts.last_at - began, 0.0)

    def run_for(self, seconds: float) -> None:
        """Run for a time."""
        self.events.run_until(self.events.now + seconds)


def region_pb(region: SimRegion) -> metapb_pb2.Region:
    """A region for the wire."""
    out = metapb_pb2.Region(id=region.region_id, start_key=region.start_key, end_key=region.end_key)
    out.region_epoch.conf_ver, out.region_epoch.version = region.conf_ver, region.version
    for store_id in region.peers:
        out.peers.append(peer_pb(region, store_id))
    return out


def peer_pb(region: SimRegion, store_id: int) -> metapb_pb2.Peer:
    """A replica for the wire."""
    peer = region.peers.get(store_id)
    if peer is None:
        return metapb_pb2.Peer()
    return metapb_pb2.Peer(id=peer.peer_id, store_id=store_id, role=metapb_pb2.PeerRole.Name(int(peer.role)))
