"""A step of an operator as the region's leader is told it."""

from __future__ import annotations

from pd_py.cluster.convert import peer_pb, region_pb
from pd_py.schedule.operator import (
    AddLearner,
    AddPeer,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    DemoteVoter,
    MergeRegion,
    PromoteLearner,
    RemovePeer,
    SplitPolicy,
    SplitRegion,
    Step,
    TransferLeader,
)
from pd_py.schedule.view import PeerView, RegionView, Role
from protos.kvproto import eraftpb_pb2, pdpb_pb2

_POLICIES = {
    SplitPolicy.SCAN: pdpb_pb2.SCAN,
    SplitPolicy.APPROXIMATE: pdpb_pb2.APPROXIMATE,
    SplitPolicy.USEKEY: pdpb_pb2.USEKEY,
}


def step_command(region: RegionView, step: Step) -> pdpb_pb2.RegionHeartbeatResponse | None:
    """The command; None when there is nothing to say, for the step only waits."""
    response = pdpb_pb2.RegionHeartbeatResponse()
    if isinstance(step, AddLearner | AddPeer):
        if region.on_store(step.store_id) is not None:
            return None  # it is there and catches up
        learner = isinstance(step, AddLearner)
        kind = eraftpb_pb2.AddLearnerNode if learner else eraftpb_pb2.AddNode
        role = Role.LEARNER if learner else Role.VOTER
        _change(response.change_peer, kind, PeerView(step.peer_id, step.store_id, role))
    elif isinstance(step, PromoteLearner):
        _change(response.change_peer, eraftpb_pb2.AddNode, PeerView(step.peer_id, step.store_id))
    elif isinstance(step, DemoteVoter):
        peer = PeerView(step.peer_id, step.store_id, Role.LEARNER)
        _change(response.change_peer, eraftpb_pb2.AddLearnerNode, peer)
    elif isinstance(step, RemovePeer):
        peer = region.on_store(step.store_id) or PeerView(step.peer_id, step.store_id)
        _change(response.change_peer, eraftpb_pb2.RemoveNode, peer)
    elif isinstance(step, ChangePeerV2Enter):
        _enter(response.change_peer_v2, step)
    elif isinstance(step, ChangePeerV2Leave):
        response.change_peer_v2.SetInParent()
    elif isinstance(step, TransferLeader):
        _transfer(response.transfer_leader, region, step)
    elif isinstance(step, MergeRegion):
        if step.passive:
            return None
        response.merge.target.CopyFrom(region_pb(step.target))
    elif isinstance(step, SplitRegion):
        response.split_region.policy = _POLICIES[step.policy]
        response.split_region.keys.extend(step.keys)
    return response


def _change(out: pdpb_pb2.ChangePeer, kind: eraftpb_pb2.ConfChangeType, peer: PeerView) -> None:
    out.change_type = kind
    out.peer.CopyFrom(peer_pb(peer))


def _enter(out: pdpb_pb2.ChangePeerV2, step: ChangePeerV2Enter) -> None:
    for promote in step.promotes:
        _change(out.changes.add(), eraftpb_pb2.AddNode, PeerView(promote.peer_id, promote.store_id))
    for demote in step.demotes:
        peer = PeerView(demote.peer_id, demote.store_id, Role.LEARNER)
        _change(out.changes.add(), eraftpb_pb2.AddLearnerNode, peer)


def _transfer(out: pdpb_pb2.TransferLeader, region: RegionView, step: TransferLeader) -> None:
    out.SetInParent()
    target = region.on_store(step.to_store_id)
    if target is not None:
        out.peer.CopyFrom(peer_pb(target))
    for store_id in step.also:
        other = region.on_store(store_id)
        if other is not None:
            out.peers.append(peer_pb(other))
