"""`/region/...` and `/regions/...`: looking at regions."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from pd_py.api import errors, region_json
from pd_py.api.errors import ApiError
from pd_py.api.middleware import Handler, cluster, regions
from pd_py.api.requests import (
    answer,
    integer,
    key_in_format,
    last_segment,
    limit,
    path_uint64,
    query_bytes,
    query_text,
)
from pd_py.schedule.view import RegionView

STATES = (
    "miss-peer",
    "extra-peer",
    "pending-peer",
    "down-peer",
    "learner-peer",
    "offline-peer",
    "empty-region",
    "oversized-region",
    "undersized-region",
)


def _learns(region: RegionView, store_id: int) -> bool:
    peer = region.on_store(store_id)
    return peer is not None and peer.role.name == "LEARNER"


KINDS_ON_STORE: dict[str, Callable[[RegionView, int], bool]] = {
    "all": lambda _region, _store: True,
    "leader": lambda region, store: region.leader_store_id == store,
    "follower": lambda region, store: region.leader_store_id != store and not _learns(region, store),
    "learner": _learns,
    "pending": lambda region, store: (peer := region.on_store(store)) is not None and peer.peer_id in region.pending,
    "witness": lambda _region, _store: False,
}
ORDERS: dict[str, Callable[[RegionView], int]] = {
    "writeflow": lambda region: region.written_bytes,
    "readflow": lambda region: region.read_bytes,
    "confver": lambda region: region.conf_ver,
    "version": lambda region: region.version,
    "size": lambda region: region.size_bytes,
    "keys": lambda region: region.keys,
}
MIN_BOUND_MIB = 1
MIN_BOUND_KEYS = 1000


async def by_id(request: web.Request) -> web.StreamResponse:
    """GET /region/id/{id}."""
    region_id = path_uint64(request, "id")
    if region_id == 0:
        raise ApiError(400, errors.INVALID_REGION_ID)
    source = regions(request)
    region = source.region(region_id)
    if region is None:
        raise ApiError(404, errors.region_not_found(region_id))
    return region_json.one(source, region)


async def by_key(request: web.Request) -> web.StreamResponse:
    """GET /region/key/{key}."""
    source = regions(request)
    region = source.region_of(key_in_format(request, last_segment(request)))
    if region is None:
        raise ApiError(404, errors.region_not_found(None))
    return region_json.one(source, region)


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /regions."""
    return await region_json.everything(request, regions(request))


async def scan(request: web.Request) -> web.StreamResponse:
    """GET /regions/key?key=&end_key=&limit=."""
    source = regions(request)
    start = key_in_format(request, query_bytes(request, "key"))
    end = key_in_format(request, query_bytes(request, "end_key"))
    count = limit(request)
    return await region_json.many(request, source, source.scan(start, end, count))


async def count(request: web.Request) -> web.StreamResponse:
    """GET /regions/count."""
    return answer({"count": regions(request).region_total(), "regions": None})


async def on_store(request: web.Request) -> web.StreamResponse:
    """GET /regions/store/{id}?type=."""
    source = regions(request)
    try:
        store_id = integer(request.match_info["id"])
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    kind = query_text(request, "type") or "all"
    matches = KINDS_ON_STORE.get(kind)
    if matches is None:
        raise ApiError(400, f"unknown region type {kind}")
    found = [region for region in source.regions_on(store_id) if matches(region, store_id)]
    return await region_json.many(request, source, found)


async def siblings(request: web.Request) -> web.StreamResponse:
    """GET /regions/sibling/{id}. A side without a neighbour is left out."""
    source = regions(request)
    try:
        region_id = integer(request.match_info["id"])
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    region = source.region(region_id)
    if region is None:
        raise ApiError(404, errors.region_not_found(region_id))
    found = [neighbour for neighbour in source.neighbours(region) if neighbour is not None]
    return await region_json.many(request, source, found)


def in_state(state: str) -> Handler:
    """GET /regions/check/{state}."""

    async def page(request: web.Request) -> web.StreamResponse:
        source = cluster(request)
        return await region_json.many(request, source, source.regions_in(state))

    return page


def top(order: str) -> Handler:
    """GET /regions/{order}?limit=: the largest first."""
    key = ORDERS[order]

    async def page(request: web.Request) -> web.StreamResponse:
        source, wanted = regions(request), limit(request)
        best: list[RegionView] = []
        if wanted > 0:
            async for found in region_json.pages(source):
                best = heapq.nlargest(wanted, [*best, *found], key=key)
        return await region_json.many(request, source, best)

    return page


def histogram(value: Callable[[RegionView], int], least: int) -> Handler:
    """GET /regions/check/hist-...?bound=: how many regions are in each span of `bound`."""

    async def page(request: web.Request) -> web.StreamResponse:
        source, bound = regions(request), least
        text = query_text(request, "bound")
        try:
            bound = max(bound, integer(text)) if text else bound
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        counts: Counter[int] = Counter()
        async for found in region_json.pages(source):
            counts.update(value(region) // bound for region in found)
        return answer(
            [{"start": at * bound, "end": (at + 1) * bound - 1, "count": counts[at]} for at in sorted(counts)]
        )

    return page


async def range_holes(request: web.Request) -> web.StreamResponse:
    """GET /regions/range-holes: key ranges that no region covers."""
    source = regions(request)
    holes: list[list[str]] = []
    end = b""
    async for found in region_json.pages(source):
        for region in found:
            if region.start_key > end:
                holes.append([end.hex().upper(), region.start_key.hex().upper()])
            end = region.end_key
            if not end:
                return answer(holes)
    holes.append([end.hex().upper(), ""])
    return answer(holes)


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/region/id/{id}", by_id),
        web.get("/region/key/{key:.+}", by_key),
        web.get("/regions", everything),
        web.get("/regions/key", scan),
        web.get("/regions/count", count),
        web.get("/regions/store/{id}", on_store),
        web.get("/regions/sibling/{id}", siblings),
        web.get("/regions/range-holes", range_holes),
        web.get("/regions/check/hist-size", histogram(region_json.approximate_mib, MIN_BOUND_MIB)),
        web.get("/regions/check/hist-keys", histogram(lambda region: region.keys, MIN_BOUND_KEYS)),
        *[web.get(f"/regions/check/{state}", in_state(state)) for state in STATES],
        *[web.get(f"/regions/{order}", top(order)) for order in ORDERS],
    ]
