"""`[raftstore]`: ticks, log and heartbeat settings under the public key names; and what the store is told about snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from core_py.runtime.config import ByteSize, Seconds


@dataclass(frozen=True, slots=True)
class RaftstoreConfig:
    """Times are seconds; a tick is the unit elections and heartbeats count in."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"store-pool-size", "apply-pool-size", "store-io-pool-size", "capacity", "prevote"}
    )

    raft_base_tick_interval: Seconds = Seconds(1.0)
    raft_heartbeat_ticks: int = 2
    raft_election_timeout_ticks: int = 10
    raft_max_size_per_msg: ByteSize = ByteSize(1 << 20)
    raft_max_inflight_msgs: int = 256
    raft_entry_max_size: ByteSize = ByteSize(8 << 20)
    raft_log_gc_tick_interval: Seconds = Seconds(3.0)
    raft_log_gc_threshold: int = 50
    raft_log_gc_count_limit: int = 73728
    raft_log_gc_size_limit: ByteSize = ByteSize(72 << 20)
    raft_entry_cache_size: ByteSize = ByteSize(64 << 20)
    """Of the raft entries that all peers together keep in memory."""
    pd_heartbeat_tick_interval: Seconds = Seconds(60.0)
    pd_store_heartbeat_tick_interval: Seconds = Seconds(10.0)
    snap_max_pending: int = 8
    hibernate_regions: bool = True
    max_leader_missing_duration: Seconds = Seconds(7200.0)
    """A sleeping follower asks after its leader when it has heard nothing for so long."""
    max_pending_writes: int = 16384
    """Writes one region may have waiting before they are proposed; more are answered ServerIsBusy."""

    def validate(self) -> None:
        """Raises ValueError for settings that contradict each other."""
        if self.raft_base_tick_interval <= 0:
            raise ValueError("raftstore.raft-base-tick-interval must be positive")
        if self.raft_heartbeat_ticks <= 0 or self.raft_election_timeout_ticks <= self.raft_heartbeat_ticks:
            raise ValueError(
                "raftstore.raft-election-timeout-ticks must exceed raft-heartbeat-ticks, which must be positive"
            )
        if self.raft_log_gc_threshold < 1:
            raise ValueError("raftstore.raft-log-gc-threshold must be at least 1")
        if min(self.raft_log_gc_count_limit, self.raft_log_gc_size_limit) < 1:
            raise ValueError("raftstore.raft-log-gc-count-limit and raft-log-gc-size-limit must be positive")


def _no_limit() -> int:
    return 1 << 62


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """Limits of region snapshots in both directions. A limit in bytes of 0 is none."""

    concurrent_send_limit: int = 4
    concurrent_recv_limit: int = 4
    max_bytes_per_s: int = 0
    """Of sending and receiving together."""
    max_total_bytes: int = 0
    """Of all snapshots that are being received."""
    free_bytes: Callable[[], int] = _no_limit
    """What the disk has left."""
