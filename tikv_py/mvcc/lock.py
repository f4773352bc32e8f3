"""The lock record: who is writing a key, since when, for how long, and where that transaction's primary is (wire facts 4.2)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any

from core_py.codec import number
from core_py.errors import CodecError


class LockType(enum.Enum):
    """What the lock's owner will do to the key."""

    PUT = b"P"
    DELETE = b"D"
    LOCK = b"L"
    PESSIMISTIC = b"S"


_TYPES = {ord(kind.value): kind for kind in LockType}


@dataclass(frozen=True, slots=True)
class Lock:
    """A decoded lock. Timestamps are TSO values, `ttl_ms` counts from the physical part of `start_ts`."""

    lock_type: LockType
    primary: bytes
    start_ts: int
    ttl_ms: int
    short_value: bytes | None = None
    for_update_ts: int = 0
    txn_size: int = 0
    min_commit_ts: int = 0
    use_async_commit: bool = False
    secondaries: tuple[bytes, ...] = ()
    rollback_ts: tuple[int, ...] = ()
    last_change_ts: int = 0
    versions_to_last_change: int = 0
    txn_source: int = 0
    locked_with_conflict: bool = False
    generation: int = 0

    @property
    def is_pessimistic(self) -> bool:
        """Whether it only reserves the key."""
        return self.lock_type is LockType.PESSIMISTIC

    def to_bytes(self) -> bytes:
        """Encode; optional parts in the fixed order of the public format."""
        parts = [
            self.lock_type.value,
            number.encode_compact_bytes(self.primary),
            number.encode_var_u64(self.start_ts),
            number.encode_var_u64(self.ttl_ms),
        ]
        if self.short_value is not None:
            parts += [b"v", bytes((len(self.short_value),)), self.short_value]
        for tag, value in ((b"f", self.for_update_ts), (b"t", self.txn_size), (b"c", self.min_commit_ts)):
            if value:
                parts += [tag, number.encode_u64(value)]
        if self.use_async_commit:
            parts += [b"a", number.encode_var_u64(len(self.secondaries))]
            parts += [number.encode_compact_bytes(key) for key in self.secondaries]
        if self.rollback_ts:
            parts += [b"r", number.encode_var_u64(len(self.rollback_ts))]
            parts += [number.encode_u64(ts) for ts in self.rollback_ts]
        if self.last_change_ts or self.versions_to_last_change:
            parts += [b"l", number.encode_u64(self.last_change_ts), number.encode_var_u64(self.versions_to_last_change)]
        if self.txn_source:
            parts += [b"s", number.encode_var_u64(self.txn_source)]
        if self.locked_with_conflict:
            parts.append(b"F")
        if self.generation:
            parts += [b"g", number.encode_u64(self.generation)]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Lock:
        """Decode. Raises CodecError."""
        lock_type = _TYPES.get(data[0]) if data else None
        if lock_type is None:
            raise CodecError(f"lock type {data[:1]!r} is unknown")
        primary, pos = number.decode_compact_bytes(data, 1)
        start_ts, pos = number.decode_var_u64(data, pos)
        ttl_ms, pos = number.decode_var_u64(data, pos)
        size = len(data)
        short_value: bytes | None = None
        if pos + 1 < size and data[pos] == _SHORT_VALUE:
            end = pos + 2 + data[pos + 1]
            if end > size:
                raise CodecError("the lock's short value is truncated")
            short_value = data[pos + 2 : end]
            pos = end
        # What nearly every lock has is read straight on, in the order it is written; the rest takes the general way.
        for_update_ts = txn_size = min_commit_ts = 0
        if pos + 9 <= size and data[pos] == _FOR_UPDATE_TS:
            for_update_ts = number.decode_u64(data, pos + 1)
            pos += 9
        if pos + 9 <= size and data[pos] == _TXN_SIZE:
            txn_size = number.decode_u64(data, pos + 1)
            pos += 9
        if pos + 9 <= size and data[pos] == _MIN_COMMIT_TS:
            min_commit_ts = number.decode_u64(data, pos + 1)
            pos += 9
        change_ts = change_versions = 0
        if pos + 9 < size and data[pos] == _LAST_CHANGE:
            change_ts = number.decode_u64(data, pos + 1)
            change_versions, pos = number.decode_var_u64(data, pos + 9)
        lock = cls(
            lock_type, primary, start_ts, ttl_ms, short_value, for_update_ts, txn_size, min_commit_ts,
            last_change_ts=change_ts, versions_to_last_change=change_versions,
        )  # fmt: skip
        return lock if pos == size else replace(lock, **_optional_parts(data, pos))


_SHORT_VALUE, _FOR_UPDATE_TS, _TXN_SIZE, _MIN_COMMIT_TS, _LAST_CHANGE = b"vftcl"
_U64_TAGS = {ord("f"): "for_update_ts", ord("t"): "txn_size", ord("c"): "min_commit_ts", ord("g"): "generation"}


def _optional_parts(data: bytes, pos: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    while pos < len(data):
        tag = data[pos]
        pos += 1
        if tag in _U64_TAGS:
            fields[_U64_TAGS[tag]] = number.decode_u64(data, pos)
            pos += 8
        elif tag == ord("v"):
            size = data[pos] if pos < len(data) else 0
            value = data[pos + 1 : pos + 1 + size]
            if pos >= len(data) or len(value) < size:
                raise CodecError("the lock's short value is truncated")
            fields["short_value"] = value
            pos += 1 + size
        elif tag == ord("a"):
            fields["use_async_commit"] = True
            fields["secondaries"], pos = _list_of_bytes(data, pos)
        elif tag == ord("r"):
            count, pos = number.decode_var_u64(data, pos)
            if count * 8 > len(data) - pos:
                raise CodecError("the lock's rollback list is truncated")
            fields["rollback_ts"] = tuple(number.decode_u64(data, pos + 8 * i) for i in range(count))
            pos += 8 * count
        elif tag == ord("l"):
            fields["last_change_ts"] = number.decode_u64(data, pos)
            fields["versions_to_last_change"], pos = number.decode_var_u64(data, pos + 8)
        elif tag == ord("s"):
            fields["txn_source"], pos = number.decode_var_u64(data, pos)
        elif tag == ord("F"):
            fields["locked_with_conflict"] = True
        else:
            raise CodecError(f"lock tag {tag:#x} is unknown")
    return fields


def _list_of_bytes(data: bytes, pos: int) -> tuple[tuple[bytes, ...], int]:
    count, pos = number.decode_var_u64(data, pos)
    if count > len(data) - pos:
        raise CodecError("the lock's list of secondaries is truncated")
    items = []
    for _ in range(count):
        item, pos = number.decode_compact_bytes(data, pos)
        items.append(item)
    return tuple(items), pos
