"""All metrics of a storage node, under the public names (field notes 3). Children are made once; labels come from closed lists."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS = tuple(0.0005 * 2**i for i in range(20))


class SplitMetrics:
    """Of the split checker and of splitting by load."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.checks = Counter(
            "tikv_raftstore_check_split", "Checks whether a region must be split", ["type"], registry=registry
        )
        self.duration = Histogram(
            "tikv_raftstore_check_split_duration_seconds",
            "Time to measure a region",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.size = Histogram(
            "tikv_raftstore_region_size",
            "Bytes of measured regions",
            buckets=tuple(float(1 << power) for power in range(20, 40)),
            registry=registry,
        )
        self.keys = Histogram(
            "tikv_raftstore_region_keys",
            "Keys of measured regions",
            buckets=tuple(float(1 << power) for power in range(24)),
            registry=registry,
        )
        self.load_events = Gauge(  # the public servers count under a name without the suffix of a counter
            "tikv_load_base_split_event", "Steps towards splitting regions by load", ["type"], registry=registry
        )


class DiskMetrics:
    """Of the data disk and of what it makes wait."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.usage = Gauge("tikv_store_disk_usage", "0: normal, 1: almost full, 2: already full", registry=registry)
        self.slow_score = Gauge("tikv_raftstore_slow_score", "1: well, 100: the disk is very slow", registry=registry)
        self.append_log = Histogram(
            "tikv_raftstore_append_log_duration_seconds",
            "Time to sync the raft log",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )


class LockWaitMetrics:
    """Of waiting for locks and of the deadlock detector."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lifetime = Histogram(
            "tikv_lock_manager_waiter_lifetime_duration",
            "How long lock requests waited, in seconds",
            buckets=tuple(0.00001 * 2**i for i in range(26)),
            registry=registry,
        )
        self.queues = Gauge(
            "tikv_lock_wait_queue_entries_gauge_vec",
            "Waiting requests and keys they wait for",
            ["type"],
            registry=registry,
        )
        self.tasks = Counter(
            "tikv_lock_manager_task_counter", "Reports to the deadlock detector", ["type"], registry=registry
        )
        self.errors = Counter(
            "tikv_lock_manager_error_counter", "Deadlocks, and reports that went nowhere", ["type"], registry=registry
        )
        self.detect = Histogram(
            "tikv_lock_manager_detect_duration",
            "Time to look for a cycle",
            buckets=tuple(0.0001 * 2**i for i in range(20)),
            registry=registry,
        )
        self.leader = Gauge(
            "tikv_lock_manager_detector_leader_heartbeat", "1 on the store that detects deadlocks", registry=registry
        )
        self.graph = Gauge(
            "tikv_lock_manager_detector_wait_for_map_size", "Transactions that are known to wait", registry=registry
        )


