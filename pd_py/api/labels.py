"""`/labels`: which labels stores have, and which stores have a label."""

from __future__ import annotations

import re

from aiohttp import web

from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster
from pd_py.api.requests import answer, query_text
from pd_py.api.store_json import stores_json

MAX_PATTERN = 64
_SAFE = re.compile(r"[\w./$ -]*")


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /labels: each (key, value) once, whatever its case."""
    seen: dict[str, dict[str, str]] = {}
    for store in cluster(request).stores():
        for key, value in store.labels:
            seen.setdefault((key + value).lower(), {"key": key, "value": value})
    return answer(list(seen.values()) or None)


def _pattern(text: str) -> re.Pattern[str]:
    """The public server takes any regular expression; here a plain text, `.*` or anchors, which cannot run for long."""
    plain = text.replace(".*", "").removeprefix("^").removesuffix("$")
    if len(text) > MAX_PATTERN or _SAFE.fullmatch(plain) is None:
        raise ApiError(500, f"error parsing regexp: `{text}` is too complicated: use a text, `.*`, `^` and `$`")
    return re.compile(text, re.IGNORECASE)


async def stores(request: web.Request) -> web.StreamResponse:
    """GET /labels/stores?name=&value=."""
    name, value = _pattern(query_text(request, "name")), _pattern(query_text(request, "value"))
    return answer(
        stores_json(
            store
            for store in cluster(request).store_details()
            if any(name.search(key) and value.search(text) for key, text in store.view.labels)
        )
    )


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [web.get("/labels", everything), web.get("/labels/stores", stores)]
