"""What a client may ask for, checked before anything is proposed or kept.

PD's own keys (`/pd/...`) can be read by everybody and written by nobody: PD believes its memory, and a timestamp bound that moved
behind its back would give timestamps twice.
"""

from __future__ import annotations

from google.protobuf.message import Message

from core_py.ports import StatusError
from pd_py.metastore.kv.checks import check_delete, check_put, check_txn
from pd_py.metastore.kv.errors import NoSpace, RequestTooLarge
from pd_py.metastore.kv.record import Span, prefix_span, span_of
from pd_py.metastore.kv.state import KvState
from protos.etcd import rpc_pb2

MAX_REQUEST_BYTES = 3 << 19  # 1.5 MiB, etcd's default
MAX_TXN_OPS = 128
MAX_STATE_BYTES = 64 << 20
"""Clients may not let the state grow beyond this: every member holds it in memory, and a snapshot is all of it. PD itself may."""

OWN_KEYS = prefix_span(b"/pd/")


def check_size(request: Message) -> None:
    """Raise RequestTooLarge."""
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise RequestTooLarge


def check_space(kv: KvState) -> None:
    """Raise NoSpace."""
    if kv.size_bytes > MAX_STATE_BYTES:
        raise NoSpace


def client_put(kv: KvState, request: rpc_pb2.PutRequest) -> None:
    """Raise KvError or StatusError unless a client may ask for this."""
    check_put(request)
    check_size(request)
    check_space(kv)
    _check_own(span_of(request.key, b""))


def client_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raise KvError or StatusError unless a client may ask for this."""
    check_delete(request)
    check_size(request)
    _check_own(span_of(request.key, request.range_end))


def client_txn(kv: KvState, request: rpc_pb2.TxnRequest) -> None:
    """Raise KvError or StatusError unless a client may ask for this."""
    check_size(request)
    check_txn(request, MAX_TXN_OPS)
    if _check_txn_keys(request):
        check_space(kv)


def _check_txn_keys(request: rpc_pb2.TxnRequest) -> bool:
    """Whether it puts anything; raises StatusError for a change of PD's own keys."""
    puts = False
    for branch in (request.success, request.failure):
        for op in branch:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                puts = True
                _check_own(span_of(op.request_put.key, b""))
            elif kind == "request_delete_range":
                _check_own(span_of(op.request_delete_range.key, op.request_delete_range.range_end))
            elif kind == "request_txn":
                puts |= _check_txn_keys(op.request_txn)
    return puts


def _check_own(span: Span) -> None:
    if not span.is_empty and _overlap(span, OWN_KEYS):
        raise StatusError("PERMISSION_DENIED", "etcdserver: permission denied")


def _overlap(one: Span, other: Span) -> bool:
    return (one.end is None or one.end > other.start) and (other.end is None or one.start < other.end)
