"""The storage node's configuration under the public key names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from core_py.runtime.config import ByteSize, Seconds
from core_py.runtime.log import LogConfig
from tikv_py.gc.config import GcConfig
from tikv_py.raftstore.config import LoadSplitConfig, RaftstoreConfig, SnapshotSettings
from tikv_py.raftstore.split_check import SplitLimits
from tikv_py.txn.flow_control import FlowControlConfig
from tikv_py.txn.waiting.lock_waiting import WaitSettings

SCHEDULER_CONCURRENCY_MAX = 1 << 21


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """`[server]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "grpc-keepalive-time",
            "grpc-keepalive-timeout",
            "grpc-concurrency",
            "grpc-memory-pool-quota",
        }
    )

    addr: str = "127.0.0.1:20160"
    advertise_addr: str = ""
    status_addr: str = "127.0.0.1:20180"
    labels: dict[str, str] = field(default_factory=dict)
    concurrent_send_snap_limit: int = 4
    concurrent_recv_snap_limit: int = 4
    snap_io_max_bytes_per_sec: ByteSize = ByteSize(100 << 20)
    """Of region snapshots, sent and received together; 0 is no limit."""
    snap_max_total_size: ByteSize = ByteSize(0)
    """Of the region snapshots that are being received; 0 leaves it to the free space of the disk."""

    def snapshot_settings(self, free_bytes: Callable[[], int]) -> SnapshotSettings:
        """What the store needs to know of these."""
        return SnapshotSettings(
            self.concurrent_send_snap_limit,
            self.concurrent_recv_snap_limit,
            self.snap_io_max_bytes_per_sec,
            self.snap_max_total_size,
            free_bytes,
        )

    def validate(self) -> None:
        """Raises ValueError for limits that nothing could pass."""
        if min(self.concurrent_send_snap_limit, self.concurrent_recv_snap_limit) < 1:
            raise ValueError("server.concurrent-send-snap-limit and concurrent-recv-snap-limit must be at least 1")


@dataclass(frozen=True, slots=True)
class BlockCacheConfig:
    """`[storage.block-cache]`."""

    capacity: ByteSize = ByteSize(64 << 20)


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """`[storage]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"scheduler-worker-pool-size"})

    data_dir: str = "tikv-data"
    reserve_space: ByteSize = ByteSize(256 << 20)
    """Of the disk. With less free no ordinary writes are taken; 0 turns that off."""
    scheduler_pending_write_threshold: ByteSize = ByteSize(100 << 20)
    """Of transactional commands that wait or run; more are answered ServerIsBusy."""
    block_cache: BlockCacheConfig = field(default_factory=BlockCacheConfig)
    api_version: int = 1
    enable_ttl: bool = False
    """Whether raw values may have a time to live. The same for all stores of a cluster, for as long as they have data."""
    ttl_check_poll_interval: Seconds = Seconds(12 * 3600.0)
    """How often expired raw values are looked for; they are invisible at once."""
    max_key_size: ByteSize = ByteSize(8 << 10)
    """Of a raw key."""
    scheduler_concurrency: int = 1 << 19
    """Slots of the latches, rounded up to a power of two."""
    flow_control: FlowControlConfig = field(default_factory=FlowControlConfig)

    def validate(self) -> None:
        """Raises ValueError for settings that this store cannot have."""
        if self.api_version != 1:
            raise ValueError("storage.api-version can only be 1; with storage.enable-ttl that is API V1TTL")
        if not 1 <= self.scheduler_concurrency <= SCHEDULER_CONCURRENCY_MAX:
            raise ValueError(f"storage.scheduler-concurrency must be from 1 to {SCHEDULER_CONCURRENCY_MAX}")
        if self.ttl_check_poll_interval <= 0 or self.max_key_size < 1:
            raise ValueError("storage.ttl-check-poll-interval and storage.max-key-size must be positive")


@dataclass(frozen=True, slots=True)
class UnifiedReadPoolConfig:
    """`[readpool.unified]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"min-thread-count", "stack-size", "auto-adjust-pool-size", "cpu-threshold"}
    )

    max_thread_count: int = 0
    """Long reads that run at once, push-down requests and checksums; 0: as many as `coprocessor.threads`."""
    max_tasks_per_worker: int = 2000
    """Reads of one priority that wait, for each thread; more are answered ServerIsBusy."""

    def validate(self) -> None:
        """Raises ValueError for pools that could not work."""
        if self.max_thread_count < 0 or self.max_tasks_per_worker < 2:
            raise ValueError("readpool.unified.max-thread-count must not be negative, max-tasks-per-worker at least 2")


@dataclass(frozen=True, slots=True)
class ReadPoolConfig:
    """`[readpool]`: there is only the unified pool."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"storage", "coprocessor"})

    unified: UnifiedReadPoolConfig = field(default_factory=UnifiedReadPoolConfig)


