"""Reads of regions: what the public protocol expects in each response, and which requests are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.errors import PdError
from pd_py.cluster import queries
from pd_py.cluster.cluster import new_regions
from pd_py.cluster.convert import region_pb
from pd_py.cluster.queries import RegionNotFound, RegionsNotContainAllKeyRange
from pd_py.cluster.regions import Regions
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView
from protos.kvproto import metapb_pb2, pdpb_pb2

PEERS = (PeerView(11, 1), PeerView(12, 2), PeerView(13, 3))


def key(number: int) -> bytes:
    return b"%02d" % number if number else b""


def holding(*spans: tuple[int, int]) -> Regions:
    regions = new_regions(ScheduleOptions())
    for number, (start, end) in enumerate(spans, start=1):
        assert regions.put(RegionView(number, key(start), key(end), 1, 1, PEERS, 1))
    return regions


def test_a_region_comes_with_its_leader_and_what_is_wrong_with_its_peers() -> None:
    regions = holding((0, 5), (5, 0))
    view = RegionView(2, key(5), b"", 1, 1, PEERS, 1)
    request = pdpb_pb2.RegionHeartbeatRequest(region=region_pb(view), leader=metapb_pb2.Peer(id=11, store_id=1))
    request.down_peers.add(peer=metapb_pb2.Peer(id=12, store_id=2), down_seconds=99)
    request.pending_peers.add(id=13, store_id=3)
    regions.heartbeat(request, 0.0)
    regions.buckets.report(metapb_pb2.Buckets(region_id=2, version=7))
    got = queries.get_region(regions, pdpb_pb2.GetRegionRequest(region_key=b"9", need_buckets=True))
    assert (got.region.id, got.leader.id, got.buckets.version) == (2, 11, 7)
    assert [(one.peer.id, one.down_seconds) for one in got.down_peers] == [(12, 99)]
    assert [peer.id for peer in got.pending_peers] == [13]
    assert not queries.get_region(regions, pdpb_pb2.GetRegionRequest(region_key=b"9")).HasField("buckets")
    assert queries.get_prev_region(regions, pdpb_pb2.GetRegionRequest(region_key=b"9")).region.id == 1
    assert queries.get_region_by_id(regions, pdpb_pb2.GetRegionByIDRequest(region_id=1)).region.id == 1
    with pytest.raises(PdError, match="invalid region id 0"):
        queries.get_region_by_id(regions, pdpb_pb2.GetRegionByIDRequest())


def test_nothing_found_is_an_answer_of_the_leader_and_an_error_of_a_follower() -> None:
    regions = holding((3, 5))
    request = pdpb_pb2.GetRegionRequest(region_key=b"9")
    assert queries.get_region(regions, request) == pdpb_pb2.GetRegionResponse()
    with pytest.raises(RegionNotFound, match="region not found"):
        queries.get_region(regions, request, is_follower=True)
    with pytest.raises(RegionNotFound):
        queries.scan_regions(regions, pdpb_pb2.ScanRegionsRequest(start_key=b"6"), is_follower=True)
    batch = pdpb_pb2.BatchScanRegionsRequest(ranges=[pdpb_pb2.KeyRange(start_key=b"6")])
    with pytest.raises(RegionNotFound):
        queries.batch_scan_regions(regions, batch, is_follower=True)


def test_many_lookups_are_answered_in_order() -> None:
    regions = holding((0, 3), (3, 5), (7, 0))
    got = queries.query_region(
        regions,
        pdpb_pb2.QueryRegionRequest(ids=[2, 9], keys=[b"08", b"06", b"00", b"08"], prev_keys=[b"04", b"00"]),
    )
    assert list(got.key_id_map) == [3, 0, 1, 3]
    assert list(got.prev_key_id_map) == [1, 0]
    assert sorted(got.regions_by_id) == [1, 2, 3]
    assert got.regions_by_id[3].leader.id == 11
    with pytest.raises(PdError, match="lookups in one request"):
        queries.query_region(regions, pdpb_pb2.QueryRegionRequest(ids=[1] * (queries.LOOKUPS_MAX + 1)))


def test_a_scan_fills_all_three_forms() -> None:
    regions = holding((0, 3), (3, 5), (7, 0))
    got = queries.scan_regions(regions, pdpb_pb2.ScanRegionsRequest(start_key=b"04", limit=2))
    assert [meta.id for meta in got.region_metas] == [2, 3]
    assert [peer.id for peer in got.leaders] == [11, 11]
    assert [(one.region.id, one.leader.id) for one in got.regions] == [(2, 11), (3, 11)]
    everything = queries.scan_regions(regions, pdpb_pb2.ScanRegionsRequest(limit=-1))
    assert len(everything.regions) == 3


def test_a_scan_is_not_cut_short_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "REGIONS_MAX", 2)
    regions = holding((0, 3), (3, 5), (7, 0))
    whole = pdpb_pb2.KeyRange()
    for limit in (0, 3):
        with pytest.raises(PdError, match="more than 2 regions"):
            queries.scan_regions(regions, pdpb_pb2.ScanRegionsRequest(limit=limit))
        with pytest.raises(PdError, match="more than 2 regions"):
            queries.batch_scan_regions(regions, pdpb_pb2.BatchScanRegionsRequest(ranges=[whole], limit=limit))
    assert len(queries.scan_regions(regions, pdpb_pb2.ScanRegionsRequest(limit=2)).regions) == 2


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        ([(3, 5), (4, 6)], "ranges overlapped"),
        ([(3, 0), (4, 0)], "ranges overlapped"),
        ([(5, 6), (3, 4)], "ranges overlapped"),
        ([(5, 4)], "start key > end key"),
    ],
)
def test_ranges_out_of_order_are_refused(ranges: list[tuple[int, int]], text: str) -> None:
    pairs = [pdpb_pb2.KeyRange(start_key=key(start), end_key=key(end)) for start, end in ranges]
    with pytest.raises(PdError, match=text):
        queries.batch_scan_regions(holding((0, 0)), pdpb_pb2.BatchScanRegionsRequest(ranges=pairs))


spans = st.lists(st.integers(1, 30), min_size=2, max_size=12, unique=True).map(sorted)


@settings(deadline=None)
@given(spans, st.sets(st.integers(0, 11)), spans, st.integers(0, 6), st.booleans(), st.booleans())
def test_a_batch_scan_is_the_union_of_its_ranges(
    edges: list[int], missing: set[int], asked: list[int], limit: int, is_open: bool, must_cover: bool
) -> None:
    bounds = list(zip([0, *edges], [*edges, 0], strict=True))
    kept = [span for number, span in enumerate(bounds) if number not in missing]
    regions = holding(*kept)
    ranges = list(zip(asked[::2], asked[1::2], strict=False))
    if is_open:
        ranges[-1] = (ranges[-1][0], 0)

    def holds(span: tuple[int, int], at: float) -> bool:
        return span[0] <= at and (span[1] == 0 or at < span[1])

    points = [at + half for at in range(32) for half in (0, 0.5)]
    wanted = [at for at in points if any(holds(span, at) for span in ranges)]
    hit = [number for number, span in enumerate(kept, start=1) if any(holds(span, at) for at in wanted)]
    shown = hit[:limit] if limit else hit
    is_cut = len(shown) < len(hit) or (limit and len(hit) == limit)
    request = pdpb_pb2.BatchScanRegionsRequest(limit=limit, contain_all_key_range=must_cover)
    for start, end in ranges:
        request.ranges.add(start_key=key(start), end_key=key(end))
    has_hole = any(all(not holds(span, at) for span in kept) for at in wanted)
    try:
        got = queries.batch_scan_regions(regions, request)
    except RegionsNotContainAllKeyRange:
        assert must_cover
        assert has_hole
        return
    assert [one.region.id for one in got.regions] == shown
    if must_cover and not is_cut:
        assert not has_hole
