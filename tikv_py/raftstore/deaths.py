"""How peers end: removed from their region, told so by a message, or merged into another region.

A death takes effect in two steps, because two databases cannot be written at once: first the kv database has the tombstone
durably, then the raft database follows and the region's id and range are free for others (`Store.unsettled` holds them
until then). Otherwise a loss of power could bring back a region whose range another one has taken meanwhile, or whose log
is gone already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_py.region_errors import RegionNotFound
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_RAFT, WriteBatch
from tikv_py.raftstore import keys
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import (
    clear_raft_data,
    region_state_bytes,
)
from tikv_py.raftstore.region import find_peer, is_older

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


def region_changed(store: Store, peer: Peer, kv_batch: WriteBatch) -> None:
    """After a membership change or split of this peer: destroy it when it is no longer a member, tell the listeners."""
    meta = find_peer(peer.region, peer_id=peer.peer_id)
    if meta is None:
        _destroy(store, peer, peer.region, kv_batch)
        return
    if peer.storage.merge is not None:
        store.closed.add(peer.region.id)
    else:
        store.closed.discard(peer.region.id)
    members = {member.id for member in peer.region.peers}
    peer.peer_cache = {meta.id: meta}
    peer.heard = {peer_id: at for peer_id, at in peer.heard.items() if peer_id in members}
    store.listener.on_region_change(peer)


def destroy_now(store: Store, peer: Peer, epoch: metapb_pb2.RegionEpoch) -> None:
    """Destroy a peer outside of apply (a message said so); not while a snapshot is brought in, the sender will say it again."""
    if peer.snapshot is not None:
        return
    region = metapb_pb2.Region()
    region.CopyFrom(peer.region)
    if is_older(region.region_epoch, epoch):
        region.region_epoch.conf_ver = max(epoch.conf_ver, region.region_epoch.conf_ver)
    kv_batch = store.kv_db.batch()
    _destroy(store, peer, region, kv_batch)
    store.kv_db.write(kv_batch)


def destroy_merged(store: Store, peer: Peer, target: metapb_pb2.Region) -> None:
    """Destroy a peer, with its data, whose region became a part of `target` without it."""
    kv_batch = store.kv_db.batch()
    _destroy(store, peer, peer.region, kv_batch, merged_into=target)
    store.kv_db.write(kv_batch)


def absorb(store: Store, peer: Peer, target: metapb_pb2.Region, kv_batch: WriteBatch) -> None:
    """End a peer whose range and data `target` takes over in the same batch."""
    if store.fail.armed:
        store.fail.hit("merge_absorb")
    _destroy(store, peer, peer.region, kv_batch, merged_into=target, keep_data=True)


def _destroy(
    store: Store,
    peer: Peer,
    region: metapb_pb2.Region,
    kv_batch: WriteBatch,
    *,
    merged_into: metapb_pb2.Region | None = None,
    keep_data: bool = False,
) -> None:
    if store.fail.armed:
        store.fail.hit("destroy_before_tombstone")
    peer.storage.clear_kv(kv_batch, keep_data=keep_data)
    region = end(store, peer, region, merged_into, holds_range=not keep_data)
    put_tombstone(kv_batch, region, merged_into)
    store.scope.spawn(_bury(store, region.id), name=f"burial of region {region.id}")


def end(
    store: Store,
    peer: Peer,
    region: metapb_pb2.Region,
    merged_into: metapb_pb2.Region | None = None,
    *,
    holds_range: bool,
) -> metapb_pb2.Region:
    """End a peer in memory; the region for its tombstone.

    Until that is durable the region's id is not free, and neither is its range when it `holds_range`.
    """
    peer.destroyed = True
    store.hibernation.remove(region.id)
    store.closed.discard(region.id)
    store.unsettled[region.id] = peer.region if holds_range and peer.storage.is_initialized else None
    store.snapshots.forget(region.id)
    store.consistency.forget(region.id)
    if find_peer(region, store_id=store.store_id) is None:
        tombstone = metapb_pb2.Region()
        tombstone.CopyFrom(region)
        tombstone.peers.append(peer.peer_cache[peer.peer_id])
        region = tombstone
    store.tombstones[region.id] = region
    if merged_into is not None:
        store.merged[region.id] = merged_into
    store.peers.pop(region.id, None)
    peer.fail_all(RegionNotFound(region.id))
    get_logger().info("peer destroyed", region=region.id, peer=peer.peer_id)
    store.listener.on_destroy(region.id)
    return region


def put_tombstone(kv_batch: WriteBatch, region: metapb_pb2.Region, merged_into: metapb_pb2.Region | None) -> None:
    """Add a region's end to a kv database batch."""
    merge_state = None if merged_into is None else serverpb.MergeState(target=merged_into)
    state = region_state_bytes(region, serverpb.Tombstone, merge=merge_state)
    kv_batch.put(CF_RAFT, keys.region_state_key(region.id), state)


async def _bury(store: Store, region_id: int) -> None:
    """The log goes when the tombstone is durable: without it the log would be needed to start the peer again."""
    if store.fail.armed:
        await store.fail.reach("burial_before_sync")
    await store.workers.sync(store.kv_db.sync_wal)
    if store.fail.armed:
        await store.fail.reach("burial_before_clear")
    batch = store.raft_db.batch()
    clear_raft_data(batch, region_id)
    store.raft_db.write(batch)
    if store.fail.armed:
        await store.fail.reach("burial_before_release")
    del store.unsettled[region_id]
