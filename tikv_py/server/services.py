"""All gRPC services of a storage node: which handler serves which command, on unary calls and on BatchCommands alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from core_py.codec import memcomparable
from core_py.ports import CallContext, Clock, Handler, Service, StatusError
from core_py.region_errors import RegionError
from protos.grpc_health import health_pb2
from protos.kvproto import kvrpcpb_pb2, raft_serverpb_pb2, tikvpb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.server.api_version import without_transactions
from tikv_py.server.batch_commands import BatchCommandsService
from tikv_py.server.config import TikvConfig
from tikv_py.server.debug import DebugService
from tikv_py.server.destroy_range import RangeService
from tikv_py.server.dispatch import Command, Dispatcher
from tikv_py.server.flashback import FlashbackService
from tikv_py.server.health import HealthFeedback
from tikv_py.server.kv_lock import KvLockService
from tikv_py.server.kv_read import KvReadService
from tikv_py.server.kv_write import KvWriteService
from tikv_py.server.max_ts_worker import MaxTsWorker
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.raw import RawService
from tikv_py.server.raw_scan import RawScanService
from tikv_py.server.raw_values import RawValues
from tikv_py.server.read_pool import ReadPool
from tikv_py.server.safe_ts import SafeTsService
from tikv_py.server.split_worker import split_region
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.flow_control import FlowController
from tikv_py.txn.scheduler import Scheduler
from tikv_py.txn.waiting.lock_waiting import LockWaiting

MAX_SPLIT_KEYS = 2048


class NodeServices:
    """Everything a node answers. `coprocessor` serves push-down requests."""

    def __init__(
        self,
        access: RegionAccess,
        pd: PdClient,
        max_ts: MaxTsWorker,
        metrics: StoreMetrics,
        clock: Clock,
        registry: CollectorRegistry,
        config: TikvConfig,
    ) -> None:
        store = self._store = access.store
        self._fail = store.fail
        self._pd = pd
        self._metrics = metrics
        self.access = access
        self._max_ts = max_ts
        self.waiting = LockWaiting(clock, store.fail, config.pessimistic_txn.wait_settings())
        metrics.lock_waiting.queues.labels("waiters").set_function(lambda: len(self.waiting))
        metrics.lock_waiting.queues.labels("keys").set_function(self.waiting.keys)
        self.waiting.on_wait_ended = metrics.lock_waiting.lifetime.observe
        storage, unified = config.storage, config.readpool.unified
        self.flow = FlowController(clock, storage.flow_control, metrics.flow.throttle_time.observe)
        self.scheduler = Scheduler(
            access,
            clock,
            storage.scheduler_pending_write_threshold,
            self.waiting,
            latch_slots=storage.scheduler_concurrency,
            flow=self.flow,
        )
        self._locks = KvLockService(access, self.scheduler)
        self.raw_values = RawValues(clock, ttl=storage.enable_ttl, max_key_bytes=storage.max_key_size)
        threads = unified.max_thread_count or config.coprocessor.threads
        self.pool = ReadPool(
            clock, metrics.read_pool, threads=threads, max_waiting=unified.max_tasks_per_worker * threads
        )
        self._clock = clock
        self._feedback = HealthFeedback(store, clock)
        self._safe_ts = SafeTsService(store)
        self._flashback = FlashbackService(access)
        self._debug = DebugService(
            store,
            pd.cluster_id,
            registry,
            config.debug,
            self._safe_ts.region_read_progress,
            self._flashback.debug,
        )
        self._dispatcher: Dispatcher | None = None
        self.serving = True

    def services(self, extra: Mapping[str, Command]) -> list[Service]:
        """The services to register; `extra` are commands of other packages (the coprocessor's)."""
        txn = {**self._txn_commands(), **extra}
        commands = {**(without_transactions(txn) if self.raw_values.ttl else txn), **self._raw_commands()}
        self._dispatcher = Dispatcher(commands, self._metrics, self._clock, self.pool)
        batch = BatchCommandsService(self._dispatcher, frozenset(commands), self._fail, self._feedback)
        handlers: dict[str, Handler] = {name: self._unary(name) for name in commands}
        handlers["BatchCommands"] = batch.serve
        handlers["CheckLeader"] = _called(self._safe_ts.check_leader)
        handlers["GetStoreSafeTS"] = _called(self._safe_ts.store_safe_ts)
        handlers["BatchRaft"] = self._batch_raft
        handlers["Raft"] = self._raft
        handlers["Snapshot"] = self._snapshot
        health: dict[str, Handler] = {"Check": self._health}
        return [
            Service(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"], handlers),
            Service(health_pb2.DESCRIPTOR.services_by_name["Health"], health),
            self._debug.service(),
        ]

    def _unary(self, name: str) -> Handler:
        dispatcher = self._dispatcher
        assert dispatcher is not None

        async def call(request: Any, _context: CallContext) -> Any:
            return await dispatcher.unary(name, request)

        return call

    def _txn_commands(self) -> dict[str, Command]:
        reads, writes = KvReadService(self.access, self.pool), KvWriteService(self.access, self.scheduler, self._max_ts)
        ranges, locks = RangeService(self.access, self.scheduler), self._locks
        pb = kvrpcpb_pb2
        commands = [
            Command("KvGet", pb.GetResponse, reads.get, now=reads.get_now),
            Command("KvBatchGet", pb.BatchGetResponse, reads.batch_get, now=reads.batch_get_now),
            Command("KvScan", pb.ScanResponse, reads.scan),
            Command("KvScanLock", pb.ScanLockResponse, reads.scan_lock),
            Command("KvPrewrite", pb.PrewriteResponse, writes.prewrite, begin=writes.begin_prewrite),
            Command("KvCommit", pb.CommitResponse, writes.commit, begin=writes.begin_commit),
            Command("KvBatchRollback", pb.BatchRollbackResponse, writes.batch_rollback),
            Command("KvCleanup", pb.CleanupResponse, writes.cleanup),
            Command("KvPessimisticLock", pb.PessimisticLockResponse, locks.pessimistic_lock),
            Command("KVPessimisticRollback", pb.PessimisticRollbackResponse, locks.pessimistic_rollback),
            Command("KvTxnHeartBeat", pb.TxnHeartBeatResponse, locks.heart_beat),
            Command("GetLockWaitInfo", pb.GetLockWaitInfoResponse, locks.lock_wait_info),
            Command("GetLockWaitHistory", pb.GetLockWaitHistoryResponse, locks.lock_wait_history),
            Command("KvCheckTxnStatus", pb.CheckTxnStatusResponse, writes.check_txn_status),
            Command("KvCheckSecondaryLocks", pb.CheckSecondaryLocksResponse, writes.check_secondary_locks),
            Command("KvResolveLock", pb.ResolveLockResponse, writes.resolve_lock),
            Command("KvDeleteRange", pb.DeleteRangeResponse, ranges.delete_range),
            Command("KvPrepareFlashbackToVersion", pb.PrepareFlashbackToVersionResponse, self._flashback.prepare),
            Command("KvFlashbackToVersion", pb.FlashbackToVersionResponse, self._flashback.finish),
            Command("UnsafeDestroyRange", pb.UnsafeDestroyRangeResponse, ranges.unsafe_destroy_range),
            Command("ReadIndex", pb.ReadIndexResponse, reads.read_index),
            Command("SplitRegion", pb.SplitRegionResponse, self._split_region),
            Command("GetHealthFeedback", pb.GetHealthFeedbackResponse, self._health_feedback),
        ]
        return {command.name: command for command in commands}

    def _raw_commands(self) -> dict[str, Command]:
        raw = RawService(self.access, self.scheduler.latches, self.raw_values, self.flow, self.pool)
        scans = RawScanService(self.access, self.raw_values, self.pool, self._store.workers, self._clock)
        pb = kvrpcpb_pb2
        commands = [
            Command("RawGet", pb.RawGetResponse, raw.get, now=raw.get_now),
            Command("RawGetKeyTTL", pb.RawGetKeyTTLResponse, raw.get_key_ttl, now=raw.get_key_ttl_now),
            Command("RawBatchGet", pb.RawBatchGetResponse, raw.batch_get, now=raw.batch_get_now),
            Command("RawPut", pb.RawPutResponse, raw.put, begin=raw.begin_put),
            Command("RawDelete", pb.RawDeleteResponse, raw.delete, begin=raw.begin_delete),
            Command("RawBatchPut", pb.RawBatchPutResponse, raw.batch_put),
            Command("RawBatchDelete", pb.RawBatchDeleteResponse, raw.batch_delete),
            Command("RawDeleteRange", pb.RawDeleteRangeResponse, raw.delete_range),
            Command("RawScan", pb.RawScanResponse, scans.scan),
            Command("RawBatchScan", pb.RawBatchScanResponse, scans.batch_scan),
            Command("RawChecksum", pb.RawChecksumResponse, scans.checksum),
            Command("RawCoprocessor", pb.RawCoprocessorResponse, scans.coprocessor),
            Command("RawCompareAndSwap", pb.RawCASResponse, raw.compare_and_swap),
        ]
        return {command.name: command for command in commands}

    async def _split_region(self, request: kvrpcpb_pb2.SplitRegionRequest) -> kvrpcpb_pb2.SplitRegionResponse:
        """Tikv/SplitRegion: user keys, encoded here unless they are raw."""
        peer = self.access.leader(request.context)
        wanted = list(request.split_keys) or [request.split_key]
        if len(wanted) > MAX_SPLIT_KEYS:
            raise RegionError(f"{len(wanted)} split keys at once, {MAX_SPLIT_KEYS} are allowed")
        encoded = sorted({key if request.is_raw_kv else memcomparable.encode(key) for key in wanted})
        regions = await split_region(self._store, self._pd, peer, encoded)
        response = kvrpcpb_pb2.SplitRegionResponse(regions=regions)
        if len(regions) == 2:
            response.left.CopyFrom(regions[0])
            response.right.CopyFrom(regions[1])
        return response

    async def _health_feedback(
        self, _request: kvrpcpb_pb2.GetHealthFeedbackRequest
    ) -> kvrpcpb_pb2.GetHealthFeedbackResponse:
        return kvrpcpb_pb2.GetHealthFeedbackResponse(health_feedback=self._feedback.now())

    async def _health(
        self, _request: health_pb2.HealthCheckRequest, _context: CallContext
    ) -> health_pb2.HealthCheckResponse:
        status = health_pb2.HealthCheckResponse.SERVING if self.serving else health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)

    async def _batch_raft(
        self, batches: AsyncIterator[tikvpb_pb2.BatchRaftMessage], _context: CallContext
    ) -> raft_serverpb_pb2.Done:
        async for batch in batches:
            for message in batch.msgs:
                self._check_store(message)
                if self._fail.armed and self._fail.hit("raft_message_receive") is not None:
                    continue
                self._store.deliver(message)
            self._metrics.raft_messages.inc(len(batch.msgs))
        return raft_serverpb_pb2.Done()

    async def _raft(
        self, messages: AsyncIterator[raft_serverpb_pb2.RaftMessage], _context: CallContext
    ) -> raft_serverpb_pb2.Done:
        async for message in messages:
            self._check_store(message)
            self._store.deliver(message)
        return raft_serverpb_pb2.Done()

    async def _snapshot(
        self, chunks: AsyncIterator[raft_serverpb_pb2.SnapshotChunk], _context: CallContext
    ) -> raft_serverpb_pb2.Done:
        if self._fail.armed and (reason := await self._fail.reach("snapshot_receive")) is not None:
            raise StatusError("UNAVAILABLE", f"failpoint: {reason}")
        return await self._store.snapshots.receive(chunks)

    def _check_store(self, message: raft_serverpb_pb2.RaftMessage) -> None:
        """A sender with an old address must resolve it again."""
        if message.to_peer.store_id != self._store.store_id:
            raise StatusError(
                "UNKNOWN", f"StoreNotMatch: message for store {message.to_peer.store_id} reached {self._store.store_id}"
            )

    async def close(self) -> None:
        """End running commands."""
        self.serving = False
        if self._dispatcher is not None:
            await self._dispatcher.close()


def _called(handler: Callable[[Any], Awaitable[Any]]) -> Handler:
    """A handler that does not care who calls."""

    async def call(request: Any, _context: CallContext) -> Any:
        return await handler(request)

    return call
