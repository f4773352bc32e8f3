"""What a command wants to change: modifications collected in order, written by nobody here."""

from __future__ import annotations

from typing import NamedTuple

from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.write import Write


class Modify(NamedTuple):
    """One change; `value` None deletes the key."""

    cf: str
    key: bytes
    value: bytes | None


class MvccTxn:
    """The modifications of one transaction's command, identified by its start_ts."""

    __slots__ = ("memory_locks", "modifies", "one_pc_locks", "start_ts")

    def __init__(self, start_ts: int) -> None:
        self.start_ts = start_ts
        self.modifies: list[Modify] = []
        self.memory_locks: list[tuple[bytes, Lock]] = []
        """What readers must see from the decision on, until it is applied: (data key, lock)."""
        self.one_pc_locks: list[tuple[bytes, Lock, bool]] = []
        """(data key, lock, whether the key has a pessimistic lock) of what is to be committed in one phase."""

    def clear(self) -> None:
        """Want nothing after all."""
        self.modifies.clear()
        self.memory_locks.clear()
        self.one_pc_locks.clear()

    def put_lock(self, key: bytes, lock: Lock) -> None:
        """Lock a key, or change its lock."""
        self.modifies.append(Modify(CF_LOCK, key, lock.to_bytes()))

    def unlock(self, key: bytes) -> None:
        """Remove a key's lock."""
        self.modifies.append(Modify(CF_LOCK, key, None))

    def put_write(self, key: bytes, commit_ts: int, write: Write) -> None:
        """Record a commit or rollback."""
        self.modifies.append(Modify(CF_WRITE, keys.versioned(key, commit_ts), write.to_bytes()))

    def delete_write(self, key: bytes, commit_ts: int) -> None:
        """Remove a write record."""
        self.modifies.append(Modify(CF_WRITE, keys.versioned(key, commit_ts), None))

    def put_value(self, key: bytes, value: bytes) -> None:
        """Store a long value of this transaction."""
        self.modifies.append(Modify(CF_DEFAULT, keys.versioned(key, self.start_ts), value))

    def delete_value(self, key: bytes) -> None:
        """Remove a long value of this transaction."""
        self.modifies.append(Modify(CF_DEFAULT, keys.versioned(key, self.start_ts), None))
