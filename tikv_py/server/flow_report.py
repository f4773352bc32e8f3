"""What a store tells PD of its traffic: totals since its last heartbeat, and which replicas were read.

PD balances load by it. The totals are of all replicas, also those that are gone since; reads are told of each replica, because
only the store that served a read knows of it (writes are in the region's heartbeat, which its leader sends).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protos.kvproto import pdpb_pb2
from tikv_py.raftstore.peer import Flow, Peer

PEER_STATS_MAX = 4096


class FlowReport:
    """Remembers how far was told."""

    def __init__(self, wall_ms: int) -> None:
        self._told: dict[int, Flow] = {}
        self._told_s = wall_ms // 1000

    def fill(self, stats: pdpb_pb2.StoreStats, peers: Mapping[int, Peer], wall_ms: int) -> None:
        """Add the traffic since the last call, and the time it took (seconds since the epoch)."""
        now_s = wall_ms // 1000
        stats.interval.start_timestamp, stats.interval.end_timestamp = self._told_s, max(now_s, self._told_s)
        self._told_s = now_s
        for region_id, peer in peers.items():
            flow = peer.flow
            told = self._told.get(region_id)
            if told == flow or (told is None and flow == Flow()):
                continue
            since = flow.since(told or Flow())
            self._told[region_id] = replace(flow)
            if min(since.written_bytes, since.written_keys, since.read_bytes, since.read_keys) < 0:
                continue  # another replica of the region, which began anew
            stats.bytes_written += since.written_bytes
            stats.keys_written += since.written_keys
            stats.bytes_read += since.read_bytes
            stats.keys_read += since.read_keys
            if since.read_keys and len(stats.peer_stats) < PEER_STATS_MAX:
                stats.peer_stats.add(region_id=region_id, read_keys=since.read_keys, read_bytes=since.read_bytes)
        if len(self._told) > 2 * len(peers) + 64:
            self._told = {region_id: flow for region_id, flow in self._told.items() if region_id in peers}
