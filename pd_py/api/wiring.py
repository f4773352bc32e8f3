"""Puts the backend together out of a member's parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core_py.ports import Clock, Transport
from pd_py.api.backend import ApiBackend, GcPort, LeaderServices
from pd_py.api.of_cluster import ClusterOfLeader, RegionsOfMember, SettingsOfCluster
from pd_py.api.of_members import MembersOfPd
from pd_py.api.of_rules import RulesOfCoordinator
from pd_py.api.of_scheduling import SchedulingOfCoordinator
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.member.changes import MemberChanges
from pd_py.schedule.options import ScheduleOptions
from pd_py.server.directory import MemberDirectory
from pd_py.server.session import LeaderSession


def leader_services(cluster: Cluster, coordinator: Coordinator, gc: GcPort, clock: Clock) -> LeaderServices:
    """What the HTTP API needs of one term of leadership. The default placement rule follows the replication settings."""

    async def follow(options: ScheduleOptions) -> None:
        await coordinator.set_default_rule(options.max_replicas, options.location_labels, options.isolation_level)

    scheduling = SchedulingOfCoordinator(coordinator, clock)
    return LeaderServices(
        cluster=ClusterOfLeader(cluster, scheduling.scores),
        scheduling=scheduling,
        rules=RulesOfCoordinator(coordinator),
        settings=SettingsOfCluster(cluster.settings, clock.monotonic, follow),
        gc=gc,
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the backend needs of its process. `own_settings` is the member's configuration under the public names."""

    name: str
    clock: Clock
    transport: Transport
    own_settings: Callable[[], dict[str, Any]]
    set_log_level: Callable[[str], None]
    leader_urls: Callable[[], Sequence[str]] | None = None
    """Where the leader serves this API, if that is not at its client URLs."""


def backend_of(
    around: Surroundings, directory: Callable[[], MemberDirectory], changes: Callable[[], MemberChanges]
) -> ApiBackend:
    """A member's backend. `directory` and `changes` are looked up when they are needed: the member may still be starting."""
    services = _OfTerm(directory, around.clock)

    def client_urls_of_leader() -> Sequence[str]:
        leader, own = directory().leader(), directory().own()
        return () if leader is None or (own is not None and leader.id == own.id) else leader.client_urls

    return ApiBackend(
        name=around.name,
        cluster_id=lambda: directory().cluster_id,
        leader=services,
        members=MembersOfPd(lambda: directory().describe(), changes, around.transport),
        local_config=around.own_settings,
        set_log_level=around.set_log_level,
        now_ms=around.clock.wall_ms,
        leader_urls=around.leader_urls or client_urls_of_leader,
        started_at_s=around.clock.wall_ms() // 1000,
        synced_regions=lambda: RegionsOfMember(directory().regions),
    )


class _OfTerm:
    """The leader's services, made once for each term."""

    def __init__(self, directory: Callable[[], MemberDirectory], clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._session: LeaderSession | None = None
        self._services: LeaderServices | None = None

    def __call__(self) -> LeaderServices | None:
        """None while this member does not lead, or its lease does not hold."""
        session = self._directory().session
        if session is None or not session.store.is_valid:
            return None
        if session is not self._session:
            self._session = session
            self._services = leader_services(session.cluster, session.coordinator, session.gc, self._clock)
        return self._services
