"""What the rules say no with: kvrpcpb.KeyError, built as stores build it."""

from __future__ import annotations

from typing import Any, cast

from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.testing.table import Lock


class Refused(Exception):
    """A rule's no. `lock` is set when a lock is in the way; `lost` when the transaction's own lock has gone."""

    def __init__(self, error: Any, key: bytes = b"", lock: Lock | None = None, *, lost: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.key, self.lock = error, key, lock
        self.may_be_repeated = lost or lock is not None or error.HasField("conflict")
        """Whether the reason may be that the transaction has committed and its request arrived again."""


def locked(key: bytes, lock: Lock, *, resolve_unconditionally: bool = False) -> Refused:
    """Another transaction holds the key; a TTL of 0 tells the caller to end that transaction at once."""
    info = lock.info(key)
    if resolve_unconditionally:
        info.lock_ttl = 0
    return Refused(pb.KeyError(locked=info), key, lock)


def conflict(key: bytes, primary: bytes, start_ts: int, found: tuple[int, int], reason: str) -> Refused:
    """Something newer, `found` = (start_ts, commit_ts), is there."""
    return Refused(
        pb.KeyError(
            conflict=pb.WriteConflict(
                start_ts=start_ts,
                conflict_ts=found[0],
                conflict_commit_ts=found[1],
                key=key,
                primary=primary,
                reason=reason,
            ),
            retryable=f"write conflict on key {key.hex()}" if reason == "Optimistic" else "",
        )
    )


def exists(key: bytes) -> Refused:
    """An insert found a value."""
    return Refused(pb.KeyError(already_exist=pb.AlreadyExist(key=key)))


def lock_gone(key: bytes, start_ts: int) -> Refused:
    """A commit did not find its lock."""
    text = f"transaction {start_ts} has no lock on key {key.hex()}"
    return Refused(pb.KeyError(txn_lock_not_found=pb.TxnLockNotFound(key=key), retryable=text))


def too_early(key: bytes, lock: Lock, commit_ts: int) -> Refused:
    """The commit timestamp is below what a reader was promised."""
    return Refused(
        pb.KeyError(
            commit_ts_expired=pb.CommitTsExpired(
                start_ts=lock.start_ts, attempted_commit_ts=commit_ts, key=key, min_commit_ts=lock.min_commit_ts
            )
        )
    )


def unknown(primary: bytes, start_ts: int) -> Refused:
    """The transaction left nothing on its primary."""
    return Refused(pb.KeyError(txn_not_found=pb.TxnNotFound(start_ts=start_ts, primary_key=primary)))


def not_primary(key: bytes, lock: Lock) -> Refused:
    """The key asked about is not the primary."""
    return Refused(pb.KeyError(primary_mismatch=pb.PrimaryMismatch(lock_info=lock.info(key))))


def assertion(key: bytes, start_ts: int, wanted: int) -> Refused:
    """The writer's belief about the key's existence is wrong."""
    failed = pb.AssertionFailed(start_ts=start_ts, key=key, assertion=cast("pb.Assertion", wanted))
    return Refused(pb.KeyError(assertion_failed=failed))


def deadlock(key: bytes, holder_ts: int) -> Refused:
    """Waiting would close a circle."""
    return Refused(pb.KeyError(deadlock=pb.Deadlock(lock_ts=holder_ts, lock_key=key, deadlock_key=key)))


def lost(key: bytes, start_ts: int) -> Refused:
    """The transaction's pessimistic lock is not there any more."""
    return Refused(pb.KeyError(abort=f"transaction {start_ts} lost its lock on key {key.hex()}"), key, lost=True)


def abort(text: str) -> Refused:
    """The transaction cannot go on."""
    return Refused(pb.KeyError(abort=text))
