"""Who is asked about which regions, and when a region is settled."""

from __future__ import annotations

from core_py.raft.messages import ConfState
from protos.kvproto import metapb_pb2
from tikv_py.resolved_ts.leadership import REGIONS_PER_REQUEST, Candidate, LeadershipRound
from tikv_py.resolved_ts.progress import NOTHING, Claim


def candidate(
    region_id: int, stores: tuple[int, ...], conf: ConfState | None = None, published: Claim = NOTHING
) -> Candidate:
    """A region whose peer on store n is region id * 10 + n, led from store 1."""
    region = metapb_pb2.Region(id=region_id)
    region.region_epoch.conf_ver, region.region_epoch.version = 2, 3
    for store_id in stores:
        region.peers.add(id=region_id * 10 + store_id, store_id=store_id)
    conf = conf or ConfState(tuple(region_id * 10 + store_id for store_id in stores))
    return Candidate(region, region_id * 10 + 1, 7, conf, Claim(100, 1000), published)


def test_a_majority_settles_and_later_answers_change_nothing() -> None:
    asked = LeadershipRound(1, 1000)
    for region_id in (1, 2):
        assert not asked.add(candidate(region_id, (1, 2, 3)))
    assert [one.region.id for one in asked.on_answer(2, [2])] == [2]
    assert asked.unsettled() == 1
    assert [one.region.id for one in asked.on_answer(3, [1, 2, 9])] == [1]
    assert asked.unsettled() == 0


def test_a_leader_that_is_alone_needs_no_answer() -> None:
    asked = LeadershipRound(1, 1000)
    assert asked.add(candidate(1, (1,)))
    assert asked.requests() == {}


def test_learners_are_told_but_do_not_count() -> None:
    asked = LeadershipRound(1, 1000)
    asked.add(candidate(1, (1, 2, 3), ConfState((11, 12), (13,)), Claim(40, 900)))
    assert asked.on_answer(3, [1]) == []
    (request,) = asked.requests()[3]
    assert request.ts == 1000
    (info,) = request.regions
    assert (info.region_id, info.peer_id, info.term) == (1, 11, 7)
    assert (info.region_epoch.conf_ver, info.region_epoch.version) == (2, 3)
    assert (info.read_state.applied_index, info.read_state.safe_ts) == (40, 900)
    assert len(asked.on_answer(2, [1])) == 1


def test_a_joint_membership_needs_both_majorities() -> None:
    asked = LeadershipRound(1, 1000)
    asked.add(candidate(1, (1, 2, 3, 4, 5), ConfState((11, 12, 13), voters_outgoing=(11, 14, 15))))
    assert asked.on_answer(2, [1]) == []
    assert asked.on_answer(3, [1]) == []
    assert len(asked.on_answer(5, [1])) == 1


def test_a_request_holds_so_many_regions() -> None:
    asked = LeadershipRound(1, 1000)
    for region_id in range(1, REGIONS_PER_REQUEST + 2):
        asked.add(candidate(region_id, (1, 2)))
    assert [len(request.regions) for request in asked.requests()[2]] == [REGIONS_PER_REQUEST, 1]
