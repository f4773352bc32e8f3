"""Answers a range request from the kept versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pd_py.metastore.kv.record import KeyVersion, span_of, to_pb
from pd_py.metastore.kv.versions import Versions
from protos.etcd import rpc_pb2

_Request = rpc_pb2.RangeRequest

_TARGETS: dict[int, Callable[[KeyVersion], Any]] = {
    _Request.KEY: lambda kv: kv.key,
    _Request.VERSION: lambda kv: kv.version,
    _Request.CREATE: lambda kv: kv.create_revision,
    _Request.MOD: lambda kv: kv.mod_revision,
    _Request.VALUE: lambda kv: kv.value,
}


def answer(versions: Versions, request: rpc_pb2.RangeRequest, revision: int) -> rpc_pb2.RangeResponse:
    """The response; `revision` goes into its header. Raises Compacted, FutureRevision.

    As in etcd, `count` is that of the span before the revision filters; sorting by anything but the key without an order is
    ascending, and then a limit without filters takes the first keys and one more before they are sorted, not after.
    """
    versions.check_revision(request.revision)
    found = list(versions.within(span_of(request.key, request.range_end), request.revision))
    response = rpc_pb2.RangeResponse(count=len(found))
    response.header.revision = revision
    if request.count_only:
        return response
    if request.limit > 0 and request.sort_order == _Request.NONE and not _has_filters(request):
        del found[request.limit + 1 :]
    found = _filtered(found, request)
    if request.sort_target != _Request.KEY or request.sort_order == _Request.DESCEND:
        found.sort(key=_TARGETS[request.sort_target], reverse=request.sort_order == _Request.DESCEND)
    if 0 < request.limit < len(found):
        del found[request.limit :]
        response.more = True
    response.kvs.extend(to_pb(kv, keys_only=request.keys_only) for kv in found)
    return response


def _has_filters(request: rpc_pb2.RangeRequest) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _filtered(found: list[KeyVersion], request: rpc_pb2.RangeRequest) -> list[KeyVersion]:
    if request.max_mod_revision:
        found = [kv for kv in found if kv.mod_revision <= request.max_mod_revision]
    if request.min_mod_revision:
        found = [kv for kv in found if kv.mod_revision >= request.min_mod_revision]
    if request.max_create_revision:
        found = [kv for kv in found if kv.create_revision <= request.max_create_revision]
    if request.min_create_revision:
        found = [kv for kv in found if kv.create_revision >= request.min_create_revision]
    return found
