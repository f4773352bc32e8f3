"""What a transaction rule answers when it says no. Wire mapping: kvrpcpb.KeyError, in `tikv_py.server.key_errors`.

All are deterministic decisions about a key in a snapshot. `user_key` is the key as the client wrote it.
"""

from __future__ import annotations

from core_py.errors import DbError, RetryClass
from tikv_py.mvcc.lock import Lock


class TxnError(DbError):
    """Base of the transaction rules' refusals."""

    code = "KV:Storage:Txn"
    deterministic = True


class KeyIsLocked(TxnError):
    """Another transaction holds the key: resolve its lock or wait."""

    code = "KV:Storage:KeyIsLocked"
    retry = RetryClass.RESOLVE_LOCK
    mysql_code = 1205

    def __init__(self, user_key: bytes, lock: Lock, *, resolve_unconditionally: bool = False) -> None:
        super().__init__(f"key {user_key.hex()} is locked by transaction {lock.start_ts}")
        self.user_key, self.lock = user_key, lock
        self.resolve_unconditionally = resolve_unconditionally


class WriteConflict(TxnError):
    """A newer commit (or a rollback of this transaction) is there: restart the transaction."""

    code = "KV:Storage:WriteConflict"
    retry = RetryClass.RESTART_TXN
    mysql_code = 9007

    def __init__(
        self, user_key: bytes, primary: bytes, *, start_ts: int, conflict: tuple[int, int], reason: str
    ) -> None:
        conflict_start_ts, conflict_commit_ts = conflict
        super().__init__(
            f"write conflict on key {user_key.hex()}: transaction {start_ts} meets a commit at {conflict_commit_ts}"
            f" of transaction {conflict_start_ts} ({reason})"
        )
        self.user_key, self.primary, self.start_ts, self.reason = user_key, primary, start_ts, reason
        self.conflict_start_ts, self.conflict_commit_ts = conflict_start_ts, conflict_commit_ts


class AlreadyExist(TxnError):
    """An insert found a value."""

    code = "KV:Storage:AlreadyExist"
    mysql_code = 1062
    sqlstate = "23000"

    def __init__(self, user_key: bytes, existing_start_ts: int) -> None:
        super().__init__(f"key {user_key.hex()} already exists")
        self.user_key, self.existing_start_ts = user_key, existing_start_ts


class TxnLockNotFound(TxnError):
    """The lock to commit is gone: the transaction was rolled back, or never wrote here."""

    code = "KV:Storage:TxnLockNotFound"
    retry = RetryClass.RESTART_TXN

    def __init__(self, user_key: bytes, start_ts: int, commit_ts: int) -> None:
        super().__init__(f"transaction {start_ts} has no lock on key {user_key.hex()} to commit at {commit_ts}")
        self.user_key, self.start_ts, self.commit_ts = user_key, start_ts, commit_ts


class PessimisticLockNotFound(TxnError):
    """A pessimistic prewrite does not find the lock it took before."""

    code = "KV:Storage:PessimisticLockNotFound"
    retry = RetryClass.RESTART_TXN

    def __init__(self, user_key: bytes, start_ts: int, why: str) -> None:
        super().__init__(f"transaction {start_ts} lost its pessimistic lock on key {user_key.hex()}: {why}")
        self.user_key, self.start_ts = user_key, start_ts


class PessimisticLockRolledBack(TxnError):
    """A pessimistic lock was asked for by a transaction that is rolled back already."""

    code = "KV:Storage:PessimisticLockRolledBack"
    retry = RetryClass.RESTART_TXN

    def __init__(self, user_key: bytes, start_ts: int) -> None:
        super().__init__(f"transaction {start_ts} was rolled back and cannot lock key {user_key.hex()}")
        self.user_key, self.start_ts = user_key, start_ts


class LockTypeNotMatch(TxnError):
    """The transaction's own lock is of the wrong kind: prewritten where it asks to lock, or the other way round."""

    code = "KV:Storage:LockTypeNotMatch"

    def __init__(self, user_key: bytes, start_ts: int, *, pessimistic: bool) -> None:
        has = "locked" if pessimistic else "prewritten"
        super().__init__(
            f"transaction {start_ts} has {has} key {user_key.hex()}, which this request does not allow for"
        )
        self.user_key, self.start_ts, self.pessimistic = user_key, start_ts, pessimistic


