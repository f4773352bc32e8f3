"""`[raftstore]` and `[split]` under the public key names, and what the store is told about snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from core_py.runtime.config import ByteSize, Seconds

MIN_ENTRY_BYTES = 64 << 10  # a split or merge must fit, with keys of any usual size


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
    split_region_check_tick_interval: Seconds = Seconds(10.0)
    region_split_check_diff: ByteSize = ByteSize(6 << 20)
    """Bytes written to a region since it was last measured that make it worth measuring again."""
    snap_max_pending: int = 8
    hibernate_regions: bool = True
    max_leader_missing_duration: Seconds = Seconds(7200.0)
    """A sleeping follower asks after its leader when it has heard nothing for so long."""
    max_pending_writes: int = 16384
    """Writes one region may have waiting before they are proposed; more are answered ServerIsBusy."""
    max_pending_write_bytes: ByteSize = ByteSize(256 << 20)
    """Of writes that the whole store has taken and not answered; more are answered ServerIsBusy."""
    max_pending_reads: int = 4096
    """Reads one region may have waiting for a quorum; more are answered ServerIsBusy."""
    notify_capacity: int = 40960
    """Raft messages that wait for the store loop; more are dropped."""
    max_inbox_bytes: ByteSize = ByteSize(256 << 20)
    """Of the raft messages that wait for the store loop."""

    def validate(self) -> None:
        """Raises ValueError for settings that contradict each other."""
        if self.raft_base_tick_interval <= 0:
            raise ValueError("raftstore.raft-base-tick-interval must be positive")
        if self.raft_heartbeat_ticks <= 0 or self.raft_election_timeout_ticks <= self.raft_heartbeat_ticks:
            raise ValueError(
                "raftstore.raft-election-timeout-ticks must exceed raft-heartbeat-ticks, which must be positive"
            )
        if self.raft_entry_max_size < MIN_ENTRY_BYTES:
            raise ValueError(f"raftstore.raft-entry-max-size must be at least {MIN_ENTRY_BYTES} bytes")
        if min(self.max_pending_writes, self.max_pending_reads, self.notify_capacity) < 1:
            raise ValueError("raftstore.max-pending-writes, max-pending-reads and notify-capacity must be at least 1")
        if self.raft_log_gc_threshold < 1:
            raise ValueError("raftstore.raft-log-gc-threshold must be at least 1")
        if min(self.raft_log_gc_count_limit, self.raft_log_gc_size_limit) < 1:
            raise ValueError("raftstore.raft-log-gc-count-limit and raft-log-gc-size-limit must be positive")
        if self.split_region_check_tick_interval <= 0:
            raise ValueError("raftstore.split-region-check-tick-interval must be positive")


@dataclass(frozen=True, slots=True)
class LoadSplitConfig:
    """`[split]`: when a region is read so much that it is split whatever its size."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"grpc-thread-cpu-overload-threshold-ratio", "region-cpu-overload-threshold-ratio"}
    )

    qps_threshold: int = 3000
    byte_threshold: ByteSize = ByteSize(30 << 20)
    """Bytes read in a second."""
    split_balance_score: float = 0.25
    """|left - right| / (left + right) of the reads on either side of a split key must stay below it."""
    split_contained_score: float = 0.5
    """The share of reads that a split key would cut in two must stay below it."""
    sample_num: int = 20
    """Reads remembered per second, and split keys tried."""
    sample_threshold: int = 100
    """Fewer remembered reads than these say nothing."""
    detect_times: int = 10
    """Seconds in a row above a threshold before a split."""

    def validate(self) -> None:
        """Raises ValueError for settings under which nothing or everything would be split."""
        if self.sample_num < 1 or self.detect_times < 1:
            raise ValueError("split.sample-num and split.detect-times must be at least 1")
        if self.sample_threshold > self.sample_num * self.detect_times:
            raise ValueError("split.sample-threshold exceeds the samples of detect-times seconds")


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
