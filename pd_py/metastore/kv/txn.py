"""One transaction: compare, choose, check, then do. All of it or nothing.

The compares of nested transactions see the state before the outermost one. Everything that can be refused is refused before
the first change; from then on nothing can fail, and the operations see what those before them did.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pd_py.metastore.kv import ranges
from pd_py.metastore.kv.errors import KeyNotFound, LeaseNotFound
from pd_py.metastore.kv.leases import LeaseTable
from pd_py.metastore.kv.record import KeyVersion, span_of, to_pb
from pd_py.metastore.kv.versions import Versions
from protos.etcd import rpc_pb2

_Compare = rpc_pb2.Compare
_ABSENT = KeyVersion(b"", b"", 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A transaction whose branch is chosen; nested ones in order of their place."""

    succeeded: bool
    ops: tuple[rpc_pb2.RequestOp, ...]
    nested: tuple[_Chosen, ...]


class Transaction:
    """Runs on one state; call `finish` at the end."""

    def __init__(self, versions: Versions, leases: LeaseTable) -> None:
        self._versions = versions
        self._leases = leases
        self._changed = False

    @property
    def revision(self) -> int:
        """The revision that the state has, or will have because of what was done so far."""
        return self._versions.revision + self._changed

    def finish(self) -> None:
        """Close the revision if anything changed."""
        if self._changed:
            self._versions.finish_revision()
            self._changed = False

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """Run a well-formed transaction. Raises LeaseNotFound, KeyNotFound, Compacted, FutureRevision."""
        chosen = self._choose(request)
        self._check(chosen)
        return self._run(chosen)

    # ---- choosing ----

    def _choose(self, request: rpc_pb2.TxnRequest) -> _Chosen:
        succeeded = all(self._holds(compare) for compare in request.compare)
        ops = tuple(request.success if succeeded else request.failure)
        nested = tuple(self._choose(op.request_txn) for op in ops if op.WhichOneof("request") == "request_txn")
        return _Chosen(succeeded, ops, nested)

    def _holds(self, compare: rpc_pb2.Compare) -> bool:
        kvs: Iterator[KeyVersion] = self._versions.within(span_of(compare.key, compare.range_end))
        first = next(kvs, None)
        if first is None:
            # A value that is not there equals nothing, not even the empty one.
            return compare.target != _Compare.VALUE and _compare(compare, _ABSENT)
        return _compare(compare, first) and all(_compare(compare, kv) for kv in kvs)

    # ---- checking ----

    def _check(self, chosen: _Chosen) -> None:
        for op in chosen.ops:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                self.check_put(op.request_put)
            elif kind == "request_range":
                self._versions.check_revision(op.request_range.revision)
        for nested in chosen.nested:
            self._check(nested)

    def check_put(self, request: rpc_pb2.PutRequest) -> None:
        """Raise LeaseNotFound, KeyNotFound."""
        if request.lease and request.lease not in self._leases:
            raise LeaseNotFound
        if (request.ignore_value or request.ignore_lease) and self._versions.get(request.key) is None:
            raise KeyNotFound

    # ---- doing ----

    def _run(self, chosen: _Chosen) -> rpc_pb2.TxnResponse:
        response = rpc_pb2.TxnResponse(succeeded=chosen.succeeded)
        nested = iter(chosen.nested)
        for op in chosen.ops:
            out = response.responses.add()
            kind = op.WhichOneof("request")
            if kind == "request_range":
                out.response_range.CopyFrom(ranges.answer(self._versions, op.request_range, self.revision))
            elif kind == "request_put":
                out.response_put.CopyFrom(self.put(op.request_put))
            elif kind == "request_delete_range":
                out.response_delete_range.CopyFrom(self.delete_range(op.request_delete_range))
            elif kind == "request_txn":
                out.response_txn.CopyFrom(self._run(next(nested)))
        response.header.revision = self.revision
        return response

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        """Set one key; `check_put` has passed."""
        before = self._versions.get(request.key)
        value, lease = request.value, request.lease
        if before is not None and request.ignore_value:
            value = before.value
        if before is not None and request.ignore_lease:
            lease = before.lease
        self._versions.put(request.key, value, lease)
        self._leases.move(request.key, 0 if before is None else before.lease, lease)
        self._changed = True
        response = rpc_pb2.PutResponse()
        response.header.revision = self.revision
        if request.prev_kv and before is not None:
            response.prev_kv.CopyFrom(to_pb(before))
        return response

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        """Remove the keys of a span."""
        found = list(self._versions.within(span_of(request.key, request.range_end)))
        for kv in found:
            self.delete(kv)
        response = rpc_pb2.DeleteRangeResponse(deleted=len(found))
        response.header.revision = self.revision
        if request.prev_kv:
            response.prev_kvs.extend(to_pb(kv) for kv in found)
        return response

    def delete(self, kv: KeyVersion) -> None:
        """Remove a key that is there."""
        self._versions.delete(kv.key)
        self._leases.move(kv.key, kv.lease, 0)
        self._changed = True

    def revoke(self, lease_id: int) -> None:
        """End a lease and its keys. Raises LeaseNotFound."""
        for key in self._leases.revoke(lease_id):
            self._versions.delete(key)
            self._changed = True


def _compare(compare: rpc_pb2.Compare, kv: KeyVersion) -> bool:
    if compare.target == _Compare.VALUE:
        return _ordered(compare.result, (kv.value > compare.value) - (kv.value < compare.value))
    if compare.target == _Compare.CREATE:
        left, right = kv.create_revision, compare.create_revision
    elif compare.target == _Compare.MOD:
        left, right = kv.mod_revision, compare.mod_revision
    elif compare.target == _Compare.VERSION:
        left, right = kv.version, compare.version
    elif compare.target == _Compare.LEASE:
        left, right = kv.lease, compare.lease
    else:
        left = right = 0  # as etcd: a target that does not exist compares as equal
    return _ordered(compare.result, (left > right) - (left < right))


def _ordered(result: int, order: int) -> bool:
    if result == _Compare.EQUAL:
        return order == 0
    if result == _Compare.NOT_EQUAL:
        return order != 0
    if result == _Compare.GREATER:
        return order > 0
    return order < 0 if result == _Compare.LESS else True
