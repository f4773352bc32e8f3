"""A region's list of peers and the Raft configuration it stands for must be joint at the same time."""

from __future__ import annotations

import pytest

from core_py.codec.eraft import conf_state_of_peers
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from tests.unit.raftstore.support import first_region
from tikv_py.raftstore.region import AdminRefused, change_peers


def change(kind: int, peer_id: int, store_id: int) -> cmdpb.ChangePeerRequest:
    request = cmdpb.ChangePeerRequest(peer=metapb_pb2.Peer(id=peer_id, store_id=store_id))
    request.change_type = kind  # type: ignore[assignment]
    return request


def test_several_changes_of_learners_are_refused() -> None:
    """No role would show that they are made jointly, so nobody could end the joint configuration."""
    region = first_region()
    region.peers.add(id=14, store_id=4, role=metapb_pb2.Learner)
    away = change(eraftpb_pb2.RemoveNode, 14, 4)
    new = change(eraftpb_pb2.AddLearnerNode, 15, 5)
    with pytest.raises(AdminRefused):
        change_peers(region, [away, new])
    assert {peer.id for peer in change_peers(region, [away]).peers} == {11, 12, 13}


def test_several_changes_with_a_voter_are_joint_in_both_views_until_they_are_left() -> None:
    promoted, demoted = change(eraftpb_pb2.AddNode, 15, 5), change(eraftpb_pb2.AddLearnerNode, 13, 3)
    joint = change_peers(first_region(), [promoted, demoted])
    assert conf_state_of_peers(joint.peers).is_joint
    left = change_peers(joint, [])
    assert not conf_state_of_peers(left.peers).is_joint
    assert {peer.id: peer.role for peer in left.peers} == {11: 0, 12: 0, 13: 1, 15: 0}
