"""pdpb.PD/{Store,Load,Watch}GlobalConfig: names and values below `/global/config/`, in the store that etcd's clients see too.

Not a service of its own: the three are methods of pdpb.PD, so `handlers` gives them to whoever serves that. Any member answers.

Names come back as the public server gives them: as asked for when they were asked for, as whole keys from a listing or a watch. A
value is read from `payload`; old writers set `value`, which wins when it is not empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from core_py.ports import CallContext, Handler, StatusError
from pd_py.etcd.kv import KvService
from pd_py.etcd.limits import MAX_REQUEST_BYTES, MAX_TXN_OPS
from pd_py.etcd.member import EtcdMember
from pd_py.etcd.watch import WatchService
from pd_py.metastore.kv.record import prefix_span
from protos.etcd import kv_pb2, rpc_pb2
from protos.kvproto import pdpb_pb2

ROOT = "/global/config/"
CONTROLLER = "resource_group/controller"
"""The one path outside that may be listed: an old habit of storage engines."""
MAX_PATH = 1024


class GlobalConfigService:
    """Handlers of one member. `cluster_id` is that of the cluster of stores."""

    def __init__(self, member: EtcdMember, watches: WatchService, cluster_id: Callable[[], int]) -> None:
        self._kv = KvService(member)
        self._watches = watches
        self._cluster_id = cluster_id

    async def store(
        self, request: pdpb_pb2.StoreGlobalConfigRequest, context: CallContext
    ) -> pdpb_pb2.StoreGlobalConfigResponse:
        """Set and remove names, all or none. Raises StatusError."""
        path = config_path(request.config_path)
        txn = rpc_pb2.TxnRequest()
        for item in request.changes:
            key = config_key(path, item.name)
            if item.kind == pdpb_pb2.DELETE:
                txn.success.add().request_delete_range.key = key
            else:
                put = txn.success.add().request_put
                put.key, put.value = key, item.value.encode() or item.payload
        if len(txn.success) > MAX_TXN_OPS or txn.ByteSize() > MAX_REQUEST_BYTES:
            raise StatusError("INVALID_ARGUMENT", "too many changes of the global config in one request")
        await self._kv.txn(txn, context)
        return pdpb_pb2.StoreGlobalConfigResponse()

    async def load(
        self, request: pdpb_pb2.LoadGlobalConfigRequest, context: CallContext
    ) -> pdpb_pb2.LoadGlobalConfigResponse:
        """The named values, or all of a path with the revision to watch from. Raises StatusError."""
        if request.names:
            return await self._load_names(config_path(request.config_path), list(request.names), context)
        path = CONTROLLER if request.config_path == CONTROLLER else config_path(request.config_path)
        found = await self._kv.range(_below(path), context)
        response = pdpb_pb2.LoadGlobalConfigResponse(revision=found.header.revision)
        for kv in found.kvs:
            response.items.add(kind=pdpb_pb2.PUT, name=_name(kv.key), payload=kv.value)
        return response

    async def _load_names(self, path: str, names: list[str], context: CallContext) -> pdpb_pb2.LoadGlobalConfigResponse:
        if len(names) > MAX_TXN_OPS:
            raise StatusError("INVALID_ARGUMENT", "too many names of the global config in one request")
        txn = rpc_pb2.TxnRequest()
        for name in names:
            txn.success.add().request_range.key = config_key(path, name)
        found = await self._kv.txn(txn, context)
        response = pdpb_pb2.LoadGlobalConfigResponse()
        for name, answer in zip(names, found.responses, strict=True):
            item = response.items.add(name=name)
            if answer.response_range.kvs:
                item.kind, item.payload = pdpb_pb2.PUT, answer.response_range.kvs[0].value
            else:
                item.error.type = pdpb_pb2.GLOBAL_CONFIG_NOT_FOUND
                item.error.message = f"key {name} not found"
        return response

    async def watch(
        self, request: pdpb_pb2.WatchGlobalConfigRequest, context: CallContext
    ) -> AsyncIterator[pdpb_pb2.WatchGlobalConfigResponse]:
        """Follow a path from a revision on; a removed name comes with the value it had. Raises StatusError."""
        span = prefix_span(config_path(request.config_path).encode())
        wanted = rpc_pb2.WatchCreateRequest(
            key=span.start, range_end=span.end or b"\0", start_revision=request.revision, prev_kv=True
        )
        async with aclosing(self._watches.follow(wanted, context)) as responses:
            async for response in responses:
                if response.canceled:
                    yield self._refusal(request, response)
                    raise StatusError("OUT_OF_RANGE", response.cancel_reason)
                changes = [change for event in response.events if (change := _change(event)) is not None]
                if changes:
                    yield pdpb_pb2.WatchGlobalConfigResponse(changes=changes, revision=response.header.revision)

    def _refusal(
        self, request: pdpb_pb2.WatchGlobalConfigRequest, response: rpc_pb2.WatchResponse
    ) -> pdpb_pb2.WatchGlobalConfigResponse:
        answer = pdpb_pb2.WatchGlobalConfigResponse()
        answer.header.cluster_id = self._cluster_id()
        if response.compact_revision:
            answer.header.error.type = pdpb_pb2.DATA_COMPACTED
            answer.header.error.message = (
                f"required watch revision: {request.revision} is smaller than current compact/min revision"
                f" {response.compact_revision}."
            )
        else:
            answer.header.error.type = pdpb_pb2.UNKNOWN
            answer.header.error.message = f"watch channel meet other error {response.cancel_reason}."
        return answer

    def handlers(self) -> dict[str, Handler]:
        """By the names of pdpb.PD's methods."""
        return {"StoreGlobalConfig": self.store, "LoadGlobalConfig": self.load, "WatchGlobalConfig": self.watch}


def config_path(path: str) -> str:
    """The path that a request means. Raises StatusError for one outside of the global config."""
    if path in ("", ROOT.rstrip("/")):
        return ROOT
    if not path.startswith(ROOT) or len(path) > MAX_PATH:
        raise StatusError("INVALID_ARGUMENT", f'global config path "{path[:MAX_PATH]}" is not allowed')
    return path


def config_key(path: str, name: str) -> bytes:
    """Where a name of a path is kept."""
    if not name:
        return path.removesuffix("/").encode()
    return (path if path.endswith("/") else path + "/").encode() + name.encode()


def _below(path: str) -> rpc_pb2.RangeRequest:
    span = prefix_span(path.encode())
    return rpc_pb2.RangeRequest(key=span.start, range_end=span.end or b"\0")


def _name(key: bytes) -> str:
    """Keys that are not text were not written by a PD client; they must not break the others."""
    return key.decode("utf-8", "replace")


def _change(event: kv_pb2.Event) -> pdpb_pb2.GlobalConfigItem | None:
    if event.type == kv_pb2.Event.PUT:
        return pdpb_pb2.GlobalConfigItem(kind=pdpb_pb2.PUT, name=_name(event.kv.key), payload=event.kv.value)
    if not event.HasField("prev_kv"):
        return None  # what it was is forgotten
    return pdpb_pb2.GlobalConfigItem(kind=pdpb_pb2.DELETE, name=_name(event.kv.key), payload=event.prev_kv.value)
