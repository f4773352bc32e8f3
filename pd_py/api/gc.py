"""`/gc/safepoint` and `/min-resolved-ts`: what may be collected, and what can be read everywhere."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pd_py.api import go_text
from pd_py.api.errors import ApiError
from pd_py.api.middleware import BACKEND, cluster, services
from pd_py.api.requests import answer, path_uint64, query_text, uint64

GC_WORKER = "gc_worker"
PERSIST_INTERVAL_S = 1.0


async def safe_points(request: web.Request) -> web.StreamResponse:
    """GET /gc/safepoint: GC's own safe point, and what services hold; the least of those that have not expired."""
    gc = services(request).gc
    held = list(gc.service_safe_points())
    now_s = request.app[BACKEND].now_ms() // 1000
    least = min((one.safe_point for one in held if one.expires_at_s > now_s), default=0)
    out: dict[str, Any] = {
        "service_gc_safe_points": [
            {"service_id": one.service_id, "expired_at": one.expires_at_s, "safe_point": one.safe_point} for one in held
        ]
    }
    if least:
        out["min_service_gc_safe_point"] = least
    out["gc_safe_point"] = gc.safe_point()
    return answer(out)


async def delete_service(request: web.Request) -> web.StreamResponse:
    """DELETE /gc/safepoint/{service_id}."""
    await services(request).gc.delete_service(request.match_info["service_id"])
    return answer("Delete service GC safepoint successfully.")


def _resolved(ts: int, stores: dict[str, int] | None) -> web.Response:
    return answer(
        {
            "is_real_time": True,
            "min_resolved_ts": ts,
            "persist_interval": go_text.duration(PERSIST_INTERVAL_S),
            "stores_min_resolved_ts": stores,
        }
    )


async def min_resolved_ts(request: web.Request) -> web.StreamResponse:
    """GET /min-resolved-ts?scope=cluster|1,2,3."""
    found = cluster(request)
    scope = query_text(request, "scope")
    known = {store.view.store_id: store.min_resolved_ts for store in found.store_details()}
    if not scope:
        return _resolved(found.min_resolved_ts(), None)
    if scope == "cluster":
        return _resolved(found.min_resolved_ts(), {str(store): ts for store, ts in known.items()})
    try:
        chosen = [uint64(part) for part in scope.split(",")]
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    of_chosen = {store: known.get(store, 0) for store in chosen}
    return _resolved(min(of_chosen.values()), {str(store): ts for store, ts in of_chosen.items()})


async def min_resolved_ts_of(request: web.Request) -> web.StreamResponse:
    """GET /min-resolved-ts/{store_id}."""
    store_id = path_uint64(request, "store_id")
    found = cluster(request).store_detail(store_id)
    return _resolved(0 if found is None else found.min_resolved_ts, None)


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/gc/safepoint", safe_points),
        web.delete("/gc/safepoint/{service_id}", delete_service),
        web.get("/min-resolved-ts", min_resolved_ts),
        web.get("/min-resolved-ts/{store_id}", min_resolved_ts_of),
    ]
