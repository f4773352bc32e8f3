"""debugpb.Debug: what an operator asks a running store with `tikv-py ctl --host`.

It looks past raft at what the databases hold, with the engine's own keys (data keys begin with `z`). What may take long reads a
frozen view in slices on the worker threads, so that the loop goes on; only `SCANS_MAX` such calls run at once. Failures are
gRPC statuses: NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION (not the leader), RESOURCE_EXHAUSTED, PERMISSION_DENIED.

Failpoints can stop the store, and the port has no authentication: they are armed here only if `[debug]` says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest

from core_py.errors import CodecError, DbError
from core_py.failpoints import InvalidFailPointAction, UnknownFailPoint
from core_py.ports import CallContext, Handler, Service, StatusError
from core_py.region_errors import NotLeader, RegionNotFound
from protos.kvproto import debugpb_pb2 as debugpb
from tikv_py.debug.inspect import BadQuestion, Inspector, NotThere, sizes, write_statistics
from tikv_py.debug.mvcc_scan import mvcc_view, scan_mvcc
from tikv_py.engine.port import CF_WRITE, DATA_CFS, Engine
from tikv_py.raftstore import consistency
from tikv_py.raftstore.store import Store
from tikv_py.server.config import DebugConfig

T = TypeVar("T")

FlashbackHandler = Callable[[debugpb.FlashbackToVersionRequest], Awaitable[debugpb.FlashbackToVersionResponse]]
ReadProgressHandler = Callable[[debugpb.GetRegionReadProgressRequest], Awaitable[debugpb.GetRegionReadProgressResponse]]

SCANS_MAX = 4
SLICE_PAIRS = 2048
SLICE_KEYS = 256

_STATUS: tuple[tuple[type[DbError], str], ...] = (
    (NotThere, "NOT_FOUND"),
    (RegionNotFound, "NOT_FOUND"),
    (BadQuestion, "INVALID_ARGUMENT"),
    (UnknownFailPoint, "INVALID_ARGUMENT"),
    (InvalidFailPointAction, "INVALID_ARGUMENT"),
    (NotLeader, "FAILED_PRECONDITION"),
    (CodecError, "DATA_LOSS"),
)


class DebugService:
    """The handlers, over one store."""

    def __init__(
        self,
        store: Store,
        cluster_id: int,
        registry: CollectorRegistry,
        config: DebugConfig,
        read_progress: ReadProgressHandler,
        flashback: FlashbackHandler,
    ) -> None:
        self._store = store
        self._config = config
        self._cluster_id = cluster_id
        self._registry = registry
        self._read_progress = read_progress
        self._flashback = flashback
        self._inspector = Inspector(store.raft_db, store.kv_db)
        self._scans = 0

    def service(self) -> Service:
        """To be registered; the RPCs that are not listed answer UNIMPLEMENTED."""
        unary: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "Get": self._get,
            "RaftLog": self._raft_log,
            "RegionInfo": self._region_info,
            "RegionSize": self._region_size,
            "Compact": self._compact,
            "InjectFailPoint": self._inject,
            "RecoverFailPoint": self._recover,
            "ListFailPoints": self._list_failpoints,
            "GetMetrics": self._metrics,
            "CheckRegionConsistency": self._check_consistency,
            "ModifyTikvConfig": self._modify_config,
            "GetRegionProperties": self._properties,
            "GetStoreInfo": self._store_info,
            "GetClusterInfo": self._cluster_info,
            "GetAllRegionsInStore": self._all_regions,
            "GetRegionReadProgress": self._read_progress,
            "FlashbackToVersion": self._flashback,
        }
        handlers: dict[str, Handler] = {name: _with_statuses(handler) for name, handler in unary.items()}
        handlers["ScanMvcc"] = self._scan_mvcc
        return Service(debugpb.DESCRIPTOR.services_by_name["Debug"], handlers)

    async def _get(self, request: debugpb.GetRequest) -> debugpb.GetResponse:
        return debugpb.GetResponse(value=self._inspector.get(request.db, request.cf or "default", request.key))

    async def _raft_log(self, request: debugpb.RaftLogRequest) -> debugpb.RaftLogResponse:
        return debugpb.RaftLogResponse(entry=self._inspector.raft_log(request.region_id, request.log_index))

    async def _region_info(self, request: debugpb.RegionInfoRequest) -> debugpb.RegionInfoResponse:
        return self._inspector.region_info(request.region_id)

    async def _region_size(self, request: debugpb.RegionSizeRequest) -> debugpb.RegionSizeResponse:
        cfs = list(request.cfs) or list(DATA_CFS)
        with self._scanning():
            view = self._inspector.view(request.region_id, cfs)
            try:
                return debugpb.RegionSizeResponse(entries=await self._results(sizes(view, cfs, SLICE_PAIRS)))
            finally:
                view.release()

    async def _properties(self, request: debugpb.GetRegionPropertiesRequest) -> debugpb.GetRegionPropertiesResponse:
        with self._scanning():
            view = self._inspector.view(request.region_id, [CF_WRITE])
            try:
                (statistics,) = await self._results(write_statistics(view, SLICE_PAIRS))
            finally:
                view.release()
        return debugpb.GetRegionPropertiesResponse(props=statistics.properties())

    async def _scan_mvcc(
        self, request: debugpb.ScanMvccRequest, _context: CallContext
    ) -> AsyncIterator[debugpb.ScanMvccResponse]:
        try:
            with self._scanning():
                view = mvcc_view(self._store.kv_db, request.from_key, request.to_key, request.limit)
                try:
                    found = scan_mvcc(view, request.limit)
                    while part := await self._store.workers.run(_slice, found):
                        for key, info in part:
                            yield debugpb.ScanMvccResponse(key=key, info=info)
                finally:
                    view.release()
        except DbError as error:
            raise _status(error) from error

    async def _compact(self, request: debugpb.CompactRequest) -> debugpb.CompactResponse:
        cf = request.cf or "default"
        engine: Engine = self._inspector.engine(request.db, cf)
        with self._scanning():
            await self._store.workers.run(engine.compact, cf, request.from_key, request.to_key)
        return debugpb.CompactResponse()

    async def _inject(self, request: debugpb.InjectFailPointRequest) -> debugpb.InjectFailPointResponse:
        if not self._config.failpoints:
            raise StatusError(
                "PERMISSION_DENIED",
                "failpoints are off on this store; start it with `failpoints = true` under [debug] in its configuration,"
                " or with FAILPOINTS in its environment",
            )
        self._store.fail.configure(request.name, request.actions)
        return debugpb.InjectFailPointResponse()

    async def _recover(self, request: debugpb.RecoverFailPointRequest) -> debugpb.RecoverFailPointResponse:
        self._store.fail.remove(request.name)
        return debugpb.RecoverFailPointResponse()

    async def _list_failpoints(self, _request: debugpb.ListFailPointsRequest) -> debugpb.ListFailPointsResponse:
        response = debugpb.ListFailPointsResponse()
        for name, actions in self._store.fail.list():
            response.entries.add(name=name, actions=actions)
        return response

    async def _metrics(self, request: debugpb.GetMetricsRequest) -> debugpb.GetMetricsResponse:
        text = await self._store.workers.run(generate_latest, self._registry)
        response = debugpb.GetMetricsResponse(prometheus=text.decode(), store_id=self._store.store_id)
        if request.all:
            response.rocksdb_kv = f"approximate size: {self._store.kv_db.approximate_size()}"
            response.rocksdb_raft = f"approximate size: {self._store.raft_db.approximate_size()}"
        return response

    async def _check_consistency(
        self, request: debugpb.RegionConsistencyCheckRequest
    ) -> debugpb.RegionConsistencyCheckResponse:
        await consistency.start_check(self._store, request.region_id)
        return debugpb.RegionConsistencyCheckResponse()

    async def _modify_config(self, _request: debugpb.ModifyTikvConfigRequest) -> debugpb.ModifyTikvConfigResponse:
        raise StatusError(
            "UNIMPLEMENTED", "settings are read at start: change the configuration file and restart the store"
        )

    async def _store_info(self, _request: debugpb.GetStoreInfoRequest) -> debugpb.GetStoreInfoResponse:
        return debugpb.GetStoreInfoResponse(store_id=self._store.store_id)

    async def _cluster_info(self, _request: debugpb.GetClusterInfoRequest) -> debugpb.GetClusterInfoResponse:
        return debugpb.GetClusterInfoResponse(cluster_id=self._cluster_id)

    async def _all_regions(self, _request: debugpb.GetAllRegionsInStoreRequest) -> debugpb.GetAllRegionsInStoreResponse:
        return debugpb.GetAllRegionsInStoreResponse(regions=self._inspector.region_ids())

    @contextmanager
    def _scanning(self) -> Iterator[None]:
        if self._scans >= SCANS_MAX:
            raise StatusError("RESOURCE_EXHAUSTED", f"{SCANS_MAX} long debug requests are running")
        self._scans += 1
        try:
            yield
        finally:
            self._scans -= 1

    async def _results(self, work: Iterator[T | None]) -> list[T]:
        """Drive work whose slices end with None; what it yields besides."""
        out: list[T] = []
        while (item := await self._store.workers.run(_next, work)) is not _END:
            if item is not None:
                out.append(item)
        return out


_END = object()


def _next(work: Iterator[Any]) -> Any:
    return next(work, _END)


def _slice(found: Iterator[T]) -> list[T]:
    return list(islice(found, SLICE_KEYS))


def _status(error: DbError) -> StatusError:
    if isinstance(error, StatusError):
        return error
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return StatusError(status, error.message)
    return StatusError("UNKNOWN", f"{error.code}: {error.message}")


def _with_statuses(handler: Callable[[Any], Awaitable[Any]]) -> Handler:
    async def call(request: Any, _context: CallContext) -> Any:
        try:
            return await handler(request)
        except DbError as error:
            raise _status(error) from error

    return call