class ResolvedTsMetrics:
    """Of advancing regions for stale reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.min_ts = Gauge(
            "tikv_resolved_ts_min_resolved_ts", "Least safe timestamp of the regions led here", registry=registry
        )
        self.min_region = Gauge("tikv_resolved_ts_min_resolved_ts_region", "The region that has it", registry=registry)
        self.gap_ms = Gauge(
            "tikv_resolved_ts_min_resolved_ts_gap_millis", "How far it is behind PD's time", registry=registry
        )
        self.regions = Gauge(
            "tikv_resolved_ts_region_resolve_status",
            "Regions led here whose locks are known",
            ["type"],
            registry=registry,
        )
        self.locks = Gauge("tikv_resolved_ts_lock_count", "Locks remembered", registry=registry)
        self.advance = Histogram(
            "tikv_resolved_ts_check_leader_duration_seconds",
            "Time of the steps of an advance",
            ["type"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.failures = Counter(
            "tikv_resolved_ts_fail_advance_count", "Regions or rounds not advanced", ["reason"], registry=registry
        )


class GcMetrics:
    """Of collecting old versions."""

    STATES = ("initializing", "idle", "working")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.safe_point = Gauge(
            "tikv_gcworker_autogc_safe_point", "GC safe point in force on this store", registry=registry
        )
        self._status = Gauge("tikv_gcworker_autogc_status", "1 for what it does", ["state"], registry=registry)
        self.keys = Counter("tikv_gcworker_gc_keys", "Records looked at and removed", ["cf", "tag"], registry=registry)
        self.tasks = Counter("tikv_gcworker_gc_tasks_vec", "Passes begun", ["task"], registry=registry)
        self.failures = Counter(
            "tikv_gcworker_gc_task_fail_vec", "Passes that ended early", ["task"], registry=registry
        )
        self.duration = Histogram(
            "tikv_gcworker_gc_task_duration_vec", "Time of a pass", ["task"], buckets=LATENCY_BUCKETS, registry=registry
        )
        self.regions = Counter(
            "tikv_gcworker_autogc_processed_regions", "Regions collected", ["type"], registry=registry
        )
        self.set_status("initializing")

    def set_status(self, now: str) -> None:
        """Say which of `STATES` holds."""
        for state in self.STATES:
            self._status.labels(state).set(state == now)


class ReadPoolMetrics:
    """Of the reads that share the loop and the threads; `wait` and `handle` by priority, high first."""

    def __init__(self, registry: CollectorRegistry) -> None:
        wait, handle = (
            Histogram(
                f"tikv_unified_read_pool_{name}_duration_seconds",
                text,
                ["priority"],
                buckets=LATENCY_BUCKETS,
                registry=registry,
            )
            for name, text in (("wait", "Time that reads waited for their turn"), ("handle", "Time they took then"))
        )
        self.wait = tuple(wait.labels(priority) for priority in ("high", "normal", "low"))
        self.handle = tuple(handle.labels(priority) for priority in ("high", "normal", "low"))
        self.running = Gauge(
            "tikv_unified_read_pool_running_tasks", "Reads that hold one of the pool's threads", registry=registry
        )
        self.refused = Counter(
            "tikv_unified_read_pool_refused", "Reads refused because too many waited", registry=registry
        )


class FlowMetrics:
    """Of slowing writes down for the database's sake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.write_flow = Gauge("tikv_scheduler_write_flow", "Bytes per second of ordinary writes", registry=registry)
        self.throttle_flow = Gauge(
            "tikv_scheduler_throttle_flow", "Bytes per second that are let through; 0: no limit", registry=registry
        )
        self.throttle_time = Histogram(
            "tikv_scheduler_throttle_duration_seconds",
            "Time that writes were held back",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.memtables = Gauge(
            "tikv_scheduler_memtable", "Memtables that wait to be flushed", ["cf"], registry=registry
        )
        self.l0_files = Gauge("tikv_scheduler_l0", "Files on level 0", ["cf"], registry=registry)
        self.pending = Gauge(
            "tikv_scheduler_pending_compaction_bytes", "Bytes that wait to be compacted", ["cf"], registry=registry
        )
        self.actions = Counter("tikv_scheduler_throttle_action", "Changes of the limit", ["type"], registry=registry)


class TtlMetrics:
    """Of removing expired raw values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.actions = Counter(
            "tikv_ttl_checker_actions", "Steps of looking for expired values", ["type"], registry=registry
        )
        self.regions = Gauge(
            "tikv_ttl_checker_processed_regions", "Regions looked through in this round", registry=registry
        )
        self.expired = Counter("tikv_ttl_expire_kv_count", "Expired values removed", registry=registry)


class StoreMetrics:
    """One per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.grpc_duration = Histogram(
            "tikv_grpc_msg_duration_seconds",
            "Time to answer a command",
            ["type"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.grpc_fail = Counter(
            "tikv_grpc_msg_fail", "Commands that failed in the server", ["type"], registry=registry
        )
        self.region_count = Gauge(
            "tikv_raftstore_region_count", "Peers and leaders on this store", ["type"], registry=registry
        )
        self.region_size = Gauge(
            "tikv_raftstore_region_size_bytes", "Approximate size of all regions", registry=registry
        )
        self.leader_missing = Gauge("tikv_raftstore_leader_missing", "Peers that know no leader", registry=registry)
        self.store_size = Gauge(
            "tikv_store_size_bytes", "Capacity and use of the data disk", ["type"], registry=registry
        )
        self.engine_size = Gauge("tikv_engine_size_bytes", "Bytes per database", ["type"], registry=registry)
        self.raft_turns = Counter("tikv_raftstore_loop_turns", "Turns of the store loop", registry=registry)
        self.raft_syncs = Counter("tikv_raftstore_sync_log", "Syncs of the raft log", registry=registry)
        self.applied = Counter("tikv_raftstore_applied_entries", "Raft entries applied", registry=registry)
        self.raft_messages = Counter("tikv_server_raft_message_recv", "Raft messages received", registry=registry)
        self.report_failure = Counter(
            "tikv_server_report_failure_msg", "Raft messages that could not be sent", ["store_id"], registry=registry
        )
        self.disk = DiskMetrics(registry)
        self.channel_full = Counter(
            "tikv_channel_full", "Messages dropped because a queue was full", ["type"], registry=registry
        )
        self.cop_duration = Histogram(
            "tikv_coprocessor_request_duration_seconds",
            "Time to answer a coprocessor request",
            ["req"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.cop_errors = Counter(
            "tikv_coprocessor_request_error", "Coprocessor requests that failed", ["reason"], registry=registry
        )
        self.cop_rows = Counter(
            "tikv_coprocessor_scan_keys", "Keys read by coprocessor scans", ["req"], registry=registry
        )
        self.pd_heartbeat = Counter(
            "tikv_pd_heartbeat_message", "Heartbeats exchanged with PD", ["type"], registry=registry
        )
        self.splits = SplitMetrics(registry)
        self.resolved_ts = ResolvedTsMetrics(registry)
        self.gc = GcMetrics(registry)
        self.lock_waiting = LockWaitMetrics(registry)
        self.read_pool = ReadPoolMetrics(registry)
        self.flow = FlowMetrics(registry)
        self.ttl = TtlMetrics(registry)
        self.scheduler_busy = Counter(
            "tikv_scheduler_too_busy", "Commands refused because a queue was full", ["type"], registry=registry
        )
        self.latches = Gauge("tikv_scheduler_contex_total", "Keys latched by running commands", registry=registry)
