"""PD's configuration under the public key names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from core_py.errors import ConfigError
from core_py.runtime import tls
from core_py.runtime.config import Seconds
from core_py.runtime.log import LogConfig
from pd_py.member.identity import Birth
from pd_py.metastore.members import bare_address, parse_initial_cluster
from pd_py.metastore.replica import RaftTimes
from pd_py.schedule.options import ScheduleOptions

Tls = tuple[bytes, bytes, bytes]


def _public(settings: Any) -> Any:
    if isinstance(settings, Seconds):
        return f"{settings:g}s"
    if isinstance(settings, tuple):
        return list(settings)
    if not is_dataclass(settings):
        return settings
    return {field.name.replace("_", "-"): _public(getattr(settings, field.name)) for field in fields(settings)}


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """`[schedule]`. It counts until somebody sets something through the API; the meanings are those of `ScheduleOptions`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "split-merge-interval-jitter",
            "hot-regions-write-interval",
            "hot-regions-reserved-days",
            "store-limit-version",
        }
    )

    max_store_down_time: Seconds = Seconds(1800.0)
    low_space_ratio: float = 0.8
    high_space_ratio: float = 0.7
    tolerant_size_ratio: float = 0.0
    leader_schedule_limit: int = 4
    leader_schedule_policy: str = "count"
    region_schedule_limit: int = 2048
    replica_schedule_limit: int = 64
    merge_schedule_limit: int = 8
    hot_region_schedule_limit: int = 4
    hot_region_cache_hits_threshold: int = 3
    max_snapshot_count: int = 64
    max_pending_peer_count: int = 64
    max_merge_region_size: int = 54
    max_merge_region_keys: int = 540_000
    split_merge_interval: Seconds = Seconds(3600.0)
    enable_joint_consensus: bool = True
    patrol_region_interval: Seconds = Seconds(0.1)

    def validate(self) -> None:
        """Raises ValueError for values out of range."""
        for name in ("low_space_ratio", "high_space_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"schedule.{name.replace('_', '-')} must be in (0, 1]")
        if self.leader_schedule_policy not in ("count", "size"):
            raise ValueError('schedule.leader-schedule-policy must be "count" or "size"')
        for name in ("leader", "region", "replica", "merge", "hot_region"):
            if getattr(self, f"{name}_schedule_limit") < 0:
                raise ValueError(f"schedule.{name.replace('_', '-')}-schedule-limit must not be negative")


@dataclass(frozen=True, slots=True)
class ReplicationConfig:
    """`[replication]`."""

    max_replicas: int = 3
    location_labels: tuple[str, ...] = ()
    isolation_level: str = ""
    strictly_match_label: bool = False
    enable_placement_rules: bool = True

    def validate(self) -> None:
        """Raises ValueError for values out of range."""
        if self.max_replicas < 1 or self.max_replicas % 2 == 0:
            raise ValueError("replication.max-replicas must be an odd number")
        if self.isolation_level and self.isolation_level not in self.location_labels:
            raise ValueError("replication.isolation-level must be one of location-labels or empty")


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """`[security]`: mutual TLS for clients and members. All three paths, or none."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"cert-allowed-cn", "redact-info-log", "encryption"})

    cacert_path: str = ""
    cert_path: str = ""
    key_path: str = ""

    def validate(self) -> None:
        """Raises ValueError when only part of it is set."""
        given = [path for path in (self.cacert_path, self.cert_path, self.key_path) if path]
        if len(given) not in (0, 3):
            raise ValueError("security.cacert-path, cert-path and key-path belong together")

    def load(self) -> Tls | None:
        """(root certificates, key, certificate chain) in PEM, or None without TLS. Raises ConfigError."""
        if not self.cacert_path:
            return None
        try:
            ca, key, cert = (Path(path).read_bytes() for path in (self.cacert_path, self.key_path, self.cert_path))
        except OSError as error:
            raise ConfigError(f"security: {error.filename} cannot be read: {error.strerror}") from error
        return ca, key, cert

    def server_context(self) -> ssl.SSLContext | None:
        """For HTTP that is served; None without TLS. Raises ConfigError."""
        return tls.server_context(self.cacert_path, self.cert_path, self.key_path) if self.cacert_path else None

    def client_context(self) -> ssl.SSLContext | None:
        """For HTTP that is asked of other members; None without TLS. Raises ConfigError."""
        return tls.client_context(self.cacert_path, self.cert_path, self.key_path) if self.cacert_path else None


@dataclass(frozen=True, slots=True)
class PdConfig:
    """The whole file. Addresses are URLs, as the public server takes them."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"lease", "tso-save-interval", "dashboard", "initial-cluster-state", "quota-backend-bytes", "enable-prevote"}
    )

    name: str = "pd"
    data_dir: str = ""
    client_urls: str = "http://127.0.0.1:2379"
    peer_urls: str = "http://127.0.0.1:2380"
    advertise_client_urls: str = ""
    advertise_peer_urls: str = ""
    initial_cluster: str = ""
    initial_cluster_token: str = "pd-cluster"  # noqa: S105 a name unless the operator makes it a secret
    join: str = ""
    status_addr: str = ""
    advertise_status_addr: str = ""
    shared_port: bool = False
    """Serve HTTP on the client port beside gRPC, as the public server does; it costs each gRPC call a little time."""
    tick_interval: Seconds = Seconds(0.1)
    election_interval: Seconds = Seconds(1.0)
    log: LogConfig = field(default_factory=LogConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    replication: ReplicationConfig = field(default_factory=ReplicationConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)

    @property
    def listen_address(self) -> str:
        """host:port of the client URL."""
        return bare_address(self.client_urls.split(",")[0])

    @property
    def scheme(self) -> str:
        """http or https, as the client URL says."""
        return "https" if self.client_urls.startswith("https://") else "http"

    @property
    def peer_listen_address(self) -> str:
        """host:port of the peer URL."""
        return bare_address(self.peer_urls.split(",")[0])

    @property
    def directory(self) -> str:
        """Where data goes."""
        return self.data_dir or f"default.{self.name}"

    @property
    def raft_times(self) -> RaftTimes:
        """The pace of elections: a member stands for election after one to two election intervals of silence."""
        return RaftTimes(float(self.tick_interval), max(3, round(self.election_interval / self.tick_interval)), 2)

    @property
    def schedule_options(self) -> ScheduleOptions:
        """`[schedule]` and `[replication]` as scheduling takes them."""
        schedule, replication = self.schedule, self.replication
        return ScheduleOptions(
            max_replicas=replication.max_replicas,
            location_labels=replication.location_labels,
            isolation_level=replication.isolation_level,
            strictly_match_label=replication.strictly_match_label,
            enable_placement_rules=replication.enable_placement_rules,
            leader_schedule_limit=schedule.leader_schedule_limit,
            leader_schedule_policy=schedule.leader_schedule_policy,
            region_schedule_limit=schedule.region_schedule_limit,
            replica_schedule_limit=schedule.replica_schedule_limit,
            merge_schedule_limit=schedule.merge_schedule_limit,
            hot_region_schedule_limit=schedule.hot_region_schedule_limit,
            max_store_down_time_s=float(schedule.max_store_down_time),
            max_snapshot_count=schedule.max_snapshot_count,
            max_pending_peer_count=schedule.max_pending_peer_count,
            low_space_ratio=schedule.low_space_ratio,
            high_space_ratio=schedule.high_space_ratio,
            tolerant_size_ratio=schedule.tolerant_size_ratio,
            max_merge_region_size=schedule.max_merge_region_size,
            max_merge_region_keys=schedule.max_merge_region_keys,
            split_merge_interval_s=float(schedule.split_merge_interval),
            hot_region_cache_hits_threshold=schedule.hot_region_cache_hits_threshold,
            enable_joint_consensus=schedule.enable_joint_consensus,
        )

    @property
    def birth(self) -> Birth:
        """How this member comes into being."""
        urls = self.advertise_peer_urls or self.peer_urls
        return Birth(
            self.name,
            tuple(url.strip() for url in urls.split(",") if url.strip()),
            self.initial_cluster,
            self.join,
            self.initial_cluster_token,
        )

    def public(self) -> dict[str, Any]:
        """The configuration under the public names, without what is secret."""
        table: dict[str, Any] = _public(self)
        table["initial-cluster-token"] = "***"
        return table

    def validate(self) -> None:
        """Raises ValueError for settings this server cannot honour, ConfigError for a bad initial-cluster."""
        if self.initial_cluster and self.join:
            raise ValueError("initial-cluster and join exclude each other")
        if not 0.01 <= self.tick_interval <= 10 or self.election_interval < 3 * self.tick_interval:
            raise ValueError("election-interval must be at least three times tick-interval (10ms to 10s)")
        if self.initial_cluster:
            members = parse_initial_cluster(self.initial_cluster, self.initial_cluster_token)
            if all(member.name != self.name for member in members):
                raise ValueError(f"initial-cluster does not name this member {self.name!r}")
