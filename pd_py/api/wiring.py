"""Puts the leader's part of the backend together."""

from __future__ import annotations

from core_py.ports import Clock
from pd_py.api.backend import GcPort, LeaderServices
from pd_py.api.of_cluster import ClusterOfLeader, SettingsOfCluster
from pd_py.api.of_rules import RulesOfCoordinator
from pd_py.api.of_scheduling import SchedulingOfCoordinator
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.schedule.options import ScheduleOptions


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
