"""What travels with a ReadIndex question from a replica to its leader, and back: the context of Raft's messages.

    question   id(16)                                the leader's own, and of replicas that read no timestamp
               id(16) Q read_ts(8) start end         a replica wants to read [start, end) of data keys at read_ts
    answer     id(16)                                read at the confirmed index
               id(16) L user_key lock                a lock stands in the way that is in the leader's memory only

Why: the commits that async and one-phase commit make are placed above all reads that the *leader* knows of, so a replica's read has
to be known there before the index is taken (see `tikv_py.txn.concurrency`). Bytes are compact-encoded; a context that cannot be
read is passed on as it is, and whoever asked sees an id that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

from core_py.codec import number
from core_py.errors import CodecError
from tikv_py.mvcc.lock import Lock

ID_SIZE = 16
_QUESTION, _LOCKED = b"Q", b"L"


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """A read of [start, end) of data keys at `read_ts`, by a replica that does not lead."""

    read_ts: int
    start: bytes
    end: bytes

    def to_context(self, read_id: bytes) -> bytes:
        """The context that asks."""
        bounds = number.encode_compact_bytes(self.start) + number.encode_compact_bytes(self.end)
        return read_id + _QUESTION + number.encode_u64(self.read_ts) + bounds


def question_of(context: bytes) -> ReadQuestion | None:
    """The question in a context, if there is one."""
    if context[ID_SIZE : ID_SIZE + 1] != _QUESTION:
        return None
    try:
        read_ts = number.decode_u64(context, ID_SIZE + 1)
        start, pos = number.decode_compact_bytes(context, ID_SIZE + 9)
        end, _ = number.decode_compact_bytes(context, pos)
    except CodecError:
        return None
    return ReadQuestion(read_ts, start, end)


def locked_answer(context: bytes, user_key: bytes, lock: Lock) -> bytes:
    """The context of an answer that names the lock in the way."""
    key = number.encode_compact_bytes(user_key)
    return context[:ID_SIZE] + _LOCKED + key + number.encode_compact_bytes(lock.to_bytes())


def lock_of(context: bytes) -> tuple[bytes, Lock] | None:
    """(user key, lock) of an answer that names one. Raises CodecError."""
    if context[ID_SIZE : ID_SIZE + 1] != _LOCKED:
        return None
    user_key, pos = number.decode_compact_bytes(context, ID_SIZE + 1)
    data, _ = number.decode_compact_bytes(context, pos)
    return user_key, Lock.from_bytes(data)
