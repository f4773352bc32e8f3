"""The simulated stores and regions as they are, whatever PD knows of them, and how they take PD's steps.

A step takes as long as it would: a change of replicas or leadership some tens of milliseconds, a replica's snapshot its size by
the bandwidth of the slower of the two stores, one after the other; a merge about a second. A step of another epoch, or for a
leader that is gone, is dropped, as stores do. What must not happen whatever PD says (a leader that removes itself, two replicas
on one store, a loss of the majority) is counted in `broken`, which every run must end with empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from pd_py.schedule.operator import (
    AddLearner,
    AddPeer,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    MergeRegion,
    PromoteLearner,
    RemovePeer,
    SplitRegion,
    Step,
    TransferLeader,
)
from pd_py.schedule.options import MIB
from pd_py.schedule.view import PeerView, RegionView, Role
from pd_py.simulator.events import Events

CHANGE_S = 0.04
TRANSFER_S = 0.02
MERGE_S = 1.0
SNAPSHOT_S = 0.2
ELECTION_S = 10.0
BANDWIDTH = 100.0 * MIB
CAPACITY = 2 << 40


@dataclass(slots=True)
class SimStore:
    """A store. `free_at` is when its snapshots under way are done."""

    store_id: int
    labels: tuple[tuple[str, str], ...] = ()
    capacity: int = CAPACITY
    alive: bool = True
    died_at: float = 0.0
    free_at: float = 0.0
    snapshots: int = 0


@dataclass(slots=True)
class SimRegion:
    """A region as its replicas have it. Rates are per second."""

    region_id: int
    start_key: bytes
    end_key: bytes
    peers: dict[int, PeerView]
    leader: int
    size_bytes: int = 96 * MIB
    conf_ver: int = 1
    version: int = 1
    pending: set[int] = field(default_factory=set)
    write_rate: float = 0.0
    read_rate: float = 0.0
    term: int = 6


def key_of(number: int) -> bytes:
    """A key in the order of numbers."""
    return number.to_bytes(6, "big")


class World:
    """All stores and regions. `report` is called when a leader has news; `report_split` with the parts of a split."""

    def __init__(self, events: Events, rng: Random) -> None:
        self.events = events
        self.rng = rng
        self.stores: dict[int, SimStore] = {}
        self.regions: dict[int, SimRegion] = {}
        self.report: Callable[[SimRegion], None] = lambda _: None
        self.report_split: Callable[[list[SimRegion]], None] = lambda _: None
        self.broken: list[str] = []
        self.steps_taken = 0
        self._next_id = 1

    def fresh_id(self) -> int:
        """An id for a region or replica; PD's own are far above."""
        self._next_id += 1
        return self._next_id

    # making

    def add_store(self, labels: tuple[tuple[str, str], ...] = ()) -> SimStore:
        """One more store."""
        store = SimStore(len(self.stores) + 1, labels)
        self.stores[store.store_id] = store
        return store

    def add_region(self, start: bytes, end: bytes, stores: list[int], leader: int, size_bytes: int) -> SimRegion:
        """One more region, whole from the begin."""
        peers = {store_id: PeerView(self.fresh_id(), store_id) for store_id in sorted(stores)}
        region = SimRegion(self.fresh_id(), start, end, peers, leader, size_bytes)
        self.regions[region.region_id] = region
        return region

    # failing

    def kill(self, store_id: int) -> None:
        """A store dies; its leaders are followed by others where a majority is left."""
        store = self.stores[store_id]
        store.alive, store.died_at = False, self.events.now
        for region in list(self.regions.values()):
            if region.leader == store_id:
                self.events.after(ELECTION_S + self.rng.random(), lambda region=region: self._elect(region))  # type: ignore[misc]

    def _elect(self, region: SimRegion) -> None:
        if region.region_id not in self.regions or self.stores[region.leader].alive:
            return
        voters = [peer for peer in region.peers.values() if peer.role is not Role.LEARNER]
        able = [peer for peer in voters if self.stores[peer.store_id].alive and peer.peer_id not in region.pending]
        if 2 * len(able) > len(voters):
            region.leader = able[self.rng.randrange(0, len(able))].store_id
            region.term += 1
            self.report(region)

    # steps

    def take_step(self, told: RegionView, step: Step) -> None:
        """PD told a region's leader to take a step."""
        self.events.after(TRANSFER_S * self.rng.random(), lambda: self._take(told, step))

    def _take(self, told: RegionView, step: Step) -> None:
        region = self.regions.get(told.region_id)
        if region is None or (region.conf_ver, region.version) != (told.conf_ver, told.version):
            return
        if region.leader != told.leader_store_id or not self.stores[region.leader].alive:
            return
        self.steps_taken += 1
        if isinstance(step, AddLearner | AddPeer):
            self._add(region, step)
        elif isinstance(step, PromoteLearner):
            self._change(region, {step.store_id: Role.VOTER}, 1)
        elif isinstance(step, RemovePeer):
            self._remove(region, step)
        elif isinstance(step, ChangePeerV2Enter):
            self._enter(region, step)
        elif isinstance(step, ChangePeerV2Leave):
            self._leave(region)
        elif isinstance(step, TransferLeader):
            self._transfer(region, step)
        elif isinstance(step, SplitRegion):
            self.split(region, list(step.keys) or [middle(region)])
        elif isinstance(step, MergeRegion):
            self._merge(region, step)

    def _later(self, region: SimRegion, seconds: float, change: Callable[[], None]) -> None:
        """Make a change after a while if nothing else changed meanwhile, and report it."""
        epoch = (region.conf_ver, region.version)

        def act() -> None:
            if self.regions.get(region.region_id) is region and (region.conf_ver, region.version) == epoch:
                change()
                self.report(region)

        self.events.after(seconds * (0.5 + self.rng.random()), act)

    def _add(self, region: SimRegion, step: AddLearner | AddPeer) -> None:
        if step.store_id in region.peers:
            return
        role = Role.LEARNER if isinstance(step, AddLearner) else Role.VOTER

        def change() -> None:
            region.peers[step.store_id] = PeerView(step.peer_id, step.store_id, role)
            region.conf_ver += 1
            region.pending.add(step.peer_id)
            self._send_snapshot(region, step.store_id, step.peer_id)

        self._later(region, CHANGE_S, change)

    def _send_snapshot(self, region: SimRegion, store_id: int, peer_id: int) -> None:
        sender, receiver = self.stores[region.leader], self.stores[store_id]
        start = max(self.events.now, receiver.free_at)
        done = start + SNAPSHOT_S + region.size_bytes / BANDWIDTH
        receiver.free_at = done
        sender.snapshots += 1
        receiver.snapshots += 1

        def arrived() -> None:
            sender.snapshots -= 1
            receiver.snapshots -= 1
            if receiver.alive and peer_id in region.pending:
                region.pending.discard(peer_id)
                self.report(region)

        self.events.after(done - self.events.now, arrived)

    def _remove(self, region: SimRegion, step: RemovePeer) -> None:
        if step.store_id == region.leader:
            self.broken.append(f"the leader of region {region.region_id} was told to remove itself")
            return
        peer = region.peers.get(step.store_id)
        if peer is None or peer.peer_id != step.peer_id:
            return

        def change() -> None:
            del region.peers[step.store_id]
            region.pending.discard(step.peer_id)
            region.conf_ver += 1
            self._look(region)

        self._later(region, CHANGE_S, change)

    def _change(self, region: SimRegion, roles: dict[int, Role], count: int) -> None:
        if any(store_id not in region.peers for store_id in roles):
            return

        def change() -> None:
            for store_id, role in roles.items():
                region.peers[store_id] = replace(region.peers[store_id], role=role)
            region.conf_ver += count
            self._look(region)

        self._later(region, CHANGE_S, change)

    def _enter(self, region: SimRegion, step: ChangePeerV2Enter) -> None:
        single = len(step.promotes) + len(step.demotes) == 1
        roles = {one.store_id: Role.VOTER if single else Role.INCOMING_VOTER for one in step.promotes}
        demotes: dict[int, Role] = {
            one.store_id: Role.LEARNER if single else Role.DEMOTING_VOTER for one in step.demotes
        }
        if single and region.leader in demotes:
            self.broken.append(f"the leader of region {region.region_id} was told to lose its vote")
            return
        self._change(region, roles | demotes, len(roles) + len(demotes))

    def _leave(self, region: SimRegion) -> None:
        after = {Role.INCOMING_VOTER: Role.VOTER, Role.DEMOTING_VOTER: Role.LEARNER}
        roles = {peer.store_id: after[peer.role] for peer in region.peers.values() if peer.role in after}
        if roles.get(region.leader) is Role.LEARNER:
            self.broken.append(f"the leader of region {region.region_id} was told to lose its vote")
            return
        if roles:
            self._change(region, roles, len(roles))

    def _transfer(self, region: SimRegion, step: TransferLeader) -> None:
        peer = region.peers.get(step.to_store_id)
        if peer is None or peer.role in (Role.LEARNER, Role.DEMOTING_VOTER) or not self.stores[peer.store_id].alive:
            return

        def change() -> None:
            region.leader = step.to_store_id
            region.term += 1

        if peer.peer_id not in region.pending:
            self._later(region, TRANSFER_S, change)

    def _look(self, region: SimRegion) -> None:
        """A region must keep a majority that lives."""
        voters = [one for one in region.peers.values() if one.role in (Role.VOTER, Role.INCOMING_VOTER)]
        alive = sum(self.stores[one.store_id].alive and one.peer_id not in region.pending for one in voters)
        if 2 * alive <= len(voters):
            self.broken.append(f"region {region.region_id} has {alive} living voters of {len(voters)}")

    def split(self, region: SimRegion, keys: list[bytes]) -> None:
        """A region splits at keys; the last part keeps the id."""
        keys = [key for key in keys if region.start_key < key and (not region.end_key or key < region.end_key)]
        if not keys:
            return
        count = len(keys) + 1
        starts, ends = [region.start_key, *keys], [*keys, region.end_key]
        size, rates = region.size_bytes // count, (region.write_rate / count, region.read_rate / count)
        parts = []
        for start, end in zip(starts[:-1], ends[:-1], strict=True):
            part = self.add_region(start, end, list(region.peers), region.leader, size)
            part.peers = {one: PeerView(self.fresh_id(), one, peer.role) for one, peer in region.peers.items()}
            part.version, part.conf_ver = region.version + len(keys), region.conf_ver
            part.write_rate, part.read_rate = rates
            parts.append(part)
        region.start_key, region.size_bytes = starts[-1], size
        region.version += len(keys)
        region.write_rate, region.read_rate = rates
        self.report_split([*parts, region])
        for part in [*parts, region]:
            self.report(part)

    def _merge(self, region: SimRegion, step: MergeRegion) -> None:
        target = self.regions.get(step.target.region_id)
        if step.passive or target is None or target.version != step.target.version:
            return
        if set(target.peers) != set(region.peers):
            self.broken.append(f"region {region.region_id} was merged into {target.region_id} across stores")
            return

        def act() -> None:
            if self.regions.get(region.region_id) is not region or self.regions.get(target.region_id) is not target:
                return
            if region.end_key and region.end_key == target.start_key:
                target.start_key = region.start_key
            elif region.start_key and region.start_key == target.end_key:
                target.end_key = region.end_key
            else:
                return
            target.version = max(target.version, region.version) + 1
            target.size_bytes += region.size_bytes
            del self.regions[region.region_id]
            self.report(target)

        self.events.after(MERGE_S * (0.5 + self.rng.random()), act)


def middle(region: SimRegion) -> bytes:
    """A key in the middle of a region."""
    start = int.from_bytes(region.start_key or b"\x00", "big")
    end = int.from_bytes(region.end_key, "big") if region.end_key else 1 << 47
    return key_of((start + end) // 2)
