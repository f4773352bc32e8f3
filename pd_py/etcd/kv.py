"""etcdserverpb.KV: reads and changes of keys.

Reads are linearizable on every member (`barrier` first) unless the request says serializable. Changes go through the log, wherever
the leader is.
"""

from __future__ import annotations

from core_py.errors import DbError
from core_py.ports import CallContext, Service
from pd_py.etcd import limits
from pd_py.etcd.member import EtcdMember, to_status
from pd_py.metastore.kv import checks
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2


class KvService:
    """Handlers of one member."""

    def __init__(self, member: EtcdMember) -> None:
        self._member = member

    async def range(self, request: rpc_pb2.RangeRequest, context: CallContext) -> rpc_pb2.RangeResponse:
        """Read a span of keys."""
        member = self._member
        member.requires_leader(context)
        try:
            checks.check_range(request)
            if not request.serializable:
                await member.barrier()
            response = member.kv.range(request)
        except DbError as error:
            raise to_status(error) from error
        member.fill(response.header)
        return response

    async def put(self, request: rpc_pb2.PutRequest, context: CallContext) -> rpc_pb2.PutResponse:
        """Set a key."""
        member = self._member
        member.requires_leader(context)
        try:
            limits.client_put(member.kv, request)
        except DbError as error:
            raise to_status(error) from error
        response = (await member.execute(metastore_pb2.Command(put=request))).put
        member.fill(response.header)
        return response

    async def delete_range(
        self, request: rpc_pb2.DeleteRangeRequest, context: CallContext
    ) -> rpc_pb2.DeleteRangeResponse:
        """Remove a span of keys."""
        member = self._member
        member.requires_leader(context)
        try:
            limits.client_delete(request)
        except DbError as error:
            raise to_status(error) from error
        response = (await member.execute(metastore_pb2.Command(delete_range=request))).delete_range
        member.fill(response.header)
        return response

    async def txn(self, request: rpc_pb2.TxnRequest, context: CallContext) -> rpc_pb2.TxnResponse:
        """Compare, then do one of two lists of operations. Without writes nothing is logged."""
        member = self._member
        member.requires_leader(context)
        try:
            limits.client_txn(member.kv, request)
            if checks.writes(request):
                response = (await member.execute(metastore_pb2.Command(txn=request))).txn
            else:
                if not _serializable(request):
                    await member.barrier()
                response = member.kv.read(request)
        except DbError as error:
            raise to_status(error) from error
        member.fill(response.header)
        return response

    async def compact(self, request: rpc_pb2.CompactionRequest, context: CallContext) -> rpc_pb2.CompactionResponse:
        """Forget history."""
        member = self._member
        member.requires_leader(context)
        response = (await member.execute(metastore_pb2.Command(compact=request))).compact
        member.fill(response.header)
        return response


def _serializable(request: rpc_pb2.TxnRequest) -> bool:
    return all(
        op.WhichOneof("request") == "request_range" and op.request_range.serializable
        for branch in (request.success, request.failure)
        for op in branch
    )


def service(member: EtcdMember) -> Service:
    """The service for a transport."""
    kv = KvService(member)
    return Service(
        rpc_pb2.DESCRIPTOR.services_by_name["KV"],
        {
            "Range": kv.range,
            "Put": kv.put,
            "DeleteRange": kv.delete_range,
            "Txn": kv.txn,
            "Compact": kv.compact,
        },
    )
