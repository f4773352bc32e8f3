"""PD's configuration under the public key names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from core_py.runtime.config import Seconds
from core_py.runtime.log import LogConfig


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """`[schedule]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "leader-schedule-limit",
            "region-schedule-limit",
            "replica-schedule-limit",
            "merge-schedule-limit",
            "hot-region-schedule-limit",
            "max-snapshot-count",
            "max-pending-peer-count",
            "split-merge-interval",
        }
    )

    max_store_down_time: Seconds = Seconds(1800.0)
    low_space_ratio: float = 0.8
    patrol_region_interval: Seconds = Seconds(0.2)
    balance_interval: Seconds = Seconds(2.0)

    def validate(self) -> None:
        """Raises ValueError for values out of range."""
        if not 0 < self.low_space_ratio <= 1:
            raise ValueError("schedule.low-space-ratio must be in (0, 1]")


@dataclass(frozen=True, slots=True)
class ReplicationConfig:
    """`[replication]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"isolation-level", "strictly-match-label", "enable-placement-rules"}
    )

    max_replicas: int = 3
    location_labels: tuple[str, ...] = ()

    def validate(self) -> None:
        """Raises ValueError for values out of range."""
        if self.max_replicas < 1 or self.max_replicas % 2 == 0:
            raise ValueError("replication.max-replicas must be an odd number")


@dataclass(frozen=True, slots=True)
class PdConfig:
    """The whole file. Addresses are URLs, as the public server takes them."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"lease", "tso-save-interval", "dashboard", "security", "join"})

    name: str = "pd"
    data_dir: str = ""
    client_urls: str = "http://127.0.0.1:2379"
    peer_urls: str = "http://127.0.0.1:2380"
    advertise_client_urls: str = ""
    advertise_peer_urls: str = ""
    initial_cluster: str = ""
    status_addr: str = ""
    log: LogConfig = field(default_factory=LogConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    replication: ReplicationConfig = field(default_factory=ReplicationConfig)

    @property
    def listen_address(self) -> str:
        """host:port of the client URL."""
        return self.client_urls.split(",")[0].split("://", 1)[-1].rstrip("/")

    @property
    def directory(self) -> str:
        """Where data goes."""
        return self.data_dir or f"default.{self.name}"

    def validate(self) -> None:
        """Raises ValueError for settings this server cannot honour."""
        members = [part for part in self.initial_cluster.split(",") if part]
        if len(members) > 1:
            raise ValueError(f"initial-cluster names {len(members)} members; this version runs a single PD member")
        if members and members[0].split("=", 1)[0] != self.name:
            raise ValueError(f"initial-cluster does not name this member {self.name!r}")
