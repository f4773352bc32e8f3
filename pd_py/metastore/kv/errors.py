"""What the key-value state refuses, with etcd's public texts: clients look for them.

A refusal is decided alike on every member, so it travels in a command's result as (code, text). `raise_error` turns it back into
the error. `status` is the gRPC status that etcd gives it.
"""

from __future__ import annotations

from typing import ClassVar

from core_py.errors import PdError, RetryClass


class KvError(PdError):
    """Base of the refusals. Nothing changed."""

    code = "PD:Kv:Refused"
    retry = RetryClass.NEVER
    deterministic = True
    status: ClassVar[str] = "INVALID_ARGUMENT"
    text: ClassVar[str] = "etcdserver: request refused"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.text)


class EmptyKey(KvError):
    """A request without a key."""

    code = "PD:Kv:EmptyKey"
    text = "etcdserver: key is not provided"


class KeyNotFound(KvError):
    """`ignore_value` or `ignore_lease` for a key that is not there."""

    code = "PD:Kv:KeyNotFound"
    text = "etcdserver: key not found"


class ValueProvided(KvError):
    """A value together with `ignore_value`."""

    code = "PD:Kv:ValueProvided"
    text = "etcdserver: value is provided"


class LeaseProvided(KvError):
    """A lease together with `ignore_lease`."""

    code = "PD:Kv:LeaseProvided"
    text = "etcdserver: lease is provided"


class TooManyOps(KvError):
    """A transaction with too many operations, or nested too deeply."""

    code = "PD:Kv:TooManyOps"
    text = "etcdserver: too many operations in txn request"


class DuplicateKey(KvError):
    """A transaction that would change one key twice."""

    code = "PD:Kv:DuplicateKey"
    text = "etcdserver: duplicate key given in txn request"


class InvalidSortOption(KvError):
    """A sort order or target that does not exist."""

    code = "PD:Kv:InvalidSortOption"
    text = "etcdserver: invalid sort option"


class RequestTooLarge(KvError):
    """A request above the limit of bytes."""

    code = "PD:Kv:RequestTooLarge"
    text = "etcdserver: request is too large"


class UnknownCommand(KvError):
    """A command that this version does not know."""

    code = "PD:Kv:UnknownCommand"
    text = "etcdserver: unknown command"


class Compacted(KvError):
    """The revision is older than what is kept."""

    code = "PD:Kv:Compacted"
    status = "OUT_OF_RANGE"
    text = "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(KvError):
    """The revision is not there yet."""

    code = "PD:Kv:FutureRevision"
    status = "OUT_OF_RANGE"
    text = "etcdserver: mvcc: required revision is a future revision"


class NoSpace(KvError):
    """The state has grown to its limit; it takes no more from clients."""

    code = "PD:Kv:NoSpace"
    status = "RESOURCE_EXHAUSTED"
    text = "etcdserver: mvcc: database space exceeded"


class LeaseNotFound(KvError):
    """The lease was never granted, was revoked, or is over."""

    code = "PD:Kv:LeaseNotFound"
    status = "NOT_FOUND"
    text = "etcdserver: requested lease not found"


class LeaseExists(KvError):
    """The lease id is taken."""

    code = "PD:Kv:LeaseExists"
    status = "FAILED_PRECONDITION"
    text = "etcdserver: lease already exists"


class LeaseTtlTooLarge(KvError):
    """The time to live is above the limit."""

    code = "PD:Kv:LeaseTtlTooLarge"
    status = "OUT_OF_RANGE"
    text = "etcdserver: too large lease TTL"


_BY_CODE: dict[str, type[KvError]] = {kind.code: kind for kind in KvError.__subclasses__()}


def raise_error(code: str, text: str) -> None:
    """Raise what a result says; nothing for the empty code. Unknown codes become a KvError."""
    if code:
        raise _BY_CODE.get(code, KvError)(text)
