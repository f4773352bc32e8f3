"""The nemesis's membership changes: one at a time or several through a joint configuration, against PD's own wishes.

PD works at the same time to get back to three voters; that the two contradict each other is the point.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from core_py.errors import DbError
from protos.kvproto import eraftpb_pb2, metapb_pb2
from tests.support.storage_cluster import Node
from tikv_py.raftstore import admin
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store

if TYPE_CHECKING:
    from tests.sim.nemesis import Nemesis

PROPOSE_TIMEOUT_S = 2.0

Change = tuple[int, metapb_pb2.Peer]
NAMES: dict[int, str] = {
    eraftpb_pb2.AddNode: "voter",
    eraftpb_pb2.AddLearnerNode: "learner",
    eraftpb_pb2.RemoveNode: "remove",
}


async def change(nemesis: Nemesis, _node: Node) -> None:
    """Change the members of some region, or leave a joint configuration."""
    leaders = nemesis.leaders()
    if not leaders:
        return
    node, store, peer = nemesis.rng.choice(leaders)
    if is_joint(peer.region):
        await propose(nemesis, node, store, peer, [])
        return
    try:
        async with asyncio.timeout(PROPOSE_TIMEOUT_S):
            candidates = await possible(nemesis, node, peer)
    except (DbError, TimeoutError) as error:
        nemesis.note(f"no new peer id: {type(error).__name__}", node, peer.region.id)
        return
    count = min(nemesis.rng.choice((1, 1, 2, 2, 3)), len(candidates))
    chosen = nemesis.rng.sample(candidates, count)
    if count > 1:  # a voter is demoted first, not removed, on the way through a joint configuration
        chosen = [
            (eraftpb_pb2.AddLearnerNode, meta) if _removes_voter(kind, meta) else (kind, meta) for kind, meta in chosen
        ]
    if chosen:
        await propose(nemesis, node, store, peer, chosen)


def is_joint(region: metapb_pb2.Region) -> bool:
    """Whether the region is between two configurations."""
    return any(peer.role in (metapb_pb2.IncomingVoter, metapb_pb2.DemotingVoter) for peer in region.peers)


def _removes_voter(kind: int, meta: metapb_pb2.Peer) -> bool:
    return kind == eraftpb_pb2.RemoveNode and meta.role == metapb_pb2.Voter


async def possible(nemesis: Nemesis, node: Node, peer: Peer) -> list[Change]:
    """One change for each store: a peer more, a promotion, a demotion or a removal. Raises DbError."""
    region = peer.region
    changes: list[Change] = []
    members = {meta.store_id: meta for meta in region.peers}
    assert node.server is not None
    for other in nemesis.cluster.nodes:
        if other.server is None or other.server.store is None:
            continue
        store_id = other.server.store.store_id
        meta = members.get(store_id)
        if meta is None:
            new = metapb_pb2.Peer(id=await node.server.pd.alloc_id(), store_id=store_id)
            kind = nemesis.rng.choice((eraftpb_pb2.AddNode, eraftpb_pb2.AddLearnerNode))
            changes.append((kind, new))
        elif meta.id != peer.peer_id:
            up = eraftpb_pb2.AddNode if meta.role == metapb_pb2.Learner else eraftpb_pb2.AddLearnerNode
            changes.append((nemesis.rng.choice((up, eraftpb_pb2.RemoveNode)), meta))
    return changes


async def propose(nemesis: Nemesis, node: Node, store: Store, peer: Peer, changes: list[Change]) -> None:
    """Propose and wait a while."""
    text = ", ".join(f"{NAMES[kind]} {meta.id}@{meta.store_id}" for kind, meta in changes) or "leave the joint state"
    nemesis.note(f"members: {text}", node, peer.region.id)
    try:
        async with asyncio.timeout(PROPOSE_TIMEOUT_S):
            await admin.change_peers(store, peer, changes)
    except (DbError, TimeoutError) as error:
        nemesis.note(f"members not changed: {type(error).__name__}", node, peer.region.id)


async def leave_all_joint(nemesis: Nemesis) -> None:
    """PD neither enters joint configurations nor ends them: whoever made them does. To be called until none is left."""
    for node, store, peer in nemesis.leaders():
        if is_joint(peer.region):
            await propose(nemesis, node, store, peer, [])
