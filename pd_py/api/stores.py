"""`/store/{id}/...` and `/stores/...`: looking at stores, and what people do to them."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors
from pd_py.api.backend import StoreDetail
from pd_py.api.errors import ApiError, InvalidInput
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import answer, body, body_object, go_kind, integer, number, path_id, query, query_text
from pd_py.api.store_json import store_json, stores_json
from pd_py.schedule.view import StoreState
from protos.kvproto import metapb_pb2

KEY_FORMAT = "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"
VALUE_FORMAT = "^[-A-Za-z0-9_./]*$"
ENGINE_KEY = "engine"
LIMIT_KINDS = ("add-peer", "remove-peer")
STATE_NAMES = frozenset({"up", "offline", "tombstone", "down", "disconnected"})
_KEY = re.compile(KEY_FORMAT[1:-1], re.ASCII)
_VALUE = re.compile(VALUE_FORMAT[1:-1], re.ASCII)


def check_label(key: str, value: str = "") -> None:
    """Raises InvalidInput with the public text for a label that no store may have."""
    for text, pattern, shown in ((key, _KEY, KEY_FORMAT), (value, _VALUE, VALUE_FORMAT)):
        if pattern.fullmatch(text) is None:
            raise InvalidInput(f'{text} does not match format "{shown}"')


def _existing(request: web.Request, status: int) -> tuple[int, StoreDetail]:
    store_id = path_id(request)
    found = cluster(request).store_detail(store_id)
    if found is None:
        raise ApiError(status, errors.store_not_found(store_id))
    return store_id, found


async def one(request: web.Request) -> web.StreamResponse:
    """GET /store/{id}."""
    _store_id, found = _existing(request, 404)
    return answer(store_json(found))


def _not_gone(request: web.Request) -> int:
    store_id, found = _existing(request, 404)
    if found.view.state is StoreState.TOMBSTONE:
        raise ApiError(410, errors.store_removed(store_id))
    return store_id


async def delete(request: web.Request) -> web.StreamResponse:
    """DELETE /store/{id}?force."""
    force = "force" in query(request)
    store_id = _not_gone(request)
    try:
        await cluster(request).remove_store(store_id, physically_destroyed=force)
    except PdError as error:
        raise ApiError(400, errors.text_of_error(error)) from error
    return answer("The store is set as Offline.")


async def set_state(request: web.Request) -> web.StreamResponse:
    """POST /store/{id}/state?state=Up|Offline."""
    wanted = query_text(request, "state")
    if wanted.lower() not in ("up", "offline"):
        path_id(request)
        raise ApiError(400, f"invalid state {wanted}")
    store_id = _not_gone(request)
    try:
        if wanted.lower() == "up":
            await cluster(request).up_store(store_id)
        else:
            await cluster(request).remove_store(store_id, physically_destroyed=False)
    except PdError as error:
        raise ApiError(400, errors.text_of_error(error)) from error
    return answer("The store's state is updated.")


async def set_labels(request: web.Request) -> web.StreamResponse:
    """POST /store/{id}/label?force: {"key": "value"}; with `force` the labels not named go away."""
    store_id = path_id(request)
    values = await body_object(request)
    for key, value in values.items():
        if not isinstance(value, str):
            raise InvalidInput(f"json: cannot unmarshal {go_kind(value)} into Go value of type string")
        if key == ENGINE_KEY:
            raise InvalidInput(f'label key "{key}" is reserved')
    for key, value in values.items():
        check_label(key, value)
    _existing(request, 500)
    await cluster(request).set_store_labels(store_id, values, replace="force" in query(request))
    return answer("The store's label is updated.")


async def delete_label(request: web.Request) -> web.StreamResponse:
    """DELETE /store/{id}/label: the key as the body."""
    store_id = path_id(request)
    key = await body(request)
    if not isinstance(key, str):
        raise InvalidInput(f"json: cannot unmarshal {go_kind(key)} into Go value of type string")
    check_label(key)
    if key == ENGINE_KEY:
        raise InvalidInput(f'can\'t modify label key "{key}"')
    _existing(request, 500)
    await cluster(request).delete_store_label(store_id, key)
    return answer(f"The label {key} is deleted for store {store_id}.")


async def set_weight(request: web.Request) -> web.StreamResponse:
    """POST /store/{id}/weight: {"leader": 1, "region": 2}."""
    store_id = path_id(request)
    values = await body_object(request)
    weights = []
    for kind in ("leader", "region"):
        if kind not in values:
            raise ApiError(400, f"{kind} weight unset")
    for kind in ("leader", "region"):
        weight = number(values, kind)
        if weight is None or not 0 <= weight < float("inf"):
            raise ApiError(400, f"bad format {kind} weight")
        weights.append(float(weight))
    _existing(request, 500)
    await cluster(request).set_store_weight(store_id, weights[0], weights[1])
    return answer("The store's weight is updated.")


def _limit(values: dict[str, Any]) -> tuple[float, tuple[str, ...]]:
    """(rate per minute, kinds) of a body."""
    if "rate" not in values:
        raise ApiError(400, "rate unset")
    rate = number(values, "rate")
    if rate is None or not 0 < rate < float("inf"):
        raise ApiError(400, "invalid rate which should be larger than 0")
    kind = values.get("type")
    if "type" not in values:
        return float(rate), LIMIT_KINDS
    if not isinstance(kind, str):
        raise ApiError(400, "bad format type")
    if kind and kind not in LIMIT_KINDS:
        raise ApiError(400, "unknown type")
    return float(rate), (kind or LIMIT_KINDS[0],)


def _refuse_ttl(request: web.Request) -> None:
    if query_text(request, "ttlSecond"):
        raise ApiError(400, "ttlSecond is deprecated")


async def set_limit(request: web.Request) -> web.StreamResponse:
    """POST /store/{id}/limit: {"rate": 15, "type": "add-peer"}; without a type both."""
    _refuse_ttl(request)
    store_id, _found = _existing(request, 500)
    rate, kinds = _limit(await body_object(request))
    await services(request).scheduling.set_store_limit([store_id], kinds, rate)
    return answer("The store's limit is updated.")


async def set_limits(request: web.Request) -> web.StreamResponse:
    """POST /stores/limit: as for one store; with "labels" only the stores that have them all."""
    _refuse_ttl(request)
    found = cluster(request)
    values = await body_object(request)
    rate, kinds = _limit(values)
    chosen: list[int] | None = None
    if "labels" in values:
        labels = values["labels"]
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise InvalidInput("labels should be an object of texts")
        for key, value in labels.items():
            check_label(key, value)
        chosen = [
            store.store_id
            for store in found.stores()
            if all(store.label(key) == value for key, value in labels.items())
        ]
    await services(request).scheduling.set_store_limit(chosen, kinds, rate)
    return answer("Set store limit successfully.")


async def limits(request: web.Request) -> web.StreamResponse:
    """GET /stores/limit?include_tombstone=."""
    found = cluster(request)
    text = query_text(request, "include_tombstone")
    with_tombstones = text in ("1", "t", "T", "true", "TRUE", "True")
    if text and not with_tombstones and text not in ("0", "f", "F", "false", "FALSE", "False"):
        raise ApiError(400, f'strconv.ParseBool: parsing "{text}": invalid syntax')
    shown = {store.view.store_id: store.view.state for store in found.store_details()}
    return answer(
        {
            str(store_id): {"add-peer": add, "remove-peer": remove}
            for store_id, (add, remove) in sorted(services(request).scheduling.store_limits().items())
            if with_tombstones or shown.get(store_id, StoreState.TOMBSTONE) is not StoreState.TOMBSTONE
        }
    )


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /stores?state=0&state=1: by number of metapb.StoreState; without it all but tombstones."""
    found = cluster(request)
    accepted: set[int] = set()
    for raw in query(request).get("state", [b"0", b"1"]):
        try:
            state = integer(raw.decode("latin-1"))
        except ValueError as error:
            raise ApiError(500, str(error)) from error
        if state not in metapb_pb2.StoreState.values():
            raise ApiError(500, f"unknown StoreState: {state}")
        accepted.add(state)
    return answer(stores_json(store for store in found.store_details() if store.meta.state in accepted))


