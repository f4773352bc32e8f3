"""States of regions, kept as they report; and what a report may not say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd_py.cluster.convert import InvalidRegion, heartbeat_view, region_pb, region_view
from pd_py.cluster.region_statistics import MIB, Limits, RegionState, RegionStatistics, isolation_level
from pd_py.cluster.regions import Regions
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView, Role, StoreState, StoreView
from protos.kvproto import metapb_pb2, pdpb_pb2

PEERS = tuple(PeerView(10 + store_id, store_id) for store_id in (1, 2, 3))
LARGE = RegionView(1, b"", b"", 1, 1, PEERS, 1, size_bytes=100 * MIB, keys=900_000)


def statistics(**options: object) -> RegionStatistics:
    return RegionStatistics(Limits.of(ScheduleOptions(**options)))  # type: ignore[arg-type]


def states(found: RegionStatistics) -> set[str]:
    return {state.value for state in RegionState if found.regions(state)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"peers": PEERS[:2]}, {"miss-peer"}),
        ({"peers": (*PEERS, PeerView(14, 4, Role.LEARNER))}, {"extra-peer", "learner-peer"}),
        ({"down": frozenset({11})}, {"down-peer"}),
        ({"pending": frozenset({11})}, {"pending-peer"}),
        ({"size_bytes": 0, "keys": 0}, {"empty-region", "undersized-region"}),
        ({"size_bytes": 54 * MIB, "keys": 100}, {"undersized-region"}),
        ({"size_bytes": 55 * MIB, "keys": 100}, set()),
        ({"size_bytes": 144 * MIB}, {"oversized-region"}),
        ({"keys": 1_440_000}, {"oversized-region"}),
    ],
)
def test_a_state_is_entered_and_left(change: dict[str, object], expected: set[str]) -> None:
    found = statistics()
    region: RegionView = replace(LARGE, **change)  # type: ignore[arg-type]
    found.observe(LARGE, None)
    found.observe(region, LARGE)
    assert states(found) == expected
    found.observe(LARGE, region)
    assert states(found) == set()
    found.observe(region, LARGE)
    found.forget(1)
    assert states(found) == set()


def store(store_id: int, zone: str = "", host: str = "", state: StoreState = StoreState.UP) -> StoreView:
    return StoreView(store_id, state, (("zone", zone), ("host", host)))


def test_states_that_depend_on_stores_and_settings_follow_in_the_next_round() -> None:
    found = statistics(location_labels=("zone", "host"))
    found.set_stores([store(1, "a", "1"), store(2, "b", "1"), store(3, "c", "1")])
    while found.refresh_from is not None:
        found.refresh([LARGE])
    assert found.isolation(1) == {"zone": 1, "host": 0, "none": 0}
    found.set_stores([store(1, "a", "1"), store(2, "a", "2"), store(3, "c", "1", StoreState.OFFLINE)])
    assert found.refresh_from == b""
    found.refresh([LARGE])
    assert found.refresh_from is None
    assert found.isolation(1) == {"zone": 0, "host": 1, "none": 0}
    assert states(found) == {"offline-peer"}
    found.set_limits(Limits.of(ScheduleOptions(max_replicas=5, location_labels=("host",))))
    assert found.isolation(1) == {"host": 0, "none": 1}
    found.refresh([LARGE])
    assert states(found) == {"offline-peer", "miss-peer"}
    assert found.isolation(1) == {"host": 0, "none": 1}, "labels are read again when stores are set"
    found.set_stores([store(1, "a", "1"), store(2, "a", "2"), store(3, "c", "3")])
    found.refresh([LARGE])
    assert found.isolation(1) == {"host": 1, "none": 0}


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ([("a", "1"), ("b", "1"), ("c", "1")], 1),
        ([("a", "1"), ("a", "2"), ("c", "1")], 2),
        ([("a", "1"), ("a", "1"), ("c", "1")], 0),
        ([("a", "1"), ("", "2"), ("c", "3")], 2),
        ([("", "1"), ("", "2")], 2),
        ([("a", "1")], 1),
        ([("", ""), ("", "")], 0),
        ([], 0),
    ],
)
def test_isolation_is_the_first_label_that_tells_all_stores_apart(labels: list[tuple[str, str]], level: int) -> None:
    assert isolation_level(labels) == level


def request(region: RegionView = LARGE, **fields: object) -> pdpb_pb2.RegionHeartbeatRequest:
    leader = metapb_pb2.Peer(id=region.peers[0].peer_id, store_id=region.peers[0].store_id)
    return pdpb_pb2.RegionHeartbeatRequest(region=region_pb(region), leader=leader, **fields)  # type: ignore[arg-type]


def test_a_report_without_news_shares_what_was_known() -> None:
    first = heartbeat_view(request(approximate_size=5, approximate_keys=7, term=3), None, 60)
    again = heartbeat_view(request(bytes_written=9, term=3), first, 60)
    assert again.peers is first.peers
    assert again.start_key is first.start_key
    assert (again.size_bytes, again.keys, again.written_bytes) == (5, 7, 9), "nothing measured is not nothing there"
    moved = heartbeat_view(request(replace(LARGE, peers=PEERS[:2])), again, 60)
    assert moved.peers == PEERS[:2]


def test_flows_come_with_the_time_they_cover() -> None:
    one = request(bytes_written=1 << 60, keys_written=1, bytes_read=5, keys_read=6)
    one.interval.start_timestamp, one.interval.end_timestamp = 100, 160
    view = heartbeat_view(one, None, 60)
    assert (view.written_bytes, view.written_keys, view.read_bytes, view.read_keys) == (0, 0, 5, 6)
    assert view.interval_s == 60
    one.interval.end_timestamp = 1 << 63
    assert heartbeat_view(one, None, 60).interval_s == 3600
    one.interval.end_timestamp = 3
    assert heartbeat_view(one, None, 60).interval_s == 0


def test_reports_that_no_store_could_mean_are_refused_and_change_nothing() -> None:
    regions = Regions(statistics(), 60)
    assert regions.heartbeat(request(), 0.0) is not None
    twins = (PEERS[0], PeerView(99, 1))
    bad = [
        request(replace(LARGE, region_id=0)),
        request(replace(LARGE, start_key=b"b", end_key=b"a")),
        request(replace(LARGE, peers=twins, conf_ver=9)),
        request(replace(LARGE, peers=tuple(PeerView(n, n) for n in range(1, 200)), conf_ver=9)),
    ]
    nobody = request()
    nobody.leader.Clear()
    empty = request()
    del empty.region.peers[:]
    odd = request(replace(LARGE, region_id=2))
    odd.region.peers[0].role = 77  # type: ignore[assignment]
    for one in (*bad, nobody, empty, odd):
        with pytest.raises(InvalidRegion):
            regions.heartbeat(pdpb_pb2.RegionHeartbeatRequest.FromString(one.SerializeToString()), 0.0)
    assert [one.region_id for one in regions.tree.all()] == [1]
    regions.tree.check_invariants()


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(1, 3), st.integers(1, 4)), max_size=20))
def test_statistics_hold_just_the_regions_of_the_tree(reports: list[tuple[int, int, int, int]]) -> None:
    regions = Regions(statistics(), 60)
    metas: dict[int, RegionView] = {}
    regions.on_meta.append(lambda region: metas.__setitem__(region.region_id, region))
    regions.on_gone.append(lambda region: metas.__delitem__(region.region_id))
    for region_id, start, length, version in reports:
        view = RegionView(region_id, b"%d" % start, b"%d" % (start + length), 1, version, PEERS[: region_id % 3 + 1])
        one = request(view, bytes_written=1 << 20)
        one.interval.end_timestamp = 60
        regions.heartbeat(one, 0.0)
    ids = {region.region_id for region in regions.tree.all()}
    assert set(regions.statistics.regions(RegionState.EMPTY_REGION)) == ids
    short = {region.region_id for region in regions.tree.all() if len(region.peers) < 3}
    assert set(regions.statistics.regions(RegionState.MISS_PEER)) == short
    assert {region_id: metas[region_id].end_key for region_id in ids} == {
        region.region_id: region.end_key for region in regions.tree.all()
    }
    hot = {peer.region_id for cache in regions.hot.values() for peers in cache.hot_peers().values() for peer in peers}
    assert hot <= ids


def test_the_silence_of_peers_is_remembered_while_it_lasts() -> None:
    regions = Regions(statistics(), 60)
    silent = request()
    silent.down_peers.add(peer=metapb_pb2.Peer(id=12, store_id=2), down_seconds=90)
    silent.down_peers.add(peer=metapb_pb2.Peer(id=13, store_id=3), down_seconds=30)
    view = regions.heartbeat(silent, 0.0)
    assert view is not None
    assert view.down == {12}
    assert regions.down_seconds(1) == {12: 90, 13: 30}
    silent.down_peers.add(peer=metapb_pb2.Peer(id=99, store_id=9), down_seconds=9000)
    silent.pending_peers.add(id=98, store_id=9)
    view = regions.heartbeat(silent, 0.0)
    assert view is not None
    assert view.down | view.pending == {12}, "strangers are left out"
    regions.heartbeat(request(), 0.0)
    assert regions.down_seconds(1) == {}


def test_buckets_are_kept_by_version_and_go_with_their_region() -> None:
    regions = Regions(statistics(), 60)
    assert not regions.report_buckets(metapb_pb2.Buckets(region_id=1, version=2)), "nobody knows the region"
    regions.heartbeat(request(), 0.0)
    assert regions.report_buckets(metapb_pb2.Buckets(region_id=1, version=2))
    assert not regions.report_buckets(metapb_pb2.Buckets(region_id=1, version=1))
    assert not regions.report_buckets(metapb_pb2.Buckets(region_id=1, version=3, keys=[b"x" * (1 << 17)]))
    found = regions.buckets.get(1)
    assert found is not None
    assert found.version == 2
    regions.heartbeat(request(replace(LARGE, region_id=2, version=2)), 0.0)
    assert regions.buckets.get(1) is None


def test_a_meta_alone_makes_a_region_without_a_leader() -> None:
    assert region_view(region_pb(LARGE)) == RegionView(1, b"", b"", 1, 1, PEERS)
