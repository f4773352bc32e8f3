"""What a user of the client can meet, typed, with the MySQL codes that a SQL front passes on.

Region errors that the client settles by itself (a moved leader, a busy store) never leave it; when a budget is spent they
come out as one of the `BudgetExhausted` classes, whose text names region, epoch, store and the last causes.
Refusals of a transaction rule (kvrpcpb.KeyError) become `TxnClientError` classes; see `from_key_error`.
"""

from __future__ import annotations

from typing import ClassVar

from core_py.errors import DbError, RetryClass
from core_py.region_errors import RegionError
from protos.kvproto import kvrpcpb_pb2


class RegionStale(RegionError):
    """The region is not what the caller thinks: its cache entry is renewed, so locate the keys again and send again."""

    code = "KV:Client:RegionStale"

    def __init__(self, region_id: int, why: str) -> None:
        super().__init__(f"region {region_id} is out of date: {why}")
        self.region_id = region_id


class BudgetExhausted(DbError):
    """Retries went on for the whole budget. The subclass says what was waited for last."""

    code = "KV:Client:BudgetExhausted"
    retry = RetryClass.BACKOFF


class PdTimeout(BudgetExhausted):
    """PD did not answer in time."""

    code = "KV:Client:PdTimeout"
    mysql_code = 9001


class TikvTimeout(BudgetExhausted):
    """A store did not answer in time."""

    code = "KV:Client:TikvTimeout"
    mysql_code = 9002


class TikvBusy(BudgetExhausted):
    """A store stayed busy."""

    code = "KV:Client:TikvBusy"
    mysql_code = 9003


class ResolveLockTimeout(BudgetExhausted):
    """A foreign lock could not be resolved in time."""

    code = "KV:Client:ResolveLockTimeout"
    mysql_code = 9004


class RegionUnavailable(BudgetExhausted):
    """A region had no usable leader in time."""

    code = "KV:Client:RegionUnavailable"
    mysql_code = 9005


class OperationTimeout(BudgetExhausted):
    """A call took longer than its caller allowed."""

    code = "KV:Client:OperationTimeout"
    mysql_code = 9002


class SyncInsideLoop(DbError):
    """A synchronous client was called inside a running event loop, which it would stop."""

    code = "KV:Client:SyncInsideLoop"


class RawError(DbError):
    """A store refused a raw command; the text is the store's."""

    code = "KV:Client:Raw"


class CoprocessorError(DbError):
    """A store could not run a plan; the text is the store's."""

    code = "KV:Client:Coprocessor"


class TxnClientError(DbError):
    """Base of everything a transaction can be refused for."""

    code = "KV:Client:Txn"


class KeyLocked(TxnClientError):
    """Another transaction holds the key. Settled by the client; users see it only from single commands."""

    code = "KV:Client:KeyLocked"
    retry = RetryClass.RESOLVE_LOCK
    mysql_code = 1205

    def __init__(self, lock: kvrpcpb_pb2.LockInfo) -> None:
        super().__init__(f"key {lock.key.hex()} is locked by transaction {lock.lock_version}")
        self.lock = lock


class WriteConflictError(TxnClientError):
    """Somebody committed the key after this transaction (or statement) began: start again with a new timestamp."""

    code = "KV:Client:WriteConflict"
    retry = RetryClass.RESTART_TXN
    mysql_code = 9007

    def __init__(self, conflict: kvrpcpb_pb2.WriteConflict) -> None:
        self.reason = kvrpcpb_pb2.WriteConflict.Reason.Name(conflict.reason)
        super().__init__(
            f"Write conflict, txnStartTS={conflict.start_ts}, conflictStartTS={conflict.conflict_ts},"
            f" conflictCommitTS={conflict.conflict_commit_ts}, key={conflict.key.hex()},"
            f" primary={conflict.primary.hex()}, reason={self.reason} [try again later]"
        )
        self.key, self.primary, self.start_ts = conflict.key, conflict.primary, conflict.start_ts
        self.conflict_start_ts, self.conflict_commit_ts = conflict.conflict_ts, conflict.conflict_commit_ts


class KeyExistsError(TxnClientError):
    """An insert found a value."""

    code = "KV:Client:KeyExists"
    mysql_code = 1062
    sqlstate = "23000"

    def __init__(self, key: bytes) -> None:
        super().__init__(f"key {key.hex()} exists already")
        self.key = key


class DeadlockError(TxnClientError):
    """Waiting for the lock would close a circle; this transaction has to give way."""

    code = "KV:Client:Deadlock"
    retry = RetryClass.RESTART_TXN
    mysql_code = 1213
    sqlstate = "40001"

    def __init__(self, deadlock: kvrpcpb_pb2.Deadlock) -> None:
        chain = "; ".join(
            f"{entry.txn} waits for {entry.wait_for_txn} on key {entry.key.hex()}" for entry in deadlock.wait_chain
        )
        super().__init__(
            f"deadlock: key {deadlock.lock_key.hex()} is held by transaction {deadlock.lock_ts}, which waits for this one"
            + (f" ({chain})" if chain else "")
        )
        self.deadlock = deadlock
        self.chain = tuple((entry.txn, entry.wait_for_txn, entry.key) for entry in deadlock.wait_chain)
        """Who waits (start_ts) for whom (start_ts) on which key, as far as the store tells."""


class LockWaitTimeout(TxnClientError):
    """The lock was not free within the time the caller wanted to wait."""

    code = "KV:Client:LockWaitTimeout"
    mysql_code = 1205

    def __init__(self, key: bytes, waited_ms: int) -> None:
        super().__init__(f"lock wait timeout exceeded: key {key.hex()} was not free within {waited_ms} ms")
        self.key = key


