"""Whether a request is well formed, whatever the state is. Asked before a command is proposed and again when it is applied.

A transaction may change a key only once: no put of a key that another put or a delete of the same run can touch. (etcd allows a
nested put before a nested delete of one key; nobody depends on it, and one version per key and revision is worth more.)
"""

from __future__ import annotations

from collections.abc import Sequence

from pd_py.metastore.kv.errors import (
    DuplicateKey,
    EmptyKey,
    InvalidSortOption,
    LeaseProvided,
    TooManyOps,
    ValueProvided,
)
from pd_py.metastore.kv.record import Span, span_of
from protos.etcd import rpc_pb2

MAX_TXN_DEPTH = 16
"""Deeper nesting is refused: a log entry wraps a request in more messages, and parsers have a limit."""

_ORDERS = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_TARGETS = frozenset(rpc_pb2.RangeRequest.SortTarget.values())

Ops = Sequence[rpc_pb2.RequestOp]


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raise EmptyKey, InvalidSortOption."""
    if not request.key:
        raise EmptyKey
    if request.sort_order not in _ORDERS or request.sort_target not in _TARGETS:
        raise InvalidSortOption


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raise EmptyKey, ValueProvided, LeaseProvided."""
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raise EmptyKey."""
    if not request.key:
        raise EmptyKey


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int | None = None) -> None:
    """Raise TooManyOps, DuplicateKey, and what its parts raise. Without `max_ops` only the depth is limited."""
    _check_parts(request, max_ops, MAX_TXN_DEPTH)
    for branch in (request.success, request.failure):
        _effects(branch)


def _check_parts(request: rpc_pb2.TxnRequest, max_ops: int | None, depth: int) -> None:
    most = max(len(request.compare), len(request.success), len(request.failure))
    if depth == 0 or (max_ops is not None and most > max_ops):
        raise TooManyOps
    if any(not compare.key for compare in request.compare):
        raise EmptyKey
    for branch in (request.success, request.failure):
        for op in branch:
            kind = op.WhichOneof("request")
            if kind == "request_range":
                check_range(op.request_range)
            elif kind == "request_put":
                check_put(op.request_put)
            elif kind == "request_delete_range":
                check_delete(op.request_delete_range)
            elif kind == "request_txn":
                _check_parts(op.request_txn, None if max_ops is None else max_ops - most, depth - 1)


class _Changes:
    """What a list of operations may put and delete."""

    def __init__(self) -> None:
        self.puts: set[bytes] = set()
        self.deletes: list[Span] = []
        self.single_deletes: set[bytes] = set()

    def join(self, other: _Changes) -> None:
        """Add what only runs when this does not, or does not touch the same keys."""
        self.puts |= other.puts
        self.deletes += other.deletes
        self.single_deletes |= other.single_deletes

    def touches(self, other: _Changes) -> bool:
        """Whether one of them puts a key that the other changes too."""
        return not self.puts.isdisjoint(other.puts) or _deletes_any(self, other.puts) or _deletes_any(other, self.puts)


def _deletes_any(changes: _Changes, keys: set[bytes]) -> bool:
    return not changes.single_deletes.isdisjoint(keys) or any(key in span for span in changes.deletes for key in keys)


def _effects(ops: Ops) -> _Changes:
    """All changes of operations that run together. Raises DuplicateKey."""
    total = _Changes()
    for op in ops:
        one = _Changes()
        kind = op.WhichOneof("request")
        if kind == "request_put":
            one.puts.add(op.request_put.key)
        elif kind == "request_delete_range":
            span = span_of(op.request_delete_range.key, op.request_delete_range.range_end)
            if span.single_key is not None:
                one.single_deletes.add(span.single_key)
            else:
                one.deletes.append(span)
        elif kind == "request_txn":
            one.join(_effects(op.request_txn.success))
            one.join(_effects(op.request_txn.failure))
        if total.touches(one):
            raise DuplicateKey
        total.join(one)
    return total


def writes(request: rpc_pb2.TxnRequest) -> bool:
    """Whether a transaction has any operation that is not a read, in either branch."""
    return any(
        op.WhichOneof("request") in ("request_put", "request_delete_range")
        or (op.WhichOneof("request") == "request_txn" and writes(op.request_txn))
        for branch in (request.success, request.failure)
        for op in branch
    )
