"""All versions of a range of keys: lock, write records and values, key by key, from a frozen view.

The three families hold the same keys in the same order, so one pass over three streams meets everything of a key at once. Records
that are no transactional ones (raw values share the families) are passed over. A key with very many versions shows its newest
`VERSIONS_MAX`: an answer must stay a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core_py.errors import CodecError
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.debug.inspect import BadQuestion
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Engine, Pair, Range, Snapshot
from tikv_py.mvcc.keys import DATA_END, DATA_PREFIX, split_version, user_key
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.write import Write, WriteType

VERSIONS_MAX = 1024

_LOCK_OPS = {
    LockType.PUT: pb.Put,
    LockType.DELETE: pb.Del,
    LockType.LOCK: pb.Lock,
    LockType.PESSIMISTIC: pb.PessimisticLock,
}
_WRITE_OPS = {
    WriteType.PUT: pb.Put,
    WriteType.DELETE: pb.Del,
    WriteType.LOCK: pb.Lock,
    WriteType.ROLLBACK: pb.Rollback,
}


def mvcc_view(kv_db: Engine, start: bytes, end: bytes, limit: int) -> Snapshot:
    """The view `scan_mvcc` reads; bounds are engine keys. Raises BadQuestion for a range that was not meant."""
    for name, key in (("from", start), ("to", end)):
        if key and not key.startswith(DATA_PREFIX) and (name, key) != ("to", DATA_END):
            raise BadQuestion(f"the {name} key must start with 'z', as data keys do in the engine")
    if not end and not limit:
        raise BadQuestion("a scan needs an end or a limit")
    start, end = start or DATA_PREFIX, end or DATA_END
    return kv_db.snapshot([Range(cf, start, end) for cf in (CF_LOCK, CF_WRITE, CF_DEFAULT)])


def scan_mvcc(view: Snapshot, limit: int) -> Iterator[tuple[bytes, pb.MvccInfo]]:
    """(data key, what is known of it) in order; at most `limit` keys (0 = all)."""
    locks = _Records(view.streams[0], lambda key: (key, 0))
    writes = _Records(view.streams[1], split_version)
    values = _Records(view.streams[2], split_version)
    count = 0
    while not limit or count < limit:
        heads = [records.key for records in (locks, writes, values) if records.key is not None]
        if not heads:
            return
        key = min(heads)
        info = pb.MvccInfo()
        for _, data in locks.take(key):
            info.lock.CopyFrom(_lock(data))
        info.writes.extend(_write(ts, data) for ts, data in writes.take(key))
        info.values.extend(pb.MvccValue(start_ts=ts, value=data) for ts, data in values.take(key))
        yield key, info
        count += 1


class _Records:
    """One family's stream with the record ahead."""

    def __init__(self, stream: Iterator[Pair], split: Callable[[bytes], tuple[bytes, int]]) -> None:
        self._stream = stream
        self._split = split
        self.key: bytes | None = None
        self._ts, self._value = 0, b""
        self._advance()

    def _advance(self) -> None:
        for key, value in self._stream:
            try:
                data_key, ts = self._split(key)
                user_key(data_key)
            except CodecError:  # a raw value
                continue
            self.key, self._ts, self._value = data_key, ts, value
            return
        self.key = None

    def take(self, key: bytes) -> Iterator[tuple[int, bytes]]:
        """(timestamp, record) of a key, newest first; those beyond the limit are passed over."""
        count = 0
        while self.key == key:
            if count < VERSIONS_MAX:
                yield self._ts, self._value
            count += 1
            self._advance()


def _lock(data: bytes) -> pb.MvccLock:
    lock = Lock.from_bytes(data)
    return pb.MvccLock(
        type=_LOCK_OPS[lock.lock_type],
        start_ts=lock.start_ts,
        primary=lock.primary,
        short_value=lock.short_value or b"",
        ttl=lock.ttl_ms,
        for_update_ts=lock.for_update_ts,
        txn_size=lock.txn_size,
        use_async_commit=lock.use_async_commit,
        secondaries=lock.secondaries,
        rollback_ts=lock.rollback_ts,
        last_change_ts=lock.last_change_ts,
        versions_to_last_change=lock.versions_to_last_change,
    )


def _write(commit_ts: int, data: bytes) -> pb.MvccWrite:
    write = Write.from_bytes(data)
    return pb.MvccWrite(
        type=_WRITE_OPS[write.write_type],
        start_ts=write.start_ts,
        commit_ts=commit_ts,
        short_value=write.short_value or b"",
        has_overlapped_rollback=write.has_overlapped_rollback,
        has_gc_fence=write.gc_fence is not None,
        gc_fence=write.gc_fence or 0,
        last_change_ts=write.last_change_ts,
        versions_to_last_change=write.versions_to_last_change,
    )