async def by_state(request: web.Request) -> web.StreamResponse:
    """GET /stores/check?state=up&state=down: by name."""
    found = cluster(request)
    wanted = set()
    for raw in query(request).get("state", []):
        name = raw.decode("utf-8", "replace")
        if name and name.lower() not in STATE_NAMES:
            raise ApiError(400, f"unknown StoreState: {name}")
        if name:
            wanted.add(name.lower())
    return answer(
        stores_json(store for store in found.store_details() if not wanted or store.view.state.value.lower() in wanted)
    )


async def remove_tombstones(request: web.Request) -> web.StreamResponse:
    """DELETE /stores/remove-tombstone."""
    await cluster(request).remove_tombstones()
    return answer("Remove tombstone successfully.")


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/store/{id}", one),
        web.delete("/store/{id}", delete),
        web.post("/store/{id}/state", set_state),
        web.post("/store/{id}/label", set_labels),
        web.delete("/store/{id}/label", delete_label),
        web.post("/store/{id}/weight", set_weight),
        web.post("/store/{id}/limit", set_limit),
        web.get("/stores", everything),
        web.get("/stores/check", by_state),
        web.delete("/stores/remove-tombstone", remove_tombstones),
        web.get("/stores/limit", limits),
        web.post("/stores/limit", set_limits),
    ]
