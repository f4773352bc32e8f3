"""Plays steps of operators on a region, as its stores would."""

from __future__ import annotations

from dataclasses import replace

from pd_py.schedule.operator import (
    AddLearner,
    AddPeer,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    DemoteVoter,
    Operator,
    PromoteLearner,
    RemovePeer,
    Step,
    TransferLeader,
)
from pd_py.schedule.view import PeerView, RegionView, Role

JOINT = {Role.INCOMING_VOTER, Role.DEMOTING_VOTER}


def play(region: RegionView, step: Step) -> RegionView:
    """The region after a step. Asserts what a store would refuse."""
    peers = {peer.store_id: peer for peer in region.peers}
    changed = 1
    leader = region.leader_store_id
    if isinstance(step, AddLearner | AddPeer):
        assert step.store_id not in peers, "two replicas on one store"
        role = Role.LEARNER if isinstance(step, AddLearner) else Role.VOTER
        peers[step.store_id] = PeerView(step.peer_id, step.store_id, role)
    elif isinstance(step, PromoteLearner):
        assert peers[step.store_id].role is Role.LEARNER
        peers[step.store_id] = PeerView(step.peer_id, step.store_id, Role.VOTER)
    elif isinstance(step, RemovePeer):
        assert step.store_id != leader, "a leader removes itself"
        assert peers[step.store_id].peer_id == step.peer_id
        del peers[step.store_id]
    elif isinstance(step, TransferLeader):
        assert leader == step.from_store_id
        assert peers[step.to_store_id].role in (Role.VOTER, Role.INCOMING_VOTER)
        leader, changed = step.to_store_id, 0
    elif isinstance(step, ChangePeerV2Enter | ChangePeerV2Leave):
        changed = _change_votes(peers, step, leader)
    else:
        raise TypeError(f"no replica changes by {step}")
    return replace(
        region,
        peers=tuple(peers[store_id] for store_id in sorted(peers)),
        leader_store_id=leader,
        conf_ver=region.conf_ver + changed,
    )


def _change_votes(peers: dict[int, PeerView], step: ChangePeerV2Enter | ChangePeerV2Leave, leader: int) -> int:
    single = len(step.promotes) + len(step.demotes) == 1
    changes: list[PromoteLearner | DemoteVoter] = [*step.promotes, *step.demotes]
    for change in changes:
        peer = peers[change.store_id]
        assert peer.peer_id == change.peer_id
        demote = isinstance(change, DemoteVoter)
        if isinstance(step, ChangePeerV2Enter):
            assert peer.role is (Role.VOTER if demote else Role.LEARNER)
            assert not (demote and single and change.store_id == leader), "a leader loses its vote"
            role = Role.DEMOTING_VOTER if demote else Role.INCOMING_VOTER
            if single:
                role = Role.LEARNER if demote else Role.VOTER
        else:
            assert not (demote and change.store_id == leader), "a leader loses its vote"
            role = Role.LEARNER if demote else Role.VOTER
        peers[change.store_id] = PeerView(peer.peer_id, peer.store_id, role)
    return len(step.promotes) + len(step.demotes)


def play_all(region: RegionView, operator: Operator) -> list[RegionView]:
    """The region after each step of an operator."""
    out = []
    for step in operator.steps:
        region = play(region, step)
        out.append(region)
    return out
