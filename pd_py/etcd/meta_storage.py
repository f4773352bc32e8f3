"""meta_storagepb.MetaStorage: a thin view of the same keys, with refusals in the response's header as PD's own services have them.

Differs from the public server in one point: `Delete` honours `range_end`, which that one ignores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing

from core_py.errors import DbError
from core_py.ports import CallContext, Service, StatusError
from pd_py.etcd.kv import KvService
from pd_py.etcd.member import UNAVAILABLE, EtcdMember
from pd_py.etcd.watch import WatchService
from protos.etcd import kv_pb2, rpc_pb2
from protos.kvproto import meta_storagepb_pb2 as pb


class MetaStorageService:
    """Handlers of one member. `cluster_id` is that of the cluster of stores, not of PD's group."""

    def __init__(self, member: EtcdMember, watches: WatchService, cluster_id: Callable[[], int]) -> None:
        self._member = member
        self._kv = KvService(member)
        self._watches = watches
        self._cluster_id = cluster_id

    async def get(self, request: pb.GetRequest, context: CallContext) -> pb.GetResponse:
        """Read a span of keys."""
        wanted = rpc_pb2.RangeRequest(
            key=request.key, range_end=request.range_end, limit=request.limit, revision=request.revision
        )
        try:
            found = await self._kv.range(wanted, context)
        except DbError as error:
            return pb.GetResponse(header=self._refusal(error))
        return pb.GetResponse(
            header=self._header(found.header.revision), kvs=_all(found.kvs), more=found.more, count=found.count
        )

    async def put(self, request: pb.PutRequest, context: CallContext) -> pb.PutResponse:
        """Set a key."""
        wanted = rpc_pb2.PutRequest(key=request.key, value=request.value, lease=request.lease, prev_kv=request.prev_kv)
        try:
            done = await self._kv.put(wanted, context)
        except DbError as error:
            return pb.PutResponse(header=self._refusal(error))
        response = pb.PutResponse(header=self._header(done.header.revision))
        if done.HasField("prev_kv"):
            response.prev_kv.CopyFrom(_one(done.prev_kv))
        return response

    async def delete(self, request: pb.DeleteRequest, context: CallContext) -> pb.DeleteResponse:
        """Remove a span of keys."""
        wanted = rpc_pb2.DeleteRangeRequest(key=request.key, range_end=request.range_end, prev_kv=request.prev_kv)
        try:
            done = await self._kv.delete_range(wanted, context)
        except DbError as error:
            return pb.DeleteResponse(header=self._refusal(error))
        return pb.DeleteResponse(
            header=self._header(done.header.revision), deleted=done.deleted, prev_kvs=_all(done.prev_kvs)
        )

    async def watch(self, request: pb.WatchRequest, context: CallContext) -> AsyncIterator[pb.WatchResponse]:
        """Follow a span of keys. A start that is not kept any more is said in the header, and ends the stream."""
        wanted = rpc_pb2.WatchCreateRequest(
            key=request.key,
            range_end=request.range_end,
            start_revision=request.start_revision,
            prev_kv=request.prev_kv,
        )
        async with aclosing(self._watches.follow(wanted, context)) as responses:
            async for response in responses:
                if response.canceled:
                    yield self._watch_refusal(request, response)
                    raise StatusError("OUT_OF_RANGE", response.cancel_reason)
                if response.events:
                    events = [_event(event) for event in response.events]
                    yield pb.WatchResponse(header=self._header(response.header.revision), events=events)

    def _watch_refusal(self, request: pb.WatchRequest, response: rpc_pb2.WatchResponse) -> pb.WatchResponse:
        answer = pb.WatchResponse(
            header=self._header(response.header.revision), compact_revision=response.compact_revision
        )
        if response.compact_revision:
            answer.header.error.type = pb.DATA_COMPACTED
            answer.header.error.message = (
                f"required watch revision: {request.start_revision} is smaller than current compact/min revision"
                f" {response.compact_revision}."
            )
        else:
            answer.header.error.type = pb.UNKNOWN
            answer.header.error.message = f"watch channel meet other error {response.cancel_reason}."
        return answer

    def _header(self, revision: int) -> pb.ResponseHeader:
        return pb.ResponseHeader(cluster_id=self._cluster_id(), revision=revision)

    def _refusal(self, error: DbError) -> pb.ResponseHeader:
        """Into the header; but a member that cannot answer says so by a status, so that the client asks another one."""
        if not isinstance(error, StatusError) or error.status == UNAVAILABLE:
            raise error
        header = self._header(self._member.kv.revision)
        header.error.type, header.error.message = pb.UNKNOWN, error.message
        return header


def _one(kv: kv_pb2.KeyValue) -> pb.KeyValue:
    return pb.KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def _all(kvs: Iterable[kv_pb2.KeyValue]) -> list[pb.KeyValue]:
    return [_one(kv) for kv in kvs]


def _event(event: kv_pb2.Event) -> pb.Event:
    kind = pb.Event.DELETE if event.type == kv_pb2.Event.DELETE else pb.Event.PUT
    return pb.Event(type=kind, kv=_one(event.kv), prev_kv=_one(event.prev_kv) if event.HasField("prev_kv") else None)


def service(member: EtcdMember, watches: WatchService, cluster_id: Callable[[], int]) -> Service:
    """The service for a transport."""
    storage = MetaStorageService(member, watches, cluster_id)
    return Service(
        pb.DESCRIPTOR.services_by_name["MetaStorage"],
        {"Get": storage.get, "Put": storage.put, "Delete": storage.delete, "Watch": storage.watch},
    )
