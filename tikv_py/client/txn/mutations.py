"""What a commit writes, derived from the buffer and the locks taken, and cut into batches. Pure but for looking regions up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.txn.membuffer import BufferedOp, Entry, MemBuffer

BATCH_BYTES = 16 * 1024  # of keys and values in one request, as client-go; a single larger mutation goes alone
MIN_TTL_MS = 3_000
MAX_TTL_MS = 20_000
TTL_PER_ROOT_MIB = 6_000

_NONE: Mapping[bytes, int] = MappingProxyType({})
_OPS = {
    BufferedOp.PUT: kvrpcpb_pb2.Put,
    BufferedOp.INSERT: kvrpcpb_pb2.Insert,
    BufferedOp.DELETE: kvrpcpb_pb2.Del,
    BufferedOp.CHECK_NOT_EXISTS: kvrpcpb_pb2.CheckNotExists,
}


class Mutation(NamedTuple):
    """One key of a commit.

    `locked` = a pessimistic lock is held on it; `forced_ts` = that lock was taken in spite of a newer commit, at this for_update_ts
    (0 = not so); `assertion` = kvrpcpb.Assertion.
    """

    op: int
    key: bytes
    value: bytes = b""
    locked: bool = False
    forced_ts: int = 0
    assertion: int = 0

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


def collect(buffer: MemBuffer, locked: Collection[bytes], forced: Mapping[bytes, int] = _NONE) -> list[Mutation]:
    """All mutations in key order; a locked key without a write becomes a lock record, so that its lock is released.

    `forced` are the locked keys whose lock was taken in spite of a newer commit, with its for_update_ts.
    """
    made = []
    for key, entry in buffer.items():
        nothing = entry.op is BufferedOp.CHECK_NOT_EXISTS and key in locked  # checked when it was locked
        op = kvrpcpb_pb2.Lock if nothing else _OPS[entry.op]
        made.append(Mutation(op, key, entry.value, key in locked, forced.get(key, 0), _assertion(entry)))
    made += [
        Mutation(kvrpcpb_pb2.Lock, key, b"", locked=True, forced_ts=forced.get(key, 0))
        for key in locked
        if key not in buffer
    ]
    made.sort(key=lambda mutation: mutation.key)
    return made


def _assertion(entry: Entry) -> int:
    if entry.op is BufferedOp.CHECK_NOT_EXISTS or entry.existed is None:
        return 0
    return kvrpcpb_pb2.Exist if entry.existed else kvrpcpb_pb2.NotExist


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


async def batches_of(
    mutations: Sequence[Mutation], primary: bytes, cache: RegionCache, backoffer: Backoffer, *, keys_only: bool
) -> list[Batch]:
    """The batches of mutations as their regions are now."""
    by_key = {mutation.key: mutation for mutation in mutations}
    groups = await cache.group_keys_by_region(list(by_key), backoffer)
    return cut([(region, [by_key[key] for key in keys]) for region, keys in groups], primary, keys_only=keys_only)
