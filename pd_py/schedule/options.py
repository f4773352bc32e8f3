"""What operators of a cluster can set of scheduling and replication, under the public names and with the public defaults.

A value, replaced as a whole when something is changed (`pd_py.cluster.settings` loads, checks and stores it), so that one decision
never sees two versions. Does not know files or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """`[schedule]` and `[replication]` of the public configuration; times in seconds, sizes in MiB."""

    # replication
    max_replicas: int = 3
    location_labels: tuple[str, ...] = ()
    isolation_level: str = ""
    strictly_match_label: bool = False
    enable_placement_rules: bool = True
    # how many operators of a kind may run at once
    leader_schedule_limit: int = 4
    leader_schedule_policy: str = "count"
    region_schedule_limit: int = 2048
    replica_schedule_limit: int = 64
    merge_schedule_limit: int = 8
    hot_region_schedule_limit: int = 4
    scheduler_max_waiting_operator: int = 5
    # stores
    max_store_down_time_s: float = 1800.0
    max_snapshot_count: int = 64
    max_pending_peer_count: int = 64
    low_space_ratio: float = 0.8
    high_space_ratio: float = 0.7
    tolerant_size_ratio: float = 0.0
    """How uneven stores may be, in average region sizes; 0 lets the scheduler choose."""
    # merging
    max_merge_region_size: int = 54
    max_merge_region_keys: int = 540_000
    split_merge_interval_s: float = 3600.0
    enable_one_way_merge: bool = False
    enable_cross_table_merge: bool = True
    # hot regions
    hot_region_cache_hits_threshold: int = 3
    max_movable_hot_peer_size: int = 512
    # which repairs are made
    enable_remove_down_replica: bool = True
    enable_replace_offline_replica: bool = True
    enable_make_up_replica: bool = True
    enable_remove_extra_replica: bool = True
    enable_location_replacement: bool = True
    enable_joint_consensus: bool = True
    halt_scheduling: bool = False
    """Nothing is scheduled while it is set."""
