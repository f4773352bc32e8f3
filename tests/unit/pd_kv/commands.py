"""Short ways to write commands."""

from __future__ import annotations

from protos.etcd import rpc_pb2
from protos.private import metastore_pb2

Compare = rpc_pb2.Compare


def put(key: bytes, value: bytes = b"v", **fields: object) -> metastore_pb2.Command:
    return metastore_pb2.Command(put=rpc_pb2.PutRequest(key=key, value=value, **fields))  # type: ignore[arg-type]


def delete(key: bytes, range_end: bytes = b"", *, prev_kv: bool = False) -> metastore_pb2.Command:
    return metastore_pb2.Command(delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv))


def put_op(key: bytes, value: bytes = b"v", **fields: object) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, **fields))  # type: ignore[arg-type]


def range_op(key: bytes, range_end: bytes = b"", **fields: object) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, range_end=range_end, **fields))  # type: ignore[arg-type]


def delete_op(key: bytes, range_end: bytes = b"") -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end))


def txn_op(request: rpc_pb2.TxnRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=request)


def txn_request(
    compare: list[rpc_pb2.Compare],
    success: list[rpc_pb2.RequestOp],
    failure: list[rpc_pb2.RequestOp] | None = None,
) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure or [])


def txn(
    compare: list[rpc_pb2.Compare],
    success: list[rpc_pb2.RequestOp],
    failure: list[rpc_pb2.RequestOp] | None = None,
) -> metastore_pb2.Command:
    return metastore_pb2.Command(txn=txn_request(compare, success, failure))


def grant(lease_id: int, ttl_s: int = 10) -> metastore_pb2.Command:
    return metastore_pb2.Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl_s))


def revoke(lease_id: int) -> metastore_pb2.Command:
    return metastore_pb2.Command(lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=lease_id))


def compact(revision: int) -> metastore_pb2.Command:
    return metastore_pb2.Command(compact=rpc_pb2.CompactionRequest(revision=revision))