@dataclass(frozen=True, slots=True)
class PdEndpointsConfig:
    """`[pd]`."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)


@dataclass(frozen=True, slots=True)
class CoprocessorConfig:
    """`[coprocessor]`. Besides threads it holds, as in the public servers, how large a region may become."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"split-region-on-table", "consistency-check-method"})

    threads: int = 2
    """Worker threads for coprocessor requests and other long computations."""
    max_tasks: int = 1024
    """Requests that run or wait for a thread; more are answered ServerIsBusy."""
    region_max_size: ByteSize = ByteSize(144 << 20)
    region_split_size: ByteSize = ByteSize(96 << 20)
    region_max_keys: int = 1_440_000
    region_split_keys: int = 960_000
    batch_split_limit: int = 10
    """Split keys of one check at most; what is left over is split by the next ones."""

    def validate(self) -> None:
        """Raises ValueError for limits that contradict each other."""
        if not 0 < self.region_split_size <= self.region_max_size:
            raise ValueError("coprocessor.region-split-size must be positive and at most region-max-size")
        if not 0 < self.region_split_keys <= self.region_max_keys:
            raise ValueError("coprocessor.region-split-keys must be positive and at most region-max-keys")
        if self.max_tasks < 1:
            raise ValueError("coprocessor.max-tasks must be at least 1")
        if self.batch_split_limit < 1:
            raise ValueError("coprocessor.batch-split-limit must be at least 1")

    def split_limits(self) -> SplitLimits:
        """For the split checker."""
        return SplitLimits(
            self.region_max_size,
            self.region_split_size,
            self.region_max_keys,
            self.region_split_keys,
            self.batch_split_limit,
        )


@dataclass(frozen=True, slots=True)
class ResolvedTsConfig:
    """`[resolved-ts]`: how fresh stale reads can be."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"scan-lock-pool-size", "memory-quota", "incremental-scan-concurrency"}
    )

    enable: bool = True
    advance_ts_interval: Seconds = Seconds(20.0)
    """How often leaders advance their regions; other replicas hear of it one interval later."""

    def validate(self) -> None:
        """Raises ValueError for an interval that is none."""
        if self.advance_ts_interval <= 0:
            raise ValueError("resolved-ts.advance-ts-interval must be positive")


@dataclass(frozen=True, slots=True)
class PessimisticTxnConfig:
    """`[pessimistic-txn]`: how long lock requests wait for locks here."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"pipelined", "in-memory"})

    wait_for_lock_timeout: Seconds = Seconds(1.0)
    """The longest wait of a request; clients that want to wait longer ask again."""
    wake_up_delay_duration: Seconds = Seconds(0.02)
    """How long a released key stays free for the waiter that was woken before the next one is."""

    def validate(self) -> None:
        """Raises ValueError for times that are none."""
        if self.wait_for_lock_timeout <= 0:
            raise ValueError("pessimistic-txn.wait-for-lock-timeout must be positive")
        if self.wake_up_delay_duration <= 0:
            raise ValueError("pessimistic-txn.wake-up-delay-duration must be positive")

    def wait_settings(self) -> WaitSettings:
        """For the queues of waiters."""
        return WaitSettings(self.wait_for_lock_timeout, self.wake_up_delay_duration)


@dataclass(frozen=True, slots=True)
class DebugConfig:
    """`[debug]`: what a production store must not allow."""

    failpoints: bool = False
    """Whoever reaches the server's address may arm failpoints, which lose messages, stall the store or stop it."""


@dataclass(frozen=True, slots=True)
class TikvConfig:
    """The whole file."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "memory-usage-limit",
            "rocksdb",
            "raftdb",
            "raft-engine",
            "security",
            "import",
            "backup",
            "quota",
        }
    )

    server: ServerConfig = field(default_factory=ServerConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    pd: PdEndpointsConfig = field(default_factory=PdEndpointsConfig)
    raftstore: RaftstoreConfig = field(default_factory=RaftstoreConfig)
    coprocessor: CoprocessorConfig = field(default_factory=CoprocessorConfig)
    split: LoadSplitConfig = field(default_factory=LoadSplitConfig)
    readpool: ReadPoolConfig = field(default_factory=ReadPoolConfig)
    resolved_ts: ResolvedTsConfig = field(default_factory=ResolvedTsConfig)
    gc: GcConfig = field(default_factory=GcConfig)
    pessimistic_txn: PessimisticTxnConfig = field(default_factory=PessimisticTxnConfig)
    log: LogConfig = field(default_factory=LogConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)

    def validate(self) -> None:
        """Raises ValueError for settings that cannot work."""
        if not self.pd.endpoints:
            raise ValueError("pd.endpoints is empty")
        advertised = self.server.advertise_addr or self.server.addr
        if advertised.rsplit(":", 1)[0] in ("0.0.0.0", "[::]", "") and not advertised.endswith(":0"):
            raise ValueError(
                f"server.advertise-addr {advertised!r} is an address that nobody can connect to; name this host"
            )
