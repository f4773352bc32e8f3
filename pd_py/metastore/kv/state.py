"""The state that PD's members replicate: keys with their history, and leases. Commands in, results out.

`apply` is deterministic and total: for equal commands equal states give equal results and equal states, on every member, and what
is refused changes nothing and says so in the result. History is cut by what was applied, never by a clock. There is no I/O here, no
clock and no randomness; who may write, and when a lease is over, others decide.

Invariants: the revision grows by one with each command that changes something and with no other; all changes of a command carry
that revision; two states with equal images behave alike for ever after.
Tests: `tests/unit/pd_kv`, and against a simple model `tests/property/test_pd_kv.py`.
"""

from __future__ import annotations

from pd_py.metastore.kv import checks, ranges, record
from pd_py.metastore.kv.errors import KvError, UnknownCommand
from pd_py.metastore.kv.leases import LeaseTable
from pd_py.metastore.kv.record import KvEvent
from pd_py.metastore.kv.txn import Transaction
from pd_py.metastore.kv.versions import Versions
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2


class KvState:
    """One member's copy."""

    def __init__(self) -> None:
        self._versions = Versions()
        self.leases = LeaseTable()

    # ---- reading ----

    @property
    def revision(self) -> int:
        """Of the newest change; 1 before the first."""
        return self._versions.revision

    @property
    def compacted(self) -> int:
        """The oldest revision that can be read and watched; 0 while nothing was forgotten."""
        return self._versions.compacted

    @property
    def size_bytes(self) -> int:
        """About what all kept versions take in memory."""
        return self._versions.size_bytes

    def get(self, key: bytes) -> bytes | None:
        """The value of a key now, or None."""
        found = self._versions.get(key)
        return None if found is None else found.value

    def prefix(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in key order."""
        return [(kv.key, kv.value) for kv in self._versions.within(record.prefix_span(prefix))]

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Answer a range request. Raises EmptyKey, InvalidSortOption, Compacted, FutureRevision."""
        checks.check_range(request)
        return ranges.answer(self._versions, request, self.revision)

    def read(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """Answer a transaction that only reads (`checks.writes` says no). Raises KvError as `apply` reports it."""
        checks.check_txn(request)
        return Transaction(self._versions, self.leases).txn(request)

    def events_since(self, revision: int, max_events: int | None = None) -> list[KvEvent]:
        """All changes from `revision` on, in order.

        With `max_events`, whole revisions until so many are reached. Raises Compacted when some of them are forgotten.
        """
        return self._versions.events_since(revision, max_events)

    # ---- changing ----

    def apply(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Carry out a command; a refusal is in the result."""
        result = metastore_pb2.Result()
        try:
            self._apply(command, result)
        except KvError as error:
            result.Clear()
            result.error_code, result.error = error.code, error.message
        result.revision = self.revision
        return result

    def _apply(self, command: metastore_pb2.Command, result: metastore_pb2.Result) -> None:
        kind = command.WhichOneof("command")
        run = Transaction(self._versions, self.leases)
        if kind == "txn":
            checks.check_txn(command.txn)
            result.txn.CopyFrom(run.txn(command.txn))
        elif kind == "put":
            checks.check_put(command.put)
            run.check_put(command.put)
            result.put.CopyFrom(run.put(command.put))
        elif kind == "delete_range":
            checks.check_delete(command.delete_range)
            result.delete_range.CopyFrom(run.delete_range(command.delete_range))
        elif kind == "lease_grant":
            lease = self.leases.grant(command.lease_grant.ID, command.lease_grant.TTL)
            result.lease_grant.ID, result.lease_grant.TTL = lease.id, lease.ttl_s
            result.lease_grant.header.revision = self.revision
        elif kind == "lease_revoke":
            run.revoke(command.lease_revoke.ID)
            result.lease_revoke.header.revision = run.revision
        elif kind == "compact":
            self._versions.compact(command.compact.revision)
            result.compact.header.revision = self.revision
        else:
            raise UnknownCommand
        run.finish()

    # ---- image ----

    def image(self) -> bytes:
        """Everything, for a snapshot; equal for equal states."""
        image = metastore_pb2.KvImage(revision=self.revision, compacted=self.compacted)
        image.base.extend(record.to_pb(version) for version in self._versions.base())
        image.history.extend(record.to_pb(version) for version in self._versions.history())
        for lease in self.leases.all():
            image.leases.add(id=lease.id, ttl_s=lease.ttl_s)
        return image.SerializeToString(deterministic=True)

    def restore(self, image: bytes) -> None:
        """Become what an image says."""
        stored = metastore_pb2.KvImage.FromString(image)
        self._versions = Versions()
        self._versions.load(
            stored.revision, stored.compacted, map(record.from_pb, stored.base), map(record.from_pb, stored.history)
        )
        self.leases = LeaseTable()
        for lease in stored.leases:
            self.leases.grant(lease.id, lease.ttl_s)
        for version in self._versions.live():
            self.leases.move(version.key, 0, version.lease)
