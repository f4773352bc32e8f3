"""The write record: what one commit (or rollback) did to a key (wire facts 4.2)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core_py.codec import number
from core_py.errors import CodecError
from tikv_py.mvcc.lock import Lock

SHORT_VALUE_MAX = 255
PROTECTED_ROLLBACK = b"p"


class WriteType(enum.Enum):
    """What happened."""

    PUT = b"P"
    DELETE = b"D"
    LOCK = b"L"
    ROLLBACK = b"R"


_TYPES = {ord(kind.value): kind for kind in WriteType}


@dataclass(frozen=True, slots=True)
class Write:
    """A decoded write record; its commit_ts (for a rollback, its start_ts) is in the key."""

    write_type: WriteType
    start_ts: int
    short_value: bytes | None = None
    has_overlapped_rollback: bool = False
    gc_fence: int | None = None
    last_change_ts: int = 0
    versions_to_last_change: int = 0
    txn_source: int = 0

    @classmethod
    def rollback(cls, start_ts: int, *, protected: bool) -> Write:
        """A rollback; a protected one must not be collapsed, because a later prewrite has to find it."""
        return cls(WriteType.ROLLBACK, start_ts, PROTECTED_ROLLBACK if protected else None)

    @property
    def is_protected(self) -> bool:
        """Whether it is a rollback that must stay."""
        return self.write_type is WriteType.ROLLBACK and self.short_value == PROTECTED_ROLLBACK

    def is_fenced_off(self, read_ts: int) -> bool:
        """Whether it is no version any more for who finds it as the newest at `read_ts` (not below the GC safe point).

        An overlapped rollback rewrites a commit record and so may bring back one that was collected already; the fence names
        the next change at that time. Had that one not been collected, it would have been found first.
        """
        return self.gc_fence is not None and 0 < self.gc_fence <= read_ts

    def to_bytes(self) -> bytes:
        """Encode."""
        parts = [self.write_type.value, number.encode_var_u64(self.start_ts)]
        if self.short_value is not None:
            parts += [b"v", bytes((len(self.short_value),)), self.short_value]
        if self.has_overlapped_rollback:
            parts.append(b"R")
        if self.gc_fence is not None:
            parts += [b"F", number.encode_u64(self.gc_fence)]
        if self.last_change_ts or self.versions_to_last_change:
            parts += [b"l", number.encode_u64(self.last_change_ts), number.encode_var_u64(self.versions_to_last_change)]
        if self.txn_source:
            parts += [b"S", number.encode_var_u64(self.txn_source)]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Write:
        """Decode; stops at a byte it does not know, as newer writers append parts. Raises CodecError."""
        kind = _TYPES.get(data[0]) if data else None
        if kind is None:
            raise CodecError(f"write type {data[:1]!r} is unknown")
        start_ts, pos = number.decode_var_u64(data, 1)
        size = len(data)
        short_value: bytes | None = None
        if pos < size and data[pos] == 0x76:  # v
            end = pos + 2 + data[pos + 1] if pos + 1 < size else size + 1
            if end > size:
                raise CodecError("the write record's short value is truncated")
            short_value = data[pos + 2 : end]
            pos = end
        if pos == size:
            return cls(kind, start_ts, short_value)
        overlapped, fence, change_ts, change_versions, source = False, None, 0, 0, 0
        while pos < size:
            tag = data[pos]
            pos += 1
            if tag == 0x52:  # R
                overlapped = True
            elif tag == 0x46:  # F
                fence = number.decode_u64(data, pos)
                pos += 8
            elif tag == 0x6C:  # l
                change_ts = number.decode_u64(data, pos)
                change_versions, pos = number.decode_var_u64(data, pos + 8)
            elif tag == 0x53:  # S
                source, pos = number.decode_var_u64(data, pos)
            else:
                break
        return cls(kind, start_ts, short_value, overlapped, fence, change_ts, change_versions, source)


def committed_write(lock: Lock) -> Write:
    """The write record that a prewritten lock turns into."""
    return Write(
        WriteType(lock.lock_type.value),
        lock.start_ts,
        lock.short_value,
        last_change_ts=lock.last_change_ts,
        versions_to_last_change=lock.versions_to_last_change,
        txn_source=lock.txn_source,
    )
