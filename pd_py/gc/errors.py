"""What the GC state refuses. Texts and names are the public ones: clients look for the name in the text."""

from __future__ import annotations

from typing import ClassVar

from core_py.errors import PdError, RetryClass


class GcError(PdError):
    """Base; nothing changed. The message begins with the public name."""

    code = "PD:gc:Refused"
    retry = RetryClass.NEVER
    public_name: ClassVar[str] = "PD:gc:ErrRefused"

    def __init__(self, text: str) -> None:
        super().__init__(f"[{self.public_name}]{text}")


class InvalidArgument(GcError):
    """A time to live that is not positive, an id that is empty or too long."""

    code = "PD:gc:InvalidArgument"
    public_name = "PD:common:ErrInvalidArgument"

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"invalid argument for {name}: {value}")


class KeyspaceNotFound(GcError):
    """A keyspace that does not exist."""

    code = "PD:gc:KeyspaceNotFound"
    public_name = "PD:keyspace:ErrKeyspaceNotFound"

    def __init__(self) -> None:
        super().__init__("keyspace does not exist")


class GcOnInvalidKeyspace(GcError):
    """The keyspace's garbage is collected with everybody's."""

    code = "PD:gc:GcOnInvalidKeyspace"
    public_name = "PD:gc:ErrGCOnInvalidKeyspace"

    def __init__(self, name: str, keyspace_id: int) -> None:
        super().__init__(
            f"trying to manage GC in keyspace {name} (id: {keyspace_id}) where keyspace level GC is not enabled"
        )


class DecreasingGcSafePoint(GcError):
    """The GC safe point does not go back."""

    code = "PD:gc:DecreasingGcSafePoint"
    public_name = "PD:gc:ErrDecreasingGCSafePoint"

    def __init__(self, current: int, given: int) -> None:
        super().__init__(f"trying to update GC safe point to a smaller value, current value: {current}, given: {given}")


class GcSafePointExceedsTxnSafePoint(GcError):
    """Versions that transactions may still read cannot be collected."""

    code = "PD:gc:GcSafePointExceedsTxnSafePoint"
    public_name = "PD:gc:ErrGCSafePointExceedsTxnSafePoint"

    def __init__(self, current: int, given: int, txn_safe_point: int) -> None:
        super().__init__(
            "trying to update GC safe point to a too large value that exceeds the txn safe point,"
            f" current value: {current}, given: {given}, current txn safe point: {txn_safe_point}"
        )


class DecreasingTxnSafePoint(GcError):
    """The txn safe point does not go back."""

    code = "PD:gc:DecreasingTxnSafePoint"
    public_name = "PD:gc:ErrDecreasingTxnSafePoint"

    def __init__(self, current: int, given: int) -> None:
        super().__init__(
            f"trying to update txn safe point to a smaller value, current value: {current}, given: {given}"
        )


class BarrierBehindTxnSafePoint(GcError):
    """What a barrier should keep may be gone already."""

    code = "PD:gc:BarrierBehindTxnSafePoint"
    public_name = "PD:gc:ErrGCBarrierTSBehindTxnSafePoint"

    def __init__(self, barrier_ts: int, txn_safe_point: int) -> None:
        super().__init__(
            f"trying to set a GC barrier on ts {barrier_ts} which is already behind the txn safe point {txn_safe_point}"
        )


class GlobalBarrierBehindTxnSafePoint(GcError):
    """What a global barrier should keep may be gone already."""

    code = "PD:gc:GlobalBarrierBehindTxnSafePoint"
    public_name = "PD:gc:ErrGlobalGCBarrierTSBehindTxnSafePoint"

    def __init__(self, barrier_ts: int, txn_safe_point: int) -> None:
        super().__init__(
            f"trying to set a global GC barrier on ts {barrier_ts} which is already behind the txn safe point"
            f" {txn_safe_point} of keyspace <null_keyspace>"
        )


class ReservedBarrierId(GcError):
    """The id belongs to the GC worker."""

    code = "PD:gc:ReservedBarrierId"
    public_name = "PD:gc:ErrReservedGCBarrierID"

    def __init__(self, barrier_id: str) -> None:
        super().__init__(f"trying to set a GC barrier with a barrier ID that is reserved: {barrier_id}")


class UnreadableState(GcError):
    """A stored value, perhaps written by a client, is not what it should be. Nothing advances until it is mended."""

    code = "PD:gc:UnreadableState"
    public_name = "PD:gc:ErrUnreadableState"

    def __init__(self, key: str, value: bytes) -> None:
        super().__init__(f"cannot read the GC state: key {key} holds {value[:64]!r}; put a correct value there")


class GcWorkerTtl(GcError):
    """The GC worker's safe point has no end."""

    code = "PD:gc:GcWorkerTtl"

    def __init__(self) -> None:
        PdError.__init__(self, "TTL of gc_worker's service safe point must be infinity")
