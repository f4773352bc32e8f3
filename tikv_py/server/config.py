"""The storage node's configuration under the public key names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from core_py.runtime.config import ByteSize
from core_py.runtime.log import LogConfig
from tikv_py.raftstore.config import RaftstoreConfig


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """`[server]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "grpc-keepalive-time",
            "grpc-keepalive-timeout",
            "grpc-concurrency",
            "grpc-memory-pool-quota",
            "snap-io-max-bytes-per-sec",
        }
    )

    addr: str = "127.0.0.1:20160"
    advertise_addr: str = ""
    status_addr: str = "127.0.0.1:20180"
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockCacheConfig:
    """`[storage.block-cache]`."""

    capacity: ByteSize = ByteSize(64 << 20)


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """`[storage]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"api-version", "enable-ttl", "scheduler-worker-pool-size"})

    data_dir: str = "tikv-data"
    reserve_space: ByteSize = ByteSize(0)
    block_cache: BlockCacheConfig = field(default_factory=BlockCacheConfig)


@dataclass(frozen=True, slots=True)
class PdEndpointsConfig:
    """`[pd]`."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)


@dataclass(frozen=True, slots=True)
class CoprocessorConfig:
    """`[coprocessor]`. Region sizes are read by the split checker."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "region-max-size",
            "region-split-size",
            "region-max-keys",
            "region-split-keys",
            "split-region-on-table",
            "batch-split-limit",
            "consistency-check-method",
        }
    )

    threads: int = 2
    """Worker threads for coprocessor requests and other long computations."""


@dataclass(frozen=True, slots=True)
class TikvConfig:
    """The whole file."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "memory-usage-limit",
            "rocksdb",
            "raftdb",
            "raft-engine",
            "readpool",
            "security",
            "gc",
            "import",
            "backup",
            "split",
            "quota",
        }
    )

    server: ServerConfig = field(default_factory=ServerConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    pd: PdEndpointsConfig = field(default_factory=PdEndpointsConfig)
    raftstore: RaftstoreConfig = field(default_factory=RaftstoreConfig)
    coprocessor: CoprocessorConfig = field(default_factory=CoprocessorConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def validate(self) -> None:
        """Raises ValueError for settings that cannot work."""
        if not self.pd.endpoints:
            raise ValueError("pd.endpoints is empty")
        advertised = self.server.advertise_addr or self.server.addr
        if advertised.rsplit(":", 1)[0] in ("0.0.0.0", "[::]", "") and not advertised.endswith(":0"):
            raise ValueError(
                f"server.advertise-addr {advertised!r} is an address that nobody can connect to; name this host"
            )
