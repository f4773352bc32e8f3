"""What the HTTP handlers need of a PD member, as ports.

The handlers know values and these ports only; `pd_py.server` builds the backend from its parts. What only the leading member has is
in `LeaderServices`; a member that does not lead has none, and its requests go to the leader.

Calls that change something return when it is durable, and raise PdError (nothing changed) with the public text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import FlowKind, HotPeer, RegionView, StoreLoad, StoreView
from protos.kvproto import metapb_pb2, pdpb_pb2


@dataclass(frozen=True, slots=True)
class StoreDetail:
    """A store with everything that is shown of it."""

    meta: metapb_pb2.Store
    stats: pdpb_pb2.StoreStats
    view: StoreView
    last_heartbeat_ms: int = 0
    """Unix milliseconds; 0 when it has not been heard of since this member leads."""
    leader_score: float = 0.0
    region_score: float = 0.0
    min_resolved_ts: int = 0


class RegionSource(Protocol):
    """The regions that a member knows. Followers may have one too."""

    def region(self, region_id: int) -> RegionView | None:
        """One region."""
        ...

    def region_of(self, key: bytes) -> RegionView | None:
        """The region that holds a key."""
        ...

    def region_total(self) -> int:
        """How many there are."""
        ...

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        """Regions that touch [start, end), in key order; no limit when it is not positive."""
        ...

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """The regions left and right of one, where they touch it."""
        ...

    def regions_on(self, store_id: int) -> Iterable[RegionView]:
        """Regions that have a replica on a store."""
        ...

    def down_seconds(self, region_id: int) -> Mapping[int, int]:
        """For how long the peers of a region that are down have been so, by peer id."""
        ...


class ClusterPort(RegionSource, Protocol):
    """The cluster at the leading member."""

    @property
    def options(self) -> ScheduleOptions:
        """The settings in effect."""
        ...

    @property
    def bootstrapped(self) -> bool:
        """Whether there is a first store."""
        ...

    def status(self) -> Mapping[str, Any]:
        """`raft_bootstrap_time_ms` (Unix milliseconds, 0 before), `is_initialized`, `replication_status`."""
        ...

    def regions_in(self, state: str) -> Sequence[RegionView]:
        """Regions in a noteworthy state under its public name ("miss-peer")."""
        ...

    def stores(self) -> Iterable[StoreView]:
        """All stores but tombstones, by id."""
        ...

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        """Hot replicas by store."""
        ...

    def store_load(self, store_id: int) -> StoreLoad:
        """A store's flow."""
        ...

    def store_detail(self, store_id: int) -> StoreDetail | None:
        """One store, a tombstone too."""
        ...

    def store_details(self) -> Sequence[StoreDetail]:
        """All stores with tombstones, by id."""
        ...

    async def remove_store(self, store_id: int, *, physically_destroyed: bool) -> None:
        """Make a store Offline. Raises StoreNotFound, StoreTombstone, PdError."""
        ...

    async def up_store(self, store_id: int) -> None:
        """Take a removal back. Raises as `remove_store`."""
        ...

    async def set_store_labels(self, store_id: int, labels: Mapping[str, str], *, replace: bool) -> None:
        """Merge labels into a store's, or replace them all; a label with an empty value goes away. Raises PdError."""
        ...

    async def delete_store_label(self, store_id: int, key: str) -> None:
        """Take a label away. Raises PdError."""
        ...

    async def set_store_weight(self, store_id: int, leader: float, region: float) -> None:
        """Set what a store's share is. Raises PdError."""
        ...

    async def remove_tombstones(self) -> None:
        """Forget the stores that are tombstones. Raises PdError when regions still name one."""
        ...

    def min_resolved_ts(self) -> int:
        """Up to which timestamp all regions can be read on their replicas."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """An operator as it is shown. `text` is its whole description on one line."""

    text: str
    description: str
    brief: str
    region_id: int
    conf_ver: int
    version: int
    kind: int
    """The public flags."""
    status: str
    """The name in pdpb.OperatorStatus."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """A scheduler. Times are Unix milliseconds, 0 when it is not paused."""

    name: str
    disabled: bool = False
    paused_at_ms: int = 0
    resume_at_ms: int = 0


class SchedulingPort(Protocol):
    """Operators, schedulers, limits: what the coordinator does."""

    def operators(self, kinds: Sequence[str] | None) -> Sequence[OperatorInfo]:
        """Operators that run, of the kinds ("admin", "leader", "region", "waiting") or all."""
        ...

    def operator(self, region_id: int) -> OperatorInfo | None:
        """The operator of a region, or its last one."""
        ...

    def operator_records(self, since_ms: int) -> Sequence[OperatorInfo]:
        """Operators that ended since then."""
        ...

    async def add_operator(self, name: str, fields: Mapping[str, Any]) -> None:
        """Run an operator by its public name with the fields of the request, which are checked there.

        Raises PdError; its code is PD:operator:BadRequest when the fields are at fault.
        """
        ...

    def cancel_operator(self, region_id: int) -> bool:
        """False when there is none."""
        ...

    def cancel_operators(self) -> None:
        """Cancel all."""
        ...

    async def scatter(
        self, region_ids: Sequence[int], group: str, retry_limit: int, *, skip_store_limit: bool
    ) -> tuple[int, Sequence[int]]:
        """Spread regions: the percentage that was dealt with, and the ids that were not."""
        ...

    async def split_regions(self, keys: Sequence[bytes], retry_limit: int) -> tuple[int, Sequence[int]]:
        """Split at keys: the percentage that was done, and the ids of new regions."""
        ...

    def accelerate(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> None:
        """Check the regions of key ranges soon."""
        ...

    def replicated_state(self, regions: Iterable[RegionView]) -> str:
        """REPLICATED, INPROGRESS or PENDING."""
        ...

    def schedulers(self) -> Sequence[SchedulerInfo]:
        """All schedulers, by name."""
        ...

    async def add_scheduler(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Add a scheduler by its type's public name. Raises PdError."""
        ...

    async def remove_scheduler(self, name: str) -> bool:
        """False when there is none."""
        ...

    async def pause_scheduler(self, name: str, seconds: float) -> bool:
        """Pause (0 resumes) a scheduler, or "all". False when there is none."""
        ...

    def scheduler_config(self, name: str) -> Mapping[str, Any] | None:
        """A scheduler's settings; None when there is none."""
        ...

    async def change_scheduler(self, name: str, changes: Mapping[str, Any]) -> bool:
        """Change a scheduler's settings. False when there is none. Raises PdError."""
        ...

    def store_limits(self) -> Mapping[int, tuple[float, float]]:
        """(add-peer, remove-peer) per minute of every store."""
        ...

    async def set_store_limit(self, store_ids: Sequence[int] | None, kinds: Sequence[str], rate: float) -> None:
        """Set "add-peer" or "remove-peer" limits of stores; None is all, and those to come."""
        ...

    def checker_paused(self, name: str) -> bool | None:
        """Whether a checker is paused; None when there is none."""
        ...

    def pause_checker(self, name: str, seconds: float) -> bool:
        """Pause (0 resumes) a checker. False when there is none."""
        ...


