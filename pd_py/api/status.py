"""`/version`, `/status`, `/ping`, `/cluster`, `/stats/region`, `/admin/log`: what this server and its cluster are."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from core_py.runtime import cli
from pd_py.api import errors, go_text, region_json
from pd_py.api.errors import ApiError
from pd_py.api.middleware import BACKEND, cluster, services
from pd_py.api.requests import answer, body, go_kind, query, query_bytes
from pd_py.schedule.view import RegionView

EMPTY_MIB = 1


async def version(_request: web.Request) -> web.StreamResponse:
    """GET /version."""
    return answer({"version": cli.RELEASE, "build_time": "", "hash": "", "branch": ""})


async def status(request: web.Request) -> web.StreamResponse:
    """GET /status."""
    return answer(
        {
            "build_ts": "",
            "version": cli.RELEASE,
            "git_hash": "",
            "start_timestamp": request.app[BACKEND].started_at_s,
            "kernel_type": "Classic",
        }
    )


async def ping(_request: web.Request) -> web.StreamResponse:
    """GET /ping: nothing, with 200."""
    return web.Response()


async def of_cluster(request: web.Request) -> web.StreamResponse:
    """GET /cluster."""
    found = services(request).cluster
    return answer({"id": request.app[BACKEND].cluster_id(), "max_peer_count": found.options.max_replicas})


async def cluster_status(request: web.Request) -> web.StreamResponse:
    """GET /cluster/status."""
    found = services(request).cluster.status()
    began_ms = found["raft_bootstrap_time_ms"]
    return answer(
        {
            "raft_bootstrap_time": go_text.timestamp(began_ms) if began_ms else go_text.ZERO_TIME,
            "is_initialized": found["is_initialized"],
            "replication_status": found["replication_status"],
        }
    )


class _Statistics:
    """Sums over regions, as `/stats/region` shows them. Sizes in MiB."""

    def __init__(self) -> None:
        self.count = self.empty = self.size = self.keys = 0
        self.leaders: dict[str, Counter[str]] = {name: Counter() for name in ("count", "size", "keys")}
        self.peers: dict[str, Counter[str]] = {name: Counter() for name in ("count", "size", "keys")}

    def add(self, region: RegionView) -> None:
        """One more region."""
        size = region_json.approximate_mib(region)
        self.count += 1
        self.empty += size <= EMPTY_MIB
        self.size += size
        self.keys += region.keys
        for peer in region.peers:
            store = str(peer.store_id)
            for sums in (self.peers, self.leaders) if peer.store_id == region.leader_store_id else (self.peers,):
                sums["count"][store] += 1
                sums["size"][store] += size
                sums["keys"][store] += region.keys

    def to_json(self) -> dict[str, Any]:
        """The public shape."""
        return {
            "count": self.count,
            "empty_count": self.empty,
            "storage_size": self.size,
            "user_storage_size": self.size,
            "user_columnar_storage_size": 0,
            "storage_keys": self.keys,
            "store_leader_count": self.leaders["count"],
            "store_peer_count": self.peers["count"],
            "store_leader_size": self.leaders["size"],
            "store_leader_keys": self.leaders["keys"],
            "store_peer_size": self.peers["size"],
            "store_peer_keys": self.peers["keys"],
        }


async def region_stats(request: web.Request) -> web.StreamResponse:
    """GET /stats/region?start_key=&end_key=: sums over the regions of a range; with `count` only how many."""
    found = cluster(request)
    start, end = query_bytes(request, "start_key"), query_bytes(request, "end_key")
    sums = _Statistics()
    async for page in region_json.pages(found, start, end):
        for region in page:
            sums.add(region)
    if "count" in query(request):
        only = _Statistics()
        only.count = sums.count
        return answer(only.to_json())
    return answer(sums.to_json())


async def log_level(request: web.Request) -> web.StreamResponse:
    """POST /admin/log: the level as the body."""
    level = await body_or_text(request)
    try:
        request.app[BACKEND].set_log_level(level)
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    return answer("The log level is updated.")


async def body_or_text(request: web.Request) -> str:
    """A JSON text; refused as a text."""
    try:
        value = await body(request)
    except errors.InvalidInput as error:
        raise ApiError(400, error.body["msg"]) from error
    if not isinstance(value, str):
        raise ApiError(400, f"json: cannot unmarshal {go_kind(value)} into Go value of type string")
    return value


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/version", version),
        web.get("/status", status),
        web.get("/ping", ping),
        web.get("/cluster", of_cluster),
        web.get("/cluster/status", cluster_status),
        web.get("/stats/region", region_stats),
        web.post("/admin/log", log_level),
    ]
