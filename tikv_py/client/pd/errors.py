"""What PD says no with: `pdpb.ResponseHeader.error` and the texts of refused calls, as typed errors.

PD has few error types and many texts; the texts matched here are the public ones (the Go client matches the same).
"""

from __future__ import annotations

from typing import Any

from core_py.errors import ClusterIdMismatch, NotBootstrapped, PdError, RetryClass, RpcError, StoreAddressConflict
from protos.kvproto import pdpb_pb2

NOT_LEADER_TEXTS = ("not leader", "no leader", "is not served", "not primary", "mismatch callee id", "not started")
CLUSTER_MISMATCH_TEXT = "mismatch cluster id"


class PdUnavailable(PdError):
    """No member of PD answered as its leader within the budget."""

    code = "PD:Client:Unavailable"


class TsoUnavailable(PdError):
    """No timestamp came within the budget."""

    code = "PD:Client:TsoUnavailable"


class AlreadyBootstrapped(PdError):
    """The cluster has its first store already."""

    code = "PD:Cluster:AlreadyBootstrapped"
    retry = RetryClass.NEVER


class StoreTombstone(PdError):
    """The store was removed from the cluster for good; it needs a new id."""

    code = "PD:Cluster:StoreTombstone"
    retry = RetryClass.NEVER


class StoreNotFound(PdError):
    """PD knows no store of this id."""

    code = "PD:Cluster:StoreNotFound"
    retry = RetryClass.REFRESH_REGION


class PdRegionNotFound(PdError):
    """PD knows no such region, or no operator on it."""

    code = "PD:Region:NotFound"


class IncompatibleVersion(PdError):
    """The store's version does not fit the cluster's."""

    code = "PD:Cluster:IncompatibleVersion"
    retry = RetryClass.NEVER


_BY_TYPE: dict[int, type[PdError]] = {
    pdpb_pb2.NOT_BOOTSTRAPPED: NotBootstrapped,
    pdpb_pb2.STORE_TOMBSTONE: StoreTombstone,
    pdpb_pb2.ALREADY_BOOTSTRAPPED: AlreadyBootstrapped,
    pdpb_pb2.INCOMPATIBLE_VERSION: IncompatibleVersion,
    pdpb_pb2.REGION_NOT_FOUND: PdRegionNotFound,
}


def from_header(header: Any) -> PdError | None:
    """The typed error a response header carries, or None. Any error message counts, whatever its type (wire facts 0.7)."""
    if not header.HasField("error"):
        return None
    error = header.error
    known = _BY_TYPE.get(error.type)
    text = error.message or f"PD error {error.type}"
    if known is not None:
        return known(text)
    lowered = text.lower()
    if "duplicated store address" in lowered or "store address conflict" in lowered:
        return StoreAddressConflict(text)
    if "store" in lowered and "not found" in lowered:
        return StoreNotFound(text)
    if CLUSTER_MISMATCH_TEXT in lowered:
        return ClusterIdMismatch(text)
    return PdError(text)


def means_not_leader(text: str) -> bool:
    """Whether the text says that another member leads."""
    lowered = text.lower()
    return any(part in lowered for part in NOT_LEADER_TEXTS)


def is_worth_another_member(error: RpcError) -> bool:
    """Whether another member, or the same one later, may answer where this one failed."""
    return error.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED") or means_not_leader(str(error))