class RulesPort(Protocol):
    """Placement rules and region labels, in their public JSON shapes. All calls that change raise RuleError, HexError, PdError."""

    def rule(self, group: str, rule_id: str) -> Any | None:
        """One rule."""
        ...

    def rules(self, group: str | None) -> list[Any]:
        """The rules of a group, or all."""
        ...

    def rules_at(self, key: bytes) -> list[Any]:
        """The rules that hold at a key."""
        ...

    def rules_for(self, region: RegionView) -> list[Any]:
        """The rules that a region follows."""
        ...

    def fit(self, region: RegionView) -> Any:
        """How a region fits its rules."""
        ...

    async def set_rules(self, rules: Sequence[Any]) -> None:
        """Add or change rules."""
        ...

    async def delete_rule(self, group: str, rule_id: str) -> None:
        """Take a rule away."""
        ...

    async def batch(self, actions: Sequence[Any]) -> None:
        """Add and delete at once."""
        ...

    def groups(self) -> list[Any]:
        """All groups."""
        ...

    def group(self, group_id: str) -> Any | None:
        """One group."""
        ...

    async def set_group(self, group: Any) -> None:
        """Add or change a group."""
        ...

    async def delete_group(self, group_id: str) -> None:
        """Take a group's settings away."""
        ...

    def bundles(self) -> list[Any]:
        """All groups with their rules."""
        ...

    def bundle(self, group_id: str) -> Any:
        """One group with its rules."""
        ...

    async def set_bundles(self, bundles: Sequence[Any], *, replace_all: bool) -> None:
        """Set groups with their rules."""
        ...

    async def delete_bundle(self, group_id: str, *, regex: bool) -> None:
        """Take groups with their rules away."""
        ...

    def label_rules(self) -> list[Any]:
        """All region label rules."""
        ...

    def label_rule(self, rule_id: str) -> Any | None:
        """One region label rule."""
        ...

    async def patch_label_rules(self, sets: Sequence[Any], deletes: Sequence[str]) -> None:
        """Add, change and delete region label rules at once."""
        ...

    def region_labels(self, region: RegionView) -> Mapping[str, str]:
        """The labels of a region."""
        ...


