"""`/regions/...` with POST: scatter, split, accelerate; and whether a range is replicated as its rules say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from pd_py.api import region_json
from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import (
    answer,
    body_list,
    body_object,
    from_hex,
    identities,
    limit,
    number,
    plain,
    query_bytes,
)

REPLICATED = "REPLICATED"
DEFAULT_RETRIES = 5
MAX_RETRIES = 100
ACCELERATE_LIMIT = 256
MAX_KEYS = 10_000
MAX_SCATTER = 100_000


def _hex_or(status: int, text: str) -> bytes:
    try:
        return from_hex(text)
    except ValueError as error:
        raise ApiError(status, str(error)) from error


def retries(values: dict[str, Any]) -> int:
    """How often to try again, out of a body."""
    value = number(values, "retry_limit")
    return DEFAULT_RETRIES if value is None else max(0, min(int(value), MAX_RETRIES))


async def scatter(request: web.Request) -> web.StreamResponse:
    """POST /regions/scatter: by key range or ids."""
    found = cluster(request)
    values = await body_object(request)
    start, end, group = values.get("start_key"), values.get("end_key"), values.get("group")
    if isinstance(start, str) and isinstance(end, str):
        chosen = found.scan(_hex_or(500, start), _hex_or(500, end), MAX_SCATTER)
        ids: Sequence[int] | None = [region.region_id for region in chosen]
    else:
        ids = identities(values.get("regions_id"))
    if ids is None or len(ids) > MAX_SCATTER:
        raise ApiError(500, "regions_id is invalid")
    if not ids:
        raise ApiError(500, "empty region")
    percentage, _failed = await services(request).scheduling.scatter(
        ids, group if isinstance(group, str) else "", retries(values), skip_store_limit=False
    )
    return answer({"processed-percentage": percentage})


async def split(request: web.Request) -> web.StreamResponse:
    """POST /regions/split at keys."""
    cluster(request)
    values = await body_object(request)
    if "split_keys" not in values:
        raise ApiError(400, "split_keys should be provided.")
    texts = values["split_keys"]
    if not isinstance(texts, list):
        raise ApiError(400, "split_keys should be an array.")
    if not texts:
        raise ApiError(400, "empty split keys.")
    if not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "split_keys should contain only strings.")
    if len(texts) > MAX_KEYS:
        raise ApiError(400, f"more than {MAX_KEYS} split keys.")
    keys = [_hex_or(500, text) for text in texts]
    percentage, ids = await services(request).scheduling.split_regions(keys, retries(values))
    return answer({"processed-percentage": percentage, "regions-id": list(ids)})


async def accelerate(request: web.Request) -> web.StreamResponse:
    """POST /regions/accelerate-schedule: one range."""
    cluster(request)
    values = await body_object(request)
    start, end = values.get("start_key"), values.get("end_key")
    if not isinstance(start, str) or not isinstance(end, str):
        raise ApiError(400, "start_key or end_key is not string")
    count = limit(request, ACCELERATE_LIMIT)
    services(request).scheduling.accelerate([(_hex_or(500, start), _hex_or(500, end))], count)
    return plain(f"Accelerate regions scheduling in a given range [{start},{end})")


def _key(values: Any, name: str) -> bytes:
    if not isinstance(values, dict) or name not in values:
        raise ApiError(400, f"missing {name}")
    text = values[name]
    if not isinstance(text, str):
        raise ApiError(400, f"bad format {name}")
    try:
        return from_hex(text)
    except ValueError as error:
        raise ApiError(400, f"split key {name} is not in hex format") from error


async def accelerate_many(request: web.Request) -> web.StreamResponse:
    """POST /regions/accelerate-schedule/batch: several ranges."""
    cluster(request)
    values = await body_list(request)
    if len(values) > MAX_KEYS:
        raise ApiError(400, f"more than {MAX_KEYS} ranges")
    count = limit(request, ACCELERATE_LIMIT)
    ranges = [(_key(one, "start_key"), _key(one, "end_key")) for one in values]
    services(request).scheduling.accelerate(ranges, count)
    shown = "".join(f"[{one['start_key']},{one['end_key']}), " for one in values)
    return plain(f"Accelerate regions scheduling in given ranges: {shown}")


async def replicated(request: web.Request) -> web.StreamResponse:
    """GET /regions/replicated?startKey=&endKey=."""
    found = cluster(request)
    start = _hex_or(400, query_bytes(request, "startKey").decode("latin-1"))
    end = _hex_or(400, query_bytes(request, "endKey").decode("latin-1"))
    async for page in region_json.pages(found, start, end):
        state = services(request).scheduling.replicated_state(page)
        if state != REPLICATED:
            return answer(state)
    return answer(REPLICATED)


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.post("/regions/scatter", scatter),
        web.post("/regions/split", split),
        web.post("/regions/accelerate-schedule", accelerate),
        web.post("/regions/accelerate-schedule/batch", accelerate_many),
        web.get("/regions/replicated", replicated),
    ]
