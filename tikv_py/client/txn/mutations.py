"""What a commit writes, derived from the buffer and the locks taken, and cut into batches. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.region.regions import Region
from tikv_py.client.txn.membuffer import BufferedOp, MemBuffer

BATCH_BYTES = 16 * 1024  # of keys and values in one request, as client-go; a single larger mutation goes alone
MIN_TTL_MS = 3_000
MAX_TTL_MS = 20_000
TTL_PER_ROOT_MIB = 6_000

_OPS = {
    BufferedOp.PUT: kvrpcpb_pb2.Put,
    BufferedOp.INSERT: kvrpcpb_pb2.Insert,
    BufferedOp.DELETE: kvrpcpb_pb2.Del,
    BufferedOp.CHECK_NOT_EXISTS: kvrpcpb_pb2.CheckNotExists,
}


class Mutation(NamedTuple):
    """One key of a commit; `locked` = a pessimistic lock is held on it."""

    op: int
    key: bytes
    value: bytes = b""
    locked: bool = False

    @property
    def size(self) -> int:
        """Bytes it adds to a request."""
        return len(self.key) + len(self.value)

    @property
    def is_only_check(self) -> bool:
        """Whether it leaves no lock, so that there is nothing to commit."""
        return self.op == kvrpcpb_pb2.CheckNotExists


class Batch(NamedTuple):
    """Mutations of one region that go into one request."""

    region: Region
    mutations: list[Mutation]
    region_keys: int


def collect(buffer: MemBuffer, locked: Collection[bytes]) -> list[Mutation]:
    """All mutations in key order; a locked key without a write becomes a lock record, so that its lock is released."""
    made = []
    for key, entry in buffer.items():
        nothing = entry.op is BufferedOp.CHECK_NOT_EXISTS and key in locked  # checked when it was locked
        made.append(Mutation(kvrpcpb_pb2.Lock if nothing else _OPS[entry.op], key, entry.value, key in locked))
    made += [Mutation(kvrpcpb_pb2.Lock, key, b"", locked=True) for key in locked if key not in buffer]
    made.sort(key=lambda mutation: mutation.key)
    return made


def choose_primary(mutations: Sequence[Mutation], locked_primary: bytes | None) -> bytes:
    """The key that decides the transaction: the one the locks name already, else the first that leaves a lock."""
    if locked_primary is not None:
        return locked_primary
    return next((m.key for m in mutations if not m.is_only_check), mutations[0].key)


def cut(
    groups: Iterable[tuple[Region, list[Mutation]]], primary: bytes, *, keys_only: bool, limit: int = BATCH_BYTES
) -> list[Batch]:
    """Batches by region and size; the one with the primary comes first and begins with it."""
    batches: list[Batch] = []
    for region, mutations in groups:
        ordered = sorted(mutations, key=lambda mutation: mutation.key != primary)
        part: list[Mutation] = []
        size = 0
        for mutation in ordered:
            added = len(mutation.key) if keys_only else mutation.size
            if part and size + added > limit:
                batches.append(Batch(region, part, len(ordered)))
                part, size = [], 0
            part.append(mutation)
            size += added
        if part:
            batches.append(Batch(region, part, len(ordered)))
    batches.sort(key=lambda batch: batch.mutations[0].key != primary)
    return batches


def lock_ttl_ms(size: int) -> int:
    """How long prewritten locks of a transaction of this size should live."""
    if size < BATCH_BYTES:
        return MIN_TTL_MS
    return max(MIN_TTL_MS, min(MAX_TTL_MS, int(TTL_PER_ROOT_MIB * (size / (1 << 20)) ** 0.5)))