class SettingsPort(Protocol):
    """The dynamic configuration."""

    def to_json(self) -> dict[str, Any]:
        """All of it, nested under the public names."""
        ...

    def defaults(self) -> dict[str, Any]:
        """What it is when nobody changed anything."""
        ...

    async def change(self, changes: Mapping[str, Any]) -> None:
        """Set items by dotted or bare public name, all or none. Raises PdError with the public text."""
        ...

    async def change_for(self, changes: Mapping[str, Any], seconds: float) -> None:
        """Set items for a time; zero seconds take that back. Raises as `change`."""
        ...


class GcPort(Protocol):
    """Safe points; `pd_py.gc.manager.GcManager` is one."""

    def list_service_safe_points(self) -> dict[str, Any]:
        """GC's own safe point and what services hold, in the public shape."""
        ...

    async def delete_service_safe_point(self, service_id: str) -> None:
        """Forget a service's safe point. Raises PdError."""
        ...


class MembersPort(Protocol):
    """The members of PD."""

    def describe(self) -> pdpb_pb2.GetMembersResponse:
        """All of them and who leads; without a leader when there is none."""
        ...

    async def healthy(self) -> Sequence[int]:
        """Ids of members that answer."""
        ...

    async def remove(self, member_id: int) -> None:
        """Take a member out. Raises PdError."""
        ...

    async def resign(self, to: str) -> None:
        """Give leadership up, to a member by name or (empty) to any other. Raises PdError."""
        ...

    async def set_priority(self, member_id: int, priority: int) -> None:
        """Prefer members of a higher priority as leader. Raises PdError."""
        ...


@dataclass(frozen=True, slots=True)
class LeaderServices:
    """What the leading member has."""

    cluster: ClusterPort
    scheduling: SchedulingPort
    rules: RulesPort
    settings: SettingsPort
    gc: GcPort


@dataclass(frozen=True, slots=True)
class ApiBackend:
    """A member, as the handlers see it."""

    name: str
    cluster_id: Callable[[], int]
    leader: Callable[[], LeaderServices | None]
    """None while this member does not lead, or may not be sure of it."""
    members: MembersPort
    local_config: Callable[[], dict[str, Any]]
    """The configuration of this member alone (its file and flags), under the public names."""
    set_log_level: Callable[[str], None]
    """Raises ValueError for an unknown level."""
    now_ms: Callable[[], int]
    """Unix milliseconds."""
    leader_urls: Callable[[], Sequence[str]]
    """Where another member that leads serves this API; empty when none is known."""
    started_at_s: int = 0
    """Unix seconds."""
    synced_regions: Callable[[], RegionSource | None] = lambda: None
    """Regions that a follower may answer from."""