class LockIfExistsFailed(TxnError):
    """`lock_only_if_exists` was asked for without the value, which is what tells the client whether the key is locked."""

    code = "KV:Storage:LockIfExistsFailed"

    def __init__(self, user_key: bytes, start_ts: int) -> None:
        super().__init__(
            f"transaction {start_ts} asks to lock key {user_key.hex()} only if it exists, but not to return its value"
        )
        self.user_key, self.start_ts = user_key, start_ts


class Committed(TxnError):
    """A rollback was asked of a transaction that has committed."""

    code = "KV:Storage:Committed"

    def __init__(self, user_key: bytes, start_ts: int, commit_ts: int) -> None:
        super().__init__(f"transaction {start_ts} committed key {user_key.hex()} at {commit_ts}")
        self.user_key, self.start_ts, self.commit_ts = user_key, start_ts, commit_ts


class CommitTsExpired(TxnError):
    """The commit timestamp is below what a reader was promised: get a new one and commit again."""

    code = "KV:Storage:CommitTsExpired"
    retry = RetryClass.BACKOFF

    def __init__(self, user_key: bytes, start_ts: int, commit_ts: int, min_commit_ts: int) -> None:
        super().__init__(
            f"key {user_key.hex()} of transaction {start_ts} cannot commit at {commit_ts} < {min_commit_ts}"
        )
        self.user_key, self.start_ts, self.commit_ts, self.min_commit_ts = user_key, start_ts, commit_ts, min_commit_ts


class CommitTsTooLarge(TxnError):
    """Async or one-phase commit would come after the client's limit: two phases are left. Never leaves a store."""

    code = "KV:Storage:CommitTsTooLarge"

    def __init__(self, user_key: bytes, start_ts: int) -> None:
        super().__init__(f"transaction {start_ts} cannot commit key {user_key.hex()} within its limit")


class MaxTsRefused(TxnError):
    """A timestamp lies further in the future than PD can have given it: it would push every later commit away."""

    code = "KV:Storage:InvalidMaxTsUpdate"

    def __init__(self, ts: int, limit: int) -> None:
        super().__init__(f"invalid max_ts update: timestamp {ts} is above the limit of {limit}")


class TxnNotFound(TxnError):
    """Neither a lock nor a commit or rollback record of the transaction is on its primary."""

    code = "KV:Storage:TxnNotFound"
    retry = RetryClass.BACKOFF

    def __init__(self, user_key: bytes, start_ts: int) -> None:
        super().__init__(f"transaction {start_ts} left nothing on its primary {user_key.hex()}")
        self.user_key, self.start_ts = user_key, start_ts


class PrimaryMismatch(TxnError):
    """The key asked about as a primary carries a lock with another primary."""

    code = "KV:Storage:PrimaryMismatch"

    def __init__(self, user_key: bytes, lock: Lock) -> None:
        super().__init__(
            f"key {user_key.hex()} is not the primary of transaction {lock.start_ts}: {lock.primary.hex()} is"
        )
        self.user_key, self.lock = user_key, lock


class AssertionFailed(TxnError):
    """The writer's assumption about the key's existence is false."""

    code = "KV:Storage:AssertionFailed"

    def __init__(self, user_key: bytes, start_ts: int, *, must_exist: bool, existing: tuple[int, int]) -> None:
        wanted = "exist" if must_exist else "not exist"
        super().__init__(f"key {user_key.hex()} should {wanted} for transaction {start_ts}")
        self.user_key, self.start_ts, self.must_exist = user_key, start_ts, must_exist
        self.existing_start_ts, self.existing_commit_ts = existing


class CommitTsNotAfterStart(TxnError):
    """A commit timestamp that does not lie after what it is to end."""

    code = "KV:Storage:InvalidTxnTso"

    def __init__(self, start_ts: int, commit_ts: int) -> None:
        super().__init__(f"transaction {start_ts} cannot commit at {commit_ts}, which is not after it")
        self.start_ts, self.commit_ts = start_ts, commit_ts


class WrittenInFlashback(TxnError):
    """A key of a range in flashback has a version newer than the flashback: its commit timestamp is not a fresh one."""

    code = "KV:Storage:WrittenInFlashback"

    def __init__(self, user_key: bytes, commit_ts: int, newer_ts: int) -> None:
        super().__init__(f"key {user_key.hex()} has a version at {newer_ts}: a flashback cannot commit at {commit_ts}")
        self.user_key, self.commit_ts, self.newer_ts = user_key, commit_ts, newer_ts
