"""What ends a wait for a lock without the lock."""

from __future__ import annotations

from core_py.errors import RetryClass
from tikv_py.deadlock.wait_for_graph import Cycle
from tikv_py.mvcc.errors import KeyIsLocked, TxnError
from tikv_py.mvcc.lock import Lock


class LockWaitEnded(KeyIsLocked):
    """The time to wait is up; carries the lock, and how long ago it changed hands (0: not since the request waits)."""

    code = "KV:Storage:LockWaitEnded"

    def __init__(self, user_key: bytes, lock: Lock, since_change_ms: int) -> None:
        super().__init__(user_key, lock)
        self.since_change_ms = since_change_ms


class DeadlockFound(TxnError):
    """Waiting would close a cycle of waiting transactions: this one has to give up."""

    code = "KV:Storage:Deadlock"
    retry = RetryClass.RESTART_TXN
    mysql_code = 1213
    sqlstate = "40001"

    def __init__(self, cycle: Cycle) -> None:
        wait = cycle.closing
        chain = ", ".join(f"{one.txn} waits for {one.wait_for_txn}" for one in cycle.chain)
        super().__init__(f"deadlock at key {wait.key.hex()}: {chain}")
        self.cycle = cycle
