"""Admin commands as the store's own callers give them: split, merge, membership change, leader transfer."""

from __future__ import annotations

from collections.abc import Sequence

from core_py.codec import eraft
from core_py.raft.errors import RaftError
from core_py.raft.messages import ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType
from protos.kvproto import metapb_pb2
from tikv_py.raftstore import commands, merge, region
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store


async def split(store: Store, peer: Peer, splits: list[tuple[bytes, int, list[int]]]) -> list[metapb_pb2.Region]:
    """Split at (key, new region id, new peer ids) each; all parts from left to right.

    Raises region errors, AdminRefused.
    """
    request = commands.batch_split(splits)
    region.split(peer.region, request.splits)  # refuse now what every replica would refuse
    data = commands.admin_command(peer.region, request).SerializeToString()
    outcome = await store.admin(peer.region.id, lambda found: found.propose_admin(data))
    return outcome.new_regions


async def change_peers(store: Store, peer: Peer, changes: Sequence[tuple[int, metapb_pb2.Peer]]) -> None:
    """Change members: one change simply, several through a joint state, none leaves it.

    Raises region errors, AdminRefused, ConfChangeRefused.
    """
    if store.fail.armed and (reason := store.fail.hit("change_peers")) is not None:
        raise region.AdminRefused(f"failpoint: {reason}")
    request = commands.change_peers(changes)
    changed = region.change_peers(peer.region, list(request.change_peer_v2.changes))
    if region.find_peer(changed, peer_id=peer.peer_id) is None:
        raise region.AdminRefused(
            f"the leader of region {changed.id} does not remove itself; transfer leadership first"
        )
    singles = tuple(ConfChangeSingle(ConfChangeType(int(kind)), meta.id) for kind, meta in changes)
    transition = ConfChangeTransition.EXPLICIT if len(singles) > 1 else ConfChangeTransition.AUTO
    change = ConfChange(singles, b"", transition)
    command = commands.admin_command(peer.region, request).SerializeToString()
    data = eraft.conf_change_to_bytes(change, command)
    await store.admin(peer.region.id, lambda found: found.propose_conf_change(change, data))


async def merge_region(store: Store, peer: Peer, target: metapb_pb2.Region) -> None:
    """Close the region for a merge into its neighbour; whether that was finished or undone shows in the regions.

    Raises region errors, AdminRefused.
    """
    await store.admin(peer.region.id, lambda found: found.propose_admin(merge.prepare(store, found, target)))


def transfer_leader(store: Store, peer: Peer, target: metapb_pb2.Peer) -> None:
    """Ask the core to hand leadership over; whether it happens shows in the next heartbeat. Raises DbError."""
    if store.fail.armed and (reason := store.fail.hit("transfer_leader")) is not None:
        raise region.AdminRefused(f"failpoint: {reason}")
    meta = region.find_peer(peer.region, peer_id=target.id)
    if meta is None or meta.role != region.VOTER:
        raise region.AdminRefused(f"peer {target.id} is no voter of region {peer.region.id}")
    try:
        peer.node.transfer_leader(target.id)
    except RaftError as error:
        raise peer.to_region_error(error) from error
    store.activate(peer.region.id)
