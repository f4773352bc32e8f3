"""PD's metrics under the public names (field notes 3)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from pd_py.cluster.cluster import Cluster
from pd_py.schedule.view import StoreState


class PdMetrics:
    """One per process. Gauges of the cluster's state are set by `refresh`, not on the way of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("pd_server_requests", "Requests by method", ["method"], registry=registry)
        self.tso_given = Counter("pd_tso_timestamps", "Timestamps given out", registry=registry)
        self.tso_events = Counter("pd_tso_events", "Events of the timestamp oracle", ["type"], registry=registry)
        self.cluster_status = Gauge("pd_cluster_status", "State of the cluster", ["type"], registry=registry)
        self.regions_status = Gauge("pd_regions_status", "Regions in a noteworthy state", ["type"], registry=registry)
        self.store_status = Gauge(
            "pd_scheduler_store_status", "State of each store", ["type", "store"], registry=registry
        )
        self.operators = Gauge("pd_schedule_operators_count", "Operators under way", ["type"], registry=registry)
        self.heartbeats = Gauge("pd_scheduler_region_heartbeat", "Region heartbeats received", registry=registry)
        self.is_leader = Gauge("etcd_server_is_leader", "Whether this member leads", registry=registry)

    def refresh(self, cluster: Cluster) -> None:
        """Set the gauges from the cluster."""
        self.heartbeats.set(cluster.region_heartbeats)
        views = list(cluster.stores())
        names = {StoreState.UP: "store_up_count", StoreState.DISCONNECTED: "store_disconnected_count"}
        names |= {StoreState.DOWN: "store_down_count", StoreState.OFFLINE: "store_offline_count"}
        for state, name in names.items():
            self.cluster_status.labels(name).set(sum(view.state is state for view in views))
        self.cluster_status.labels("region_count").set(len(cluster.tree))
        self.cluster_status.labels("leader_count").set(sum(view.leader_count for view in views))
        self.cluster_status.labels("storage_capacity").set(sum(view.capacity_bytes for view in views))
        self.cluster_status.labels("storage_size").set(sum(view.region_bytes for view in views))
        regions = list(cluster.regions())
        short = cluster.options.max_replicas
        self.regions_status.labels("miss-peer-region-count").set(sum(len(region.peers) < short for region in regions))
        self.regions_status.labels("extra-peer-region-count").set(sum(len(region.peers) > short for region in regions))
        self.regions_status.labels("down-peer-region-count").set(sum(bool(region.down) for region in regions))
        self.regions_status.labels("pending-peer-region-count").set(sum(bool(region.pending) for region in regions))
        for view in views:
            store = str(view.store_id)
            self.store_status.labels("leader_count", store).set(view.leader_count)
            self.store_status.labels("region_count", store).set(view.region_count)
            self.store_status.labels("store_available", store).set(view.available_bytes)
            self.store_status.labels("store_used", store).set(view.region_bytes)
        self.operators.labels("running").set(len(cluster.operators))
