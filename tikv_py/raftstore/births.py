"""How peers come to be: loaded at start, or born by a split.

A birth by split takes effect in two steps, because two databases cannot be written at once: first the kv database says so
durably, then the peer starts (`Store.unsettled` holds its id and range until then). Otherwise a loss of power could bring back
a region whose range another one has taken meanwhile. Region ranges of initialized peers never overlap on a store.

What it does not do: create peers for messages (`arrivals`), or fill them with a snapshot (`snapshots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_py.errors import DataCorruption
from core_py.region_errors import RegionNotFound
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_RAFT, WriteBatch
from tikv_py.raftstore import damage, keys
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import (
    PeerStorage,
    clear_raft_data,
    initial_apply_state,
    load_raft_state,
    region_state_bytes,
)
from tikv_py.raftstore.region import find_peer, overlaps

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


async def load_peers(store: Store) -> None:
    """Finish snapshots that a crash interrupted, then load every peer and tombstone. Called once, before the loop runs.

    Raises DataCorruption for a region whose records contradict each other or those of another.
    """
    await store.snapshots.recover()
    for key, data in store.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX):
        region_id = keys.decode_region_state_key(key)
        state = damage.parsed(serverpb.RegionLocalState, data, region_id, "region state")
        region = state.region
        if region.id != region_id:
            raise damage.damaged(region_id, f"its region state is that of region {region.id}")
        store.may_have_promised = True
        if state.state == serverpb.Tombstone:
            store.tombstones[region.id] = region
            if state.HasField("merge_state"):
                store.merged[region.id] = state.merge_state.target
            _finish_burial(store, region.id)
            continue
        meta = find_peer(region, store_id=store.store_id)
        if meta is None:
            raise DataCorruption(
                f"region {region.id} on disk has no peer on store {store.store_id}: the data directory is another store's"
            )
        peer = add_peer(store, region, meta, restarted=True)
        peer.storage.merged_records = tuple(state.merged_records)
        if state.state == serverpb.Merging:
            peer.storage.merge = state.merge_state
            store.closed.add(region.id)
        if len(region.peers) == 1:
            peer.node.campaign()  # nobody else can lead, so there is nothing to wait for
    damage.check_overlap([peer.region for peer in store.peers.values() if peer.storage.is_initialized])


def _finish_burial(store: Store, region_id: int) -> None:
    """Remove the log that a crash left behind a tombstone. A state without a log is the vote of a peer that came later."""
    left = load_raft_state(store.raft_db, region_id)
    if left is not None and left[1] > 0:
        batch = store.raft_db.batch()
        clear_raft_data(batch, region_id)
        store.raft_db.write(batch)


def add_peer(store: Store, region: metapb_pb2.Region, meta: metapb_pb2.Peer, *, restarted: bool) -> Peer:
    """Make a peer from what is on disk and register it.

    A peer that was here before, if only as one created by a message, may have promised a leader its lease: it counts as
    restarted too, and so does any peer that comes up soon after its store.
    """
    restarted = restarted or store.is_recently_restarted() or load_raft_state(store.raft_db, region.id) is not None
    storage = PeerStorage.load(store.raft_db, store.kv_db, region, store.entry_cache)
    peer = Peer(
        storage,
        meta,
        store.config,
        store.rng,
        restarted=restarted,
        fail=store.fail,
        disk=store.disk,
        budget=store.write_budget,
    )
    storage.make_snapshot = lambda to: store.snapshots.make(peer, to)
    store.peers[region.id] = peer
    store.hibernation.add(region.id)
    store.activate(region.id)
    return peer


def holder_of_range(store: Store, region: metapb_pb2.Region, *, besides: frozenset[int] = frozenset()) -> int | None:
    """The id of another region that holds a part of this one's range on this store, or will until its end is durable.

    Peers of the regions `besides` do not count: they end with what takes their range.
    """
    for other in store.peers.values():
        known = other.region.id == region.id or other.region.id in besides
        if not known and other.storage.is_initialized and overlaps(other.region, region):
            return other.region.id
    for region_id, unsettled in store.unsettled.items():
        if region_id != region.id and unsettled is not None and overlaps(unsettled, region):
            return region_id
    return None


def create_split_peers(store: Store, parent: Peer, regions: list[metapb_pb2.Region], kv_batch: WriteBatch) -> None:
    """The new regions of a split: written in the batch that applies it, started when that batch is durable."""
    share = len(regions)
    parent.approximate_size //= share
    parent.approximate_keys //= share
    parent.size_known = False
    for region in regions[:-1]:
        existing = store.peers.get(region.id)
        meta = find_peer(region, store_id=store.store_id)
        if meta is None or (existing is not None and existing.storage.is_initialized):
            continue
        if existing is not None:  # created by a message of a faster replica; the split tells it what it is
            existing.destroyed = True
            existing.fail_all(RegionNotFound(region.id))
            store.hibernation.remove(region.id)
            del store.peers[region.id]
        records = parent.storage.merged_records
        state = region_state_bytes(region, serverpb.Normal, merged_records=records)
        kv_batch.put(CF_RAFT, keys.region_state_key(region.id), state)
        kv_batch.put(CF_RAFT, keys.apply_state_key(region.id), initial_apply_state().to_bytes())
        store.unsettled[region.id] = region
        child = Child(region, meta, records, parent.approximate_size, parent.approximate_keys)
        store.scope.spawn(_start_split_peer(store, child, lead=parent.is_leader), name=f"region {region.id}")
    get_logger().info("region split", region=parent.region.id, into=",".join(str(region.id) for region in regions))
    store.listener.on_split(regions, is_leader=parent.is_leader)


@dataclass(frozen=True, slots=True)
class Child:
    """A region that a split has made, before its peer on this store runs."""

    region: metapb_pb2.Region
    meta: metapb_pb2.Peer
    merged_records: tuple[serverpb.MergedRecord, ...]
    approximate_size: int
    approximate_keys: int


async def _start_split_peer(store: Store, child: Child, *, lead: bool) -> None:
    region = child.region
    if store.fail.armed:
        await store.fail.reach("split_peer_before_sync")
    await store.workers.sync(store.kv_db.sync_wal)
    if store.fail.armed:
        await store.fail.reach("split_peer_before_start")
    del store.unsettled[region.id]
    peer = add_peer(store, region, child.meta, restarted=False)
    peer.storage.merged_records = child.merged_records
    peer.approximate_size, peer.approximate_keys = child.approximate_size, child.approximate_keys
    if lead:
        peer.node.campaign()
    for message in store.early_votes.take(region.id, store.clock.monotonic()):
        store.deliver(message)
    store.activate(region.id)
