"""When a replica counts as hot, and when it no longer does."""

from __future__ import annotations

from dataclasses import replace

from pd_py.cluster.hot_cache import TOP_N, HotCache
from pd_py.schedule.view import FlowKind, PeerView, RegionView

PEERS = tuple(PeerView(10 + store_id, store_id) for store_id in (1, 2, 3))
REGION = RegionView(1, b"", b"", 1, 1, PEERS, 1, interval_s=60)
HOT = replace(REGION, written_bytes=60 * 5000, written_keys=60 * 5)
COLD = replace(REGION, written_bytes=60)


def hot_stores(cache: HotCache) -> list[int]:
    return [store_id for store_id, peers in cache.hot_peers().items() if peers]


def test_a_write_is_hot_on_every_replica_and_gains_degrees() -> None:
    cache = HotCache(FlowKind.WRITE)
    for minute in range(3):
        cache.observe(HOT, HOT, minute * 60.0)
    assert hot_stores(cache) == [1, 2, 3]
    peer = cache.hot_peers()[1][0]
    assert (peer.region_id, peer.is_leader, peer.bytes_rate, peer.keys_rate, peer.degree) == (1, True, 5000, 5, 3)
    assert not cache.hot_peers()[2][0].is_leader


def test_below_the_public_threshold_nothing_is_kept() -> None:
    cache = HotCache(FlowKind.WRITE)
    cache.observe(replace(REGION, written_bytes=1023 * 60, written_keys=31 * 60), None, 0.0)
    assert len(cache) == 0
    cache.observe(replace(REGION, written_keys=32 * 60), None, 0.0)
    assert len(cache) == 3


def test_short_reports_add_up_to_an_interval_before_anything_is_decided() -> None:
    cache = HotCache(FlowKind.WRITE)
    brief = replace(HOT, written_bytes=10 * 5000, written_keys=50, interval_s=10)
    for at in range(5):
        cache.observe(brief, brief, at * 10.0)
    assert hot_stores(cache) == []
    cache.observe(brief, brief, 60.0)
    assert cache.hot_peers()[1][0].bytes_rate == 5000
    cache.observe(replace(HOT, interval_s=2), HOT, 61.0)
    assert cache.hot_peers()[1][0].degree == 1, "two seconds say nothing"


def test_one_burst_or_one_pause_does_not_change_what_is_known() -> None:
    cache = HotCache(FlowKind.WRITE)
    for minute in range(4):
        cache.observe(HOT, HOT, minute * 60.0)
    cache.observe(replace(HOT, written_bytes=HOT.written_bytes * 100), HOT, 240.0)
    assert cache.hot_peers()[1][0].bytes_rate == 5000, "the median"
    cache.observe(COLD, HOT, 300.0)
    assert hot_stores(cache) == [], "it is not offered while it cools"
    assert len(cache) == 3
    cache.observe(HOT, COLD, 360.0)
    assert hot_stores(cache) == [1, 2, 3]


def test_what_stays_cold_or_silent_leaves() -> None:
    cache = HotCache(FlowKind.WRITE)
    for minute in range(4):
        cache.observe(HOT, HOT, minute * 60.0)
    for minute in range(4, 6):
        cache.observe(COLD, HOT, minute * 60.0)
    assert len(cache) == 0
    cache.observe(HOT, COLD, 400.0)
    cache.sweep(400.0 + 179)
    assert len(cache) == 3
    cache.sweep(400.0 + 400)
    assert len(cache) == 0


def test_a_moved_replica_takes_its_heat_along() -> None:
    cache = HotCache(FlowKind.WRITE)
    for minute in range(4):
        cache.observe(HOT, HOT, minute * 60.0)
    moved = replace(HOT, peers=(*PEERS[:2], PeerView(14, 4)))
    cache.observe(moved, HOT, 240.0)
    assert hot_stores(cache) == [1, 2, 4]
    assert [cache.hot_peers()[store_id][0].degree for store_id in (1, 4)] == [5, 5]
    cache.forget_region(1)
    assert len(cache) == 0


def test_a_new_leaders_first_report_is_not_taken_at_its_word() -> None:
    cache = HotCache(FlowKind.WRITE)
    for minute in range(3):
        cache.observe(HOT, HOT, minute * 60.0)
    led_by_two = replace(HOT, leader_store_id=2, written_bytes=HOT.written_bytes * 50)
    cache.observe(led_by_two, HOT, 180.0)
    assert cache.hot_peers()[2][0].degree == 3, "its flow is that of its whole time as a follower"
    assert [peer.is_leader for peers in cache.hot_peers().values() for peer in peers] == [False, True, False]


def test_reads_are_the_leaders_unless_the_store_says_who_served_them() -> None:
    cache = HotCache(FlowKind.READ)
    read = replace(REGION, read_bytes=60 * 9000)
    cache.observe(read, read, 0.0)
    assert hot_stores(cache) == [1]
    handed_over = replace(read, leader_store_id=2)
    cache.observe(handed_over, read, 60.0)
    assert hot_stores(cache) == [2]
    other = replace(read, region_id=2)
    cache.observe_store(3, [(other, 10 * 9000.0, 0.0, 10 * 200.0)], 10, 60.0)
    assert hot_stores(cache) == [2, 3]
    assert cache.hot_peers()[3][0].query_rate == 200
    cache.observe_store(3, [], 10, 70.0)
    assert hot_stores(cache) == [2]
    for ten in range(12):
        cache.observe_store(3, [], 10, 80.0 + ten * 10)
    assert len(cache) == 0, "what store 3 no longer serves, and what nobody has reported for half a minute"
    cache.observe(handed_over, handed_over, 195.0)
    cache.observe(replace(read, leader_store_id=3), None, 200.0)
    assert 3 not in hot_stores(cache)
    cache.forget_store(2)
    assert hot_stores(cache) == []


def test_a_busy_store_asks_for_more() -> None:
    cache = HotCache(FlowKind.WRITE)
    alone = PEERS[:1]
    for number in range(TOP_N + 20):
        rate = 60 * 1024 * (number + 2)
        cache.observe(RegionView(number + 2, b"", b"", 1, 1, alone, 1, written_bytes=rate, interval_s=60), None, 0.0)
    assert len(cache) == TOP_N + 20
    modest = replace(HOT, peers=alone, written_bytes=60 * 1024 * 10, written_keys=0)
    cache.observe(modest, None, 20.0)
    assert len(cache) == TOP_N + 20
    cache.observe(replace(modest, written_bytes=60 * 1024 * 40), None, 40.0)
    assert len(cache) == TOP_N + 21
