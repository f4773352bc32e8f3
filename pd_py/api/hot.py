"""`/hotspot/...`: where the flow goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from pd_py.api import errors, go_text
from pd_py.api.backend import ClusterPort
from pd_py.api.errors import ApiError
from pd_py.api.middleware import Handler, cluster
from pd_py.api.requests import answer, query, uint64
from pd_py.schedule.view import FlowKind, HotPeer, Role, StoreLoad


def _of_store(found: ClusterPort, kind: FlowKind, peers: Sequence[HotPeer], load: StoreLoad) -> dict[str, Any]:
    write = kind is FlowKind.WRITE
    shown = []
    for peer in sorted(peers, key=lambda peer: peer.bytes_rate, reverse=True):
        region = found.region(peer.region_id)
        held = [] if region is None else [one.store_id for one in region.peers]
        own = None if region is None else region.on_store(peer.store_id)
        shown.append(
            {
                "store_id": peer.store_id,
                "stores": held,
                "is_leader": peer.is_leader,
                "is_learner": own is not None and own.role is Role.LEARNER,
                "region_id": peer.region_id,
                "hot_degree": peer.degree,
                "flow_bytes": peer.bytes_rate,
                "flow_keys": peer.keys_rate,
                "flow_query": peer.query_rate,
                "flow_cpu": 0.0,
                "anti_count": 0,
                "last_update_time": go_text.ZERO_TIME,
            }
        )
    return {
        "store_bytes": load.write_bytes_rate if write else load.read_bytes_rate,
        "store_keys": load.write_keys_rate if write else load.read_keys_rate,
        "store_query": 0.0,
        "store_cpu": 0.0,
        "total_flow_bytes": sum(peer.bytes_rate for peer in peers),
        "total_flow_keys": sum(peer.keys_rate for peer in peers),
        "total_flow_query": sum(peer.query_rate for peer in peers),
        "total_flow_cpu": 0.0,
        "regions_count": len(peers),
        "statistics": shown,
    }


def regions(kind: FlowKind) -> Handler:
    """GET /hotspot/regions/{read,write}?store_id=: hot replicas by store, all of them and the leaders among them."""

    async def page(request: web.Request) -> web.StreamResponse:
        found = cluster(request)
        wanted = set()
        for raw in query(request).get("store_id", []):
            text = raw.decode("utf-8", "replace")
            try:
                store_id = uint64(text)
            except ValueError as error:
                raise ApiError(400, f"invalid store id: {text}") from error
            if found.store_detail(store_id) is None:
                raise ApiError(500, errors.store_not_found(store_id))
            wanted.add(store_id)
        hot = found.hot_peers(kind)
        as_peer: dict[str, Any] = {}
        as_leader: dict[str, Any] = {}
        for store in found.stores():
            if wanted and store.store_id not in wanted:
                continue
            peers, load = hot.get(store.store_id, ()), found.store_load(store.store_id)
            as_peer[str(store.store_id)] = _of_store(found, kind, peers, load)
            leaders = [peer for peer in peers if peer.is_leader]
            as_leader[str(store.store_id)] = _of_store(found, kind, leaders, load)
        return answer({"as_peer": as_peer, "as_leader": as_leader})

    return page


async def stores(request: web.Request) -> web.StreamResponse:
    """GET /hotspot/stores: rates by store."""
    found = cluster(request)
    loads = {str(store.store_id): found.store_load(store.store_id) for store in found.stores()}
    out = {
        "bytes-write-rate": {store: load.write_bytes_rate for store, load in loads.items()},
        "bytes-read-rate": {store: load.read_bytes_rate for store, load in loads.items()},
        "keys-write-rate": {store: load.write_keys_rate for store, load in loads.items()},
        "keys-read-rate": {store: load.read_keys_rate for store, load in loads.items()},
    }
    return answer({name: rates for name, rates in out.items() if rates})


async def history(request: web.Request) -> web.StreamResponse:
    """GET /hotspot/regions/history: always empty, for no history of hot regions is kept here."""
    cluster(request)
    return answer({"history_hot_region": []})


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/hotspot/regions/write", regions(FlowKind.WRITE)),
        web.get("/hotspot/regions/read", regions(FlowKind.READ)),
        web.get("/hotspot/regions/history", history),
        web.get("/hotspot/stores", stores),
    ]
