"""PD's metrics under the public names (field notes 3).

Public dashboards read some counters under names without `_total`; the Python library would add it, so those are gauges that only
go up. Gauges of the cluster's state are set by `refresh` every few seconds, not on the way of requests.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pd_py.cluster.cluster import Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.cluster.region_statistics import RegionState
from pd_py.schedule.operator import Operator
from pd_py.schedule.records import Finished
from pd_py.schedule.view import FlowKind, StoreState, StoreView

SHORT_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
LONG_BUCKETS = (0.5, 1, 2, 4, 8, 16, 20, 40, 60, 90, 120, 180, 240, 300, 480, 600, 900, 1800)

_STORE_COUNTS = {
    StoreState.UP: "store_up_count",
    StoreState.DISCONNECTED: "store_disconnected_count",
    StoreState.DOWN: "store_down_count",
    StoreState.OFFLINE: "store_offline_count",
    StoreState.TOMBSTONE: "store_tombstone_count",
}


class PdMetrics:
    """One per process. Also hears of operators (`pd_py.schedule.controller.OperatorListener`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("pd_server_requests", "Requests by method", ["method"], registry=registry)
        self.handling = Histogram(
            "grpc_server_handling_seconds",
            "Time to answer a unary call",
            ["grpc_method"],
            buckets=SHORT_BUCKETS,
            registry=registry,
        )
        self.tso_given = Counter("pd_tso_timestamps", "Timestamps given out", registry=registry)
        self.tso_events = Gauge("pd_tso_events", "Events of the timestamp oracle", ["type"], registry=registry)
        self.tso_duration = Histogram(
            "pd_server_handle_tso_duration_seconds",
            "Time to answer a request for timestamps",
            buckets=SHORT_BUCKETS,
            registry=registry,
        )
        self.sync_duration = Histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "Time to write and sync the log of metadata",
            buckets=SHORT_BUCKETS,
            registry=registry,
        )
        self.is_leader = Gauge("etcd_server_is_leader", "Whether this member leads", registry=registry)
        self.cluster_status = Gauge("pd_cluster_status", "State of the cluster", ["type"], registry=registry)
        self.regions_status = Gauge("pd_regions_status", "Regions in a noteworthy state", ["type"], registry=registry)
        self.store_status = Gauge(
            "pd_scheduler_store_status", "State of each store", ["type", "store"], registry=registry
        )
        self.hotspot_status = Gauge(
            "pd_hotspot_status", "Hot regions of each store", ["type", "store"], registry=registry
        )
        self.scheduler_status = Gauge("pd_scheduler_status", "Schedulers that run", ["kind", "type"], registry=registry)
        self.running = Gauge("pd_schedule_operators_running", "Operators under way", registry=registry)
        self.operators = Gauge(
            "pd_schedule_operators_count", "Operators by event", ["type", "event"], registry=registry
        )
        self.operator_duration = Histogram(
            "pd_schedule_finish_operators_duration_seconds",
            "Time that operators took that reached their end",
            ["type"],
            buckets=LONG_BUCKETS,
            registry=registry,
        )
        self.heartbeats = Gauge("pd_scheduler_region_heartbeat", "Region heartbeats received", registry=registry)

    # ---- operators ----

    def created(self, operator: Operator) -> None:
        """One began to run."""
        self.operators.labels(operator.description, "create").inc()

    def ended(self, finished: Finished) -> None:
        """One ended."""
        name = finished.operator.description
        self.operators.labels(name, finished.status.value.lower()).inc()
        if finished.status.value == "SUCCESS":
            self.operator_duration.labels(name).observe(finished.duration_s)

    # ---- the cluster ----

    def refresh(self, cluster: Cluster, coordinator: Coordinator) -> None:
        """Set the gauges from the cluster."""
        self.heartbeats.set(cluster.region_heartbeats)
        views = [
            view for view in (cluster.store(info.meta.id) for info in cluster.stores_info.all()) if view is not None
        ]
        for state, name in _STORE_COUNTS.items():
            self.cluster_status.labels(name).set(sum(view.state is state for view in views))
        self.cluster_status.labels("store_low_space_count").set(
            sum(_is_low(view, cluster.options.low_space_ratio) for view in views)
        )
        self.cluster_status.labels("store_slow_count").set(sum(view.slow_score >= 80 for view in views))
        self.cluster_status.labels("region_count").set(cluster.region_total())
        self.cluster_status.labels("leader_count").set(sum(view.leader_count for view in views))
        self.cluster_status.labels("storage_capacity").set(sum(view.capacity_bytes for view in views))
        self.cluster_status.labels("storage_size").set(sum(view.used_bytes for view in views))
        for region_state in RegionState:
            name = f"{region_state.value}-region-count".replace("-region-region-", "-region-")
            self.regions_status.labels(name).set(cluster.regions.statistics.count(region_state))
        for view in views:
            self._store(view)
        for kind in FlowKind:
            for store_id, peers in cluster.hot_peers(kind).items():
                self.hotspot_status.labels(f"hot_{kind.value}_region_as_peer", str(store_id)).set(len(peers))
        self.running.set(len(coordinator.operators))
        for scheduler in coordinator.schedulers():
            self.scheduler_status.labels(scheduler, "allow").set(1)

    def _store(self, view: StoreView) -> None:
        store = str(view.store_id)
        figures = {
            "leader_count": view.leader_count,
            "region_count": view.region_count,
            "leader_size": view.leader_bytes >> 20,
            "region_size": view.region_bytes >> 20,
            "store_available": view.available_bytes,
            "store_capacity": view.capacity_bytes,
            "store_used": view.used_bytes,
            "store_slow_score": view.slow_score,
        }
        for name, figure in figures.items():
            self.store_status.labels(name, store).set(figure)


def _is_low(view: StoreView, ratio: float) -> bool:
    return view.capacity_bytes > 0 and view.available_bytes < view.capacity_bytes * (1 - ratio)
