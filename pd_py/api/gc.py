"""`/gc/safepoint` and `/min-resolved-ts`: what may be collected, and what can be read everywhere."""

from __future__ import annotations

from aiohttp import web

from pd_py.api import go_text
from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import answer, path_uint64, query_text, uint64

PERSIST_INTERVAL_S = 1.0


async def safe_points(request: web.Request) -> web.StreamResponse:
    """GET /gc/safepoint: GC's own safe point, and what services hold; the least of those that have not expired."""
    return answer(services(request).gc.list_service_safe_points())


async def delete_service(request: web.Request) -> web.StreamResponse:
    """DELETE /gc/safepoint/{service_id}."""
    await services(request).gc.delete_service_safe_point(request.match_info["service_id"])
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
