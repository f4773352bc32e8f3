"""Lock and write records: round trips, byte-exact vectors, refusal of damaged input."""

from __future__ import annotations

import contextlib

import pytest

from core_py.errors import CodecError
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.write import Write, WriteType

LOCKS = [
    Lock(LockType.PUT, b"pk", 1, 3000, b"v"),
    Lock(LockType.DELETE, b"", 1 << 60, 0),
    Lock(LockType.PESSIMISTIC, b"k", 7, 20, None, 9, 3, 10, last_change_ts=4, versions_to_last_change=300),
    Lock(LockType.PESSIMISTIC, b"k", 7, 20, versions_to_last_change=1, locked_with_conflict=True),
    Lock(
        LockType.PESSIMISTIC, b"primary", 7, 20_000, None, for_update_ts=9, txn_size=3, min_commit_ts=10,
        use_async_commit=True, secondaries=(b"a", b""), rollback_ts=(1, 2), last_change_ts=4, versions_to_last_change=1,
        txn_source=5, locked_with_conflict=True, generation=6,
    ),
]  # fmt: skip
WRITES = [
    Write(WriteType.PUT, 5, b"short"),
    Write(WriteType.DELETE, 1 << 60),
    Write.rollback(9, protected=True),
    Write(WriteType.PUT, 5, b"", True, 77, 3, 2, 9),
]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_round_trip_and_damage_is_refused(lock: Lock) -> None:
    data = lock.to_bytes()
    assert Lock.from_bytes(data) == lock
    for cut in range(len(data)):
        with contextlib.suppress(CodecError):
            Lock.from_bytes(data[:cut])
    with pytest.raises(CodecError, match="unknown"):
        Lock.from_bytes(data + b"?")


@pytest.mark.parametrize("write", WRITES)
def test_writes_round_trip_and_newer_parts_are_skipped(write: Write) -> None:
    assert Write.from_bytes(write.to_bytes()) == write
    assert Write.from_bytes(write.to_bytes() + b"?new part") == write


def test_vectors_derived_from_the_wire_facts() -> None:
    assert LOCKS[0].to_bytes() == b"P" + b"\x04pk" + b"\x01" + b"\xb8\x17" + b"v\x01v"
    assert WRITES[0].to_bytes() == b"P\x05v\x05short"
    assert WRITES[2].to_bytes() == b"R\x09v\x01p"
    assert Lock(LockType.PUT, b"k", 2, 3, min_commit_ts=4).to_bytes() == b"P\x02k\x02\x03c" + bytes(7) + b"\x04"


def test_unknown_types_are_refused() -> None:
    with pytest.raises(CodecError):
        Lock.from_bytes(b"X\x00\x00\x00")
    with pytest.raises(CodecError):
        Write.from_bytes(b"")
