"""A store of a memory cluster: checks region, epoch and leadership as a real one does, then runs the command.

All stores share one storage, which stands for perfect replication. Commands come one by one or in BatchCommands; of a
batch those that are done at once are answered together, last one first (the order is free on the wire), the others alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from core_py.codec import memcomparable
from core_py.ports import CallContext, Service, methods_of
from core_py.region_errors import DataIsNotReady, EpochNotMatch, KeyNotInRegion, NotLeader, RegionError, RegionNotFound
from core_py.runtime.tasks import TaskScope
from protos.grpc_health import health_pb2
from protos.kvproto import kvrpcpb_pb2, tikvpb_pb2
from tikv_py.client.rpc.methods import BATCH_FIELDS
from tikv_py.client.testing.faults import Delay, Lost

if TYPE_CHECKING:
    from tikv_py.client.testing.cluster import MemoryCluster

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
TIKV = tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"]
METHODS = methods_of(TIKV)
BY_FIELD = {field: name for name, field in BATCH_FIELDS.items()}
READS = ("KvGet", "KvBatchGet", "KvScan", "KvScanLock")
ANSWERS_AHEAD = 64  # answers of one connection that wait to be sent


@dataclass(frozen=True, slots=True)
class LockWait:
    """Not answered yet: a key is locked. The command runs again when locks go; after `seconds` it is answered with `refusal`.

    `done` is called once for every wait, whatever ends it.
    """

    seconds: float
    refusal: Any
    done: Callable[[], None]


class Storage(Protocol):
    """What runs the commands. `bounds` are the region's physical bounds."""

    def run(self, name: str, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        """The response, or a `LockWait`."""
        ...


class MemoryStore:
    """One store's service."""

    def __init__(self, cluster: MemoryCluster, store_id: int) -> None:
        self.cluster, self.id, self.address = cluster, store_id, f"kv{store_id}:1"
        self.calls: Counter[str] = Counter()
        self.batch_sizes: list[int] = []
        self.wrong_answers = False
        self.slow_score = 0
        """Told with every batch of answers, unless 0."""
        self.transport_load = 0
        self.serving = True
        self._listener: Any = None

    async def start(self, *, batch: bool = True) -> None:
        """Listen; without `batch` BatchCommands is not served."""
        handlers: dict[str, Any] = {
            name: self._unary(name)
            for name, method in METHODS.items()
            if not method.client_streaming and not method.server_streaming
        }
        if batch:
            handlers["BatchCommands"] = self._batch
        transport = self.cluster.network.transport(f"kv{self.id}")
        self._listener = await transport.serve(
            self.address, [Service(TIKV, handlers), Service(HEALTH, {"Check": self._check})]
        )

    async def stop(self) -> None:
        """Stop listening; running calls end."""
        await self._listener.stop(0)

    async def _check(self, _request: Any, _context: CallContext) -> Any:
        self.calls["Check"] += 1
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self.serving else status.NOT_SERVING)

    def _feedback(self) -> kvrpcpb_pb2.HealthFeedback:
        return kvrpcpb_pb2.HealthFeedback(store_id=self.id, slow_score=self.slow_score)

    def _unary(self, name: str) -> Any:
        async def call(request: Any, _context: CallContext) -> Any:
            answer = await self._finish(self.handle(name, request), name, request)
            return answer if answer is not None else await asyncio.get_running_loop().create_future()

        return call

    async def _finish(self, made: Any, name: str, request: Any) -> Any:
        """The answer in the end; None when it is lost."""
        if isinstance(made, Delay):
            await asyncio.sleep(made.seconds)
            made = self._run(name, request)
        now = asyncio.get_running_loop().time()
        deadline = now + made.seconds if isinstance(made, LockWait) else 0.0
        while isinstance(made, LockWait):
            try:
                released = await self.cluster.locks_released(deadline)
            finally:
                made.done()
            made = self._run(name, request) if released else made.refusal
        return None if isinstance(made, Lost) else made

    # ---- many commands on one stream ----

    async def _batch(self, requests: AsyncIterator[Any], _context: CallContext) -> AsyncIterator[Any]:
        answers: asyncio.Queue[Any] = asyncio.Queue(ANSWERS_AHEAD)

        def fail(error: BaseException) -> None:
            while answers.full():
                answers.get_nowait()
            answers.put_nowait(error)

        scope = TaskScope(f"memory store {self.id}", on_failure=fail)
        scope.spawn(self._read_batches(requests, answers, scope))
        try:
            while True:
                answer = await answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    return
                yield answer
        finally:
            await scope.close()

    async def _read_batches(self, requests: AsyncIterator[Any], answers: asyncio.Queue[Any], scope: TaskScope) -> None:
        async for batch in requests:
            self.batch_sizes.append(len(batch.requests))
            answer = self._answers()
            for request_id, command in reversed(list(zip(batch.request_ids, batch.requests, strict=True))):
                field = command.WhichOneof("cmd")
                name, request = BY_FIELD[field], getattr(command, field)
                made = self.handle(name, request)
                if isinstance(made, Delay | LockWait):
                    scope.spawn(self._answer_later(made, name, request, request_id, answers))
                elif not isinstance(made, Lost):
                    self._add(answer, request_id, field, made)
            if answer.request_ids:
                await answers.put(answer)
        await answers.put(None)

    async def _answer_later(self, made: Any, name: str, request: Any, request_id: int, answers: Any) -> None:
        done = await self._finish(made, name, request)
        if done is not None:
            answer = self._answers()
            self._add(answer, request_id, BATCH_FIELDS[name], done)
            await answers.put(answer)

    def _answers(self) -> Any:
        answer = tikvpb_pb2.BatchCommandsResponse(transport_layer_load=self.transport_load)
        if self.slow_score:
            answer.health_feedback.CopyFrom(self._feedback())
        return answer

    def _add(self, answer: Any, request_id: int, field: str, made: Any) -> None:
        if self.wrong_answers:
            answer.responses.add().Empty.SetInParent()
        else:
            getattr(answer.responses.add(), field).CopyFrom(made)
        answer.request_ids.append(request_id)

    # ---- one command ----

    def handle(self, name: str, request: Any) -> Any:
        """The response, or what it has to wait for. Raises what hooks raise."""
        self.calls[name] += 1
        self.cluster.requests.append((name, request))
        if name == "GetHealthFeedback":
            return kvrpcpb_pb2.GetHealthFeedbackResponse(health_feedback=self._feedback())
        outcome = None
        for hook in list(self.cluster.before):
            outcome = outcome or hook(self, name, request)
        if isinstance(outcome, Delay | Lost):
            return outcome
        return self._refuse(name, outcome) if outcome is not None else self._run(name, request)

    @staticmethod
    def _refuse(name: str, error: RegionError) -> Any:
        response = METHODS[name].response()
        response.region_error.CopyFrom(error.to_pb())  # type: ignore[attr-defined]
        return response

    def _run(self, name: str, request: Any) -> Any:
        error = self._check_region(request.context) or self._check_keys(name, request)
        if error is not None:
            return self._refuse(name, error)
        region = self.cluster.topology.regions[request.context.region_id].meta
        if name == "SplitRegion":
            response = self.cluster.split_by_request(request)
        else:
            response = self.cluster.storage.run(name, request, (region.start_key, region.end_key))
        if isinstance(response, LockWait):
            return response
        if name not in READS:
            self.cluster.wake_waiters()
        for hook in list(self.cluster.after):
            if isinstance(outcome := hook(self, name, request), Delay | Lost):
                return outcome
        return response

    def _check_region(self, context: Any) -> RegionError | None:
        region = self.cluster.topology.regions.get(context.region_id)
        if region is None or all(peer.store_id != self.id for peer in region.meta.peers):
            return RegionNotFound(context.region_id)
        if region.leader_store != self.id and not context.replica_read and not context.stale_read:
            return NotLeader(context.region_id, region.leader if self.cluster.tell_leader else None)
        if context.region_epoch.version != region.meta.region_epoch.version:
            current = sorted((r.meta for r in self.cluster.topology.regions.values()), key=lambda meta: meta.start_key)
            near = [meta for meta in current if meta.id == region.meta.id or meta.id > 1000]
            return EpochNotMatch("epoch not match", tuple(near))
        return None

    def _check_keys(self, name: str, request: Any) -> RegionError | None:
        """Every key of a command must be the region's; ranges are cut to it."""
        region = self.cluster.topology.regions[request.context.region_id].meta
        if request.context.stale_read and request.version > self.cluster.safe_ts():
            return DataIsNotReady(region.id, request.context.peer.id, self.cluster.safe_ts())
        for key in _keys_of(request):
            place = key if name.startswith("Raw") or name == "SplitRegion" else memcomparable.encode(key)
            if place < region.start_key or (region.end_key and place >= region.end_key):
                return KeyNotInRegion(place, region)
        return None


def _keys_of(request: Any) -> Iterable[bytes]:
    """The single keys a command is about."""
    fields = request.DESCRIPTOR.fields_by_name
    if "keys" in fields:
        yield from request.keys
    if "key" in fields:
        yield request.key
    for many in ("mutations", "pairs"):
        if many in fields:
            yield from (one.key for one in getattr(request, many))
    if request.DESCRIPTOR.name == "CheckTxnStatusRequest":
        yield request.primary_key
    if request.DESCRIPTOR.name == "TxnHeartBeatRequest":
        yield request.primary_lock
