"""Stores in their public JSON shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pd_py.api import go_text
from pd_py.api.backend import StoreDetail

MIB = 1 << 20


def store_json(store: StoreDetail) -> dict[str, Any]:
    """A store with its figures; those that are zero are left out where the public server does."""
    view, stats = store.view, store.stats
    status: dict[str, Any] = {
        "capacity": go_text.byte_size(stats.capacity),
        "available": go_text.byte_size(stats.available),
        "used_size": go_text.byte_size(stats.used_size),
        "leader_count": view.leader_count,
        "leader_weight": view.leader_weight,
        "leader_score": store.leader_score,
        "leader_size": view.leader_bytes // MIB,
        "region_count": view.region_count,
        "region_weight": view.region_weight,
        "region_score": store.region_score,
        "region_size": view.region_bytes // MIB,
    }
    others = {
        "learner_count": view.learner_count,
        "pending_peer_count": view.pending_count,
        "slow_score": view.slow_score,
        "sending_snap_count": view.sending_snapshots,
        "receiving_snap_count": view.receiving_snapshots,
        "is_busy": view.busy,
    }
    status |= {name: value for name, value in others.items() if value}
    status["start_ts"] = go_text.timestamp(store.meta.start_timestamp * 1000)
    if store.last_heartbeat_ms:
        status["last_heartbeat_ts"] = go_text.timestamp(store.last_heartbeat_ms)
        up_ms = store.last_heartbeat_ms - store.meta.start_timestamp * 1000
        if store.meta.start_timestamp and up_ms > 0:
            status["uptime"] = go_text.duration(up_ms / 1000)
    if not view.allows_leader_in:
        status["pause_leader_transfer_in"] = True
    if not view.allows_leader_out:
        status["pause_leader_transfer_out"] = True
    meta = go_text.of_message(store.meta)
    if store.last_heartbeat_ms:
        meta["last_heartbeat"] = store.last_heartbeat_ms * 1_000_000
    return {"store": meta | {"state_name": view.state.value}, "status": status}


def stores_json(stores: Iterable[StoreDetail]) -> dict[str, Any]:
    """Several stores."""
    found = [store_json(store) for store in stores]
    return {"count": len(found), "stores": found}