class LockNotFree(TxnClientError):
    """The lock is taken and the caller did not want to wait (NOWAIT)."""

    code = "KV:Client:LockNotFree"
    mysql_code = 3572

    def __init__(self, key: bytes) -> None:
        super().__init__(f"key {key.hex()} is locked and NOWAIT is set")
        self.key = key


class UndeterminedError(TxnClientError):
    """The commit was sent and no answer came: it may or may not have happened. Read the data to find out."""

    code = "KV:Client:Undetermined"
    mysql_code = 8501


class TxnAborted(TxnClientError):
    """The transaction cannot commit any more: it was rolled back by others, or a store refused it for good."""

    code = "KV:Client:TxnAborted"
    retry = RetryClass.RESTART_TXN
    mysql_code = 8002


class GcTooEarly(TxnClientError):
    """The timestamp is behind the GC safe point: versions it needs may be gone. Begin a new transaction."""

    code = "KV:Storage:GcTooEarly"
    mysql_code = 9006

    TEXT: ClassVar[str] = "GC life time is shorter than transaction duration"
    """How the refusal begins, whoever says it: a store, whose answers have no field for it, or this client."""

    @classmethod
    def at(cls, start_ts: int, safe_point: int) -> GcTooEarly:
        """For a transaction or snapshot of `start_ts`."""
        return cls(f"{cls.TEXT}, transaction start ts is {start_ts}, txn safe point is {safe_point}")


class TxnRetryable(TxnClientError):
    """The store asks to start the transaction again."""

    code = "KV:Client:TxnRetryable"
    retry = RetryClass.RESTART_TXN
    mysql_code = 8022


class AssertionFailedError(TxnClientError):
    """A key's existence is not what the writer asserted: data and index disagree."""

    code = "KV:Client:AssertionFailed"
    mysql_code = 8141


class CommitTsExpired(TxnClientError):
    """The commit timestamp is below what a reader was promised. Settled by the client with a newer one."""

    code = "KV:Client:CommitTsExpired"
    retry = RetryClass.BACKOFF

    def __init__(self, expired: kvrpcpb_pb2.CommitTsExpired) -> None:
        super().__init__(f"commit at {expired.attempted_commit_ts} is below {expired.min_commit_ts}")
        self.key, self.min_commit_ts = expired.key, expired.min_commit_ts


class TxnNotFound(TxnClientError):
    """The primary carries no trace of the transaction (yet). Settled by the lock resolver."""

    code = "KV:Client:TxnNotFound"
    retry = RetryClass.BACKOFF


class PrimaryMismatch(TxnClientError):
    """The key believed to be the primary belongs to the transaction with another primary."""

    code = "KV:Client:PrimaryMismatch"


class EntryTooLarge(TxnClientError):
    """One key and value exceed the limit."""

    code = "KV:Client:EntryTooLarge"
    mysql_code = 8025


class TxnTooLarge(TxnClientError):
    """All buffered writes together exceed the limit: commit in parts."""

    code = "KV:Client:TxnTooLarge"
    mysql_code = 8004


class TxnClosed(TxnClientError):
    """The transaction is committed or rolled back already."""

    code = "KV:Client:TxnClosed"


def local_conflict(key: bytes, start_ts: int, commit_ts: int) -> kvrpcpb_pb2.WriteConflict:
    """A conflict found by this client itself, in the form stores tell one."""
    return kvrpcpb_pb2.WriteConflict(
        start_ts=start_ts, conflict_commit_ts=commit_ts, key=key, reason=kvrpcpb_pb2.WriteConflict.Optimistic
    )


def from_key_error(error: kvrpcpb_pb2.KeyError) -> TxnClientError:
    """The typed form of a store's refusal."""
    if error.HasField("locked"):
        return KeyLocked(error.locked)
    if error.HasField("conflict"):
        return WriteConflictError(error.conflict)
    if error.HasField("already_exist"):
        return KeyExistsError(error.already_exist.key)
    if error.HasField("deadlock"):
        return DeadlockError(error.deadlock)
    if error.HasField("commit_ts_expired"):
        return CommitTsExpired(error.commit_ts_expired)
    if error.HasField("txn_not_found"):
        missing = error.txn_not_found
        return TxnNotFound(f"transaction {missing.start_ts} is unknown on primary {missing.primary_key.hex()}")
    if error.HasField("primary_mismatch"):
        return PrimaryMismatch(f"another key is primary: {error.primary_mismatch.lock_info.primary_lock.hex()}")
    if error.HasField("assertion_failed"):
        return AssertionFailedError(f"assertion failed on key {error.assertion_failed.key.hex()}")
    if error.HasField("txn_lock_not_found"):
        return TxnAborted(
            f"the lock on key {error.txn_lock_not_found.key.hex()} is gone: rolled back by another client"
        )
    if error.abort.startswith(GcTooEarly.TEXT):
        return GcTooEarly(error.abort)
    if error.abort:
        return TxnAborted(error.abort)
    return TxnRetryable(error.retryable or str(error).strip() or "refused without a reason")


def lock_of(error: kvrpcpb_pb2.KeyError) -> kvrpcpb_pb2.LockInfo:
    """The lock that stood in the way, to be settled. Raises any other refusal in its typed form."""
    failure = from_key_error(error)
    if not isinstance(failure, KeyLocked):
        raise failure
    return failure.lock
