"""A store's traffic as PD is told it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from protos.kvproto import pdpb_pb2
from tikv_py.raftstore.peer import Flow, Peer
from tikv_py.server.flow_report import FlowReport


@dataclass
class Busy:
    """The part of a peer that is looked at."""

    flow: Flow = field(default_factory=Flow)


def told(report: FlowReport, peers: dict[int, Busy], wall_ms: int) -> pdpb_pb2.StoreStats:
    stats = pdpb_pb2.StoreStats()
    report.fill(stats, cast("dict[int, Peer]", peers), wall_ms)
    return stats


def test_each_heartbeat_tells_what_came_since_the_one_before() -> None:
    report, peers = FlowReport(10_000), {1: Busy(), 2: Busy()}
    peers[1].flow.written_bytes, peers[1].flow.written_keys = 100, 10
    peers[2].flow.read_bytes, peers[2].flow.read_keys = 50, 5
    stats = told(report, peers, 20_000)
    assert (stats.bytes_written, stats.keys_written, stats.bytes_read, stats.keys_read) == (100, 10, 50, 5)
    assert (stats.interval.start_timestamp, stats.interval.end_timestamp) == (10, 20)
    assert [(one.region_id, one.read_keys, one.read_bytes) for one in stats.peer_stats] == [(2, 5, 50)]
    peers[1].flow.written_bytes += 7
    stats = told(report, peers, 30_000)
    assert (stats.bytes_written, stats.keys_read, len(stats.peer_stats)) == (7, 0, 0)
    assert stats.interval.start_timestamp == 20


def test_a_replica_that_began_anew_and_a_clock_that_goes_back_give_nothing_negative() -> None:
    report, peers = FlowReport(10_000), {1: Busy(Flow(written_bytes=100))}
    told(report, peers, 20_000)
    peers[1] = Busy(Flow(written_bytes=30))
    stats = told(report, peers, 15_000)
    assert stats.bytes_written == 0
    assert stats.interval.end_timestamp >= stats.interval.start_timestamp
    peers[1].flow.written_bytes = 35
    assert told(report, peers, 16_000).bytes_written == 5


def test_a_replica_that_began_anew_may_have_read_fewer_keys_and_no_bytes_at_all() -> None:
    report, peers = FlowReport(10_000), {1: Busy(Flow(read_keys=5))}
    told(report, peers, 20_000)
    peers[1] = Busy(Flow(read_keys=1))
    assert told(report, peers, 30_000).keys_read == 0
    peers[1].flow.read_keys = 3
    assert told(report, peers, 40_000).keys_read == 2


def test_what_is_remembered_does_not_grow_with_regions_that_are_gone() -> None:
    report = FlowReport(0)
    for region in range(1000):
        told(report, {region: Busy(Flow(written_bytes=1))}, 1000)
    assert len(report._told) < 100
