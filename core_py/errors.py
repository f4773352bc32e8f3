"""One error taxonomy for all parts: what happened, whether to try again and how, and what a MySQL client is told.

    DbError                      expected failures, typed; each leaf has a unique `code`
    ├─ RegionError               the request reached the wrong place or a busy one (wire-level: errorpb.Error)
    ├─ TxnError                  a transaction rule said no (wire-level: kvrpcpb.KeyError)
    ├─ PdError                   PD refused or is not there (wire-level: pdpb.Error or a gRPC status)
    ├─ RpcError                  the transport failed; the outcome of the call may be unknown
    └─ ConfigError, StorageError what a process meets at start and on disk
    InvariantViolation           not an expected failure: the process must stop (never catch it to go on)

`retry` is the class of reaction, not a promise: NEVER (tell the user), BACKOFF (same place, later), REFRESH_REGION
(re-read the region, then again), RESOLVE_LOCK (settle the lock's owner, then again), RESTART_TXN (new start_ts).
`deterministic` says that every replica meets the same failure for the same input: such a failure during apply is an
answer to the client; any other one during apply must stop the process, or replicas diverge.

The SQL errors of the front (unknown column, duplicate key, ...) are in `tidb_py.errors` and derive from `DbError` too.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class RetryClass(enum.Enum):
    """How a caller should react to an error."""

    NEVER = "never"
    BACKOFF = "backoff"
    REFRESH_REGION = "refresh region"
    RESOLVE_LOCK = "resolve lock"
    RESTART_TXN = "restart txn"


class InvariantViolation(BaseException):
    """A broken invariant. Derives from BaseException so that no `except Exception` boundary can carry on after it."""


def invariant(condition: object, message: str) -> None:
    """Raise `InvariantViolation(message)` unless `condition` holds; unlike `assert` it survives `python -O`."""
    if not condition:
        raise InvariantViolation(message)


class DbError(Exception):
    """Base of every expected failure. The message says what happened, to which region or key, and what to do next."""

    code: ClassVar[str] = "Core:Unknown"
    retry: ClassVar[RetryClass] = RetryClass.NEVER
    deterministic: ClassVar[bool] = False
    mysql_code: ClassVar[int] = 1105
    sqlstate: ClassVar[str] = "HY000"

    @property
    def message(self) -> str:
        """The text without the code."""
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(DbError):
    """A configuration file or flag is wrong; the message names the key and, where close, the key that was meant."""

    code = "Core:Config:Invalid"


CANNOT_LISTEN = "cannot listen on"
"""How the message of a ConfigError begins when a port is taken: whoever starts a server may then choose another."""


class StorageError(DbError):
    """The data directory cannot be used: another cluster's, locked, or damaged."""

    code = "KV:Engine:Storage"


class DataCorruption(StorageError):
    """Data on disk is not what was written. The store stops: it must neither serve nor replicate what it cannot trust."""

    code = "KV:Engine:Corruption"


class CodecError(DbError):
    """Bytes that are not what they claim to be. Deterministic: the same bytes fail everywhere."""

    code = "Core:Codec:Corrupt"
    deterministic = True


class RpcError(DbError):
    """The transport failed; whether the other side acted is unknown unless `sent` is False."""

    code = "Core:Rpc:Unavailable"
    retry = RetryClass.REFRESH_REGION
    mysql_code = 9002

    def __init__(self, message: str, *, status: str = "UNAVAILABLE", sent: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.sent = sent


class DeadlineExceeded(RpcError):
    """No answer came within the deadline; the outcome is unknown."""

    code = "Core:Rpc:DeadlineExceeded"

    def __init__(self, message: str) -> None:
        super().__init__(message, status="DEADLINE_EXCEEDED")


class ShuttingDown(DbError):
    """The process is stopping and takes no new work."""

    code = "Core:Runtime:ShuttingDown"
    retry = RetryClass.REFRESH_REGION
    mysql_code = 1053
    sqlstate = "08S01"


class PdError(DbError):
    """PD refused the request; the message carries PD's own text."""

    code = "PD:Server:Refused"
    retry = RetryClass.BACKOFF
    mysql_code = 9001


class NotBootstrapped(PdError):
    """The cluster has no first store yet."""

    code = "PD:Cluster:NotBootstrapped"


class StoreAddressConflict(PdError):
    """Two stores claim one address."""

    code = "PD:Cluster:StoreAddressConflict"
    retry = RetryClass.NEVER


class ClusterIdMismatch(PdError):
    """The caller belongs to another cluster."""

    code = "PD:Cluster:IdMismatch"
    retry = RetryClass.NEVER
