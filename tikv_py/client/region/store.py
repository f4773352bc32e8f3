"""Stores by id: addresses and labels (from PD), a connection each, and whether they are alive and fast.

When a send fails, the store is asked for its health, once at a time however many requests failed; while it is dead a background
task asks again, with growing pauses, until it is back, gone or of no interest to anybody. Its address is looked up again at PD
meanwhile, because it may have moved; a changed address closes the old connection. The verdict steers requests to other replicas;
a store that was not asked yet is tried all the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core_py.errors import PdError, RpcError
from core_py.ports import Clock, Transport
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.grpc_health import health_pb2
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.region.health import Liveness, StoreHealth
from tikv_py.client.rpc.batch_commands import BatchOptions
from tikv_py.client.rpc.connection import StoreConnection
from tikv_py.client.rpc.stats import RpcStats

REFRESH_EVERY_S = 1.0  # a failing store's address is asked for at most so often
CHECK_TIMEOUT_S = 1.0
FIRST_RECHECK_S, MAX_RECHECK_S = 0.25, 2.0
NO_INTEREST_S = 300.0  # a dead store that no request wanted for so long is not asked any more
FEEDBACK_TIMEOUT_S = 1.0

_UNKNOWN = (health_pb2.HealthCheckResponse.UNKNOWN, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)

log = get_logger()


@dataclass(slots=True, eq=False)
class StoreHandle:
    """A known store."""

    id: int
    address: str
    labels: dict[str, str]
    connection: StoreConnection
    health: StoreHealth
    liveness: Liveness = Liveness.REACHABLE
    failed_at: float | None = None
    """When a call to it failed, unless one was answered since."""
    checked_at: float = 0.0
    wanted_at: float = 0.0
    verdict: asyncio.Future[Liveness] | None = None
    """The health check under way."""
    watcher: asyncio.Task[None] | None = None
    last_failure: str = ""
    is_asked_for_feedback: bool = False


class StoreCache:
    """All stores this client has talked to."""

    def __init__(
        self,
        pd: PdClient,
        transport: Transport,
        clock: Clock,
        scope: TaskScope,
        *,
        streams_per_store: int = 1,
        batch: BatchOptions | None = None,
    ) -> None:
        self._pd, self._transport, self._clock, self._scope = pd, transport, clock, scope
        self._batch = batch or BatchOptions(connections=streams_per_store)
        self.stats = RpcStats()
        self._stores: dict[int, StoreHandle] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    # ---- finding ----

    def ready(self, store_id: int) -> StoreHandle | None:
        """The store if it is known and did not fail lately."""
        handle = self._stores.get(store_id)
        return handle if handle is not None and handle.failed_at is None else None

    def peek(self, store_id: int) -> StoreHandle | None:
        """What is known of a store."""
        return self._stores.get(store_id)

    async def get(self, store_id: int) -> StoreHandle:
        """The store, connected. Raises StoreNotFound (also for a removed one), PdError, RpcError."""
        handle = self._stores.get(store_id)
        if handle is not None and not self._should_refresh(handle):
            return handle
        async with self._lock(store_id):
            handle = self._stores.get(store_id)
            if handle is None or self._should_refresh(handle):
                handle = await self._refresh(store_id)
            return handle

    def _lock(self, store_id: int) -> asyncio.Lock:
        return self._locks.setdefault(store_id, asyncio.Lock())

    def _should_refresh(self, handle: StoreHandle) -> bool:
        return handle.failed_at is not None and self._clock.monotonic() - handle.checked_at >= REFRESH_EVERY_S

    async def _refresh(self, store_id: int) -> StoreHandle:
        store = await self._pd.get_store(store_id)
        if store.state == metapb_pb2.Tombstone:
            await self.forget(store_id)
            raise StoreNotFound(f"store {store_id} was removed from the cluster")
        handle = self._stores.get(store_id)
        if handle is None or handle.address != store.address:
            if handle is not None:
                log.info("store has moved", store=store_id, old=handle.address, new=store.address)
                await handle.connection.close()
            handle = self._stores[store_id] = self._connected(store)
        handle.labels = {label.key: label.value for label in store.labels}
        handle.checked_at = self._clock.monotonic()
        return handle

    def _connected(self, store: metapb_pb2.Store) -> StoreHandle:
        address, health = store.address, StoreHealth()

        def on_health(feedback: kvrpcpb_pb2.HealthFeedback) -> None:
            if not feedback.store_id or feedback.store_id == store.id:
                health.told(feedback.slow_score, self._clock.monotonic())

        connection = StoreConnection(
            lambda: self._transport.connect(address),
            self._scope,
            address,
            options=self._batch,
            stats=self.stats,
            on_health=on_health,
        )
        return StoreHandle(store.id, address, {}, connection, health, wanted_at=self._clock.monotonic())

    # ---- alive or not ----

    def liveness(self, store_id: int) -> Liveness:
        """What is known of a store's process; one never talked to counts as reachable."""
        handle = self._stores.get(store_id)
        if handle is None:
            return Liveness.REACHABLE
        if handle.failed_at is not None:
            handle.wanted_at = self._clock.monotonic()
        return handle.liveness

    def last_failure(self, store_id: int) -> str:
        """For error texts: the store, what is known of it and why."""
        handle = self._stores.get(store_id)
        if handle is None or handle.failed_at is None:
            return f"store {store_id}"
        return f"store {store_id} at {handle.address}, is {handle.liveness.value}: {handle.last_failure}"

    async def failed(self, handle: StoreHandle, why: RpcError) -> Liveness:
        """A call to it failed in transport: ask it for its health, and wait for the verdict for at most a second."""
        handle.last_failure = str(why)
        handle.failed_at = handle.wanted_at = self._clock.monotonic()
        if self._stores.get(handle.id) is not handle:
            return Liveness.UNKNOWN  # another took its place meanwhile
        if handle.watcher is None or handle.watcher.done():
            handle.verdict = asyncio.get_running_loop().create_future()
            handle.watcher = self._scope.spawn(self._watch(handle), name=f"watch store {handle.id}")
        if handle.verdict is not None:
            await asyncio.wait([handle.verdict])
        return handle.liveness

    async def _watch(self, handle: StoreHandle) -> None:
        """Ask until it is back, gone, or nobody wants it."""
        pause = FIRST_RECHECK_S
        try:
            while True:
                verdict = await self._ask(handle)
                if handle.failed_at is not None or verdict is Liveness.REACHABLE:
                    handle.liveness = verdict
                if handle.verdict is not None and not handle.verdict.done():
                    handle.verdict.set_result(verdict)
                if handle.liveness is Liveness.REACHABLE:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_RECHECK_S)
                if not await self._is_still_there(handle):
                    return
                if self._clock.monotonic() - handle.wanted_at > NO_INTEREST_S:
                    handle.liveness = Liveness.UNKNOWN
                    return
        finally:
            if handle.verdict is not None and not handle.verdict.done():
                handle.verdict.cancel()

    @staticmethod
    async def _ask(handle: StoreHandle) -> Liveness:
        try:
            status = await handle.connection.check_health(CHECK_TIMEOUT_S)
        except RpcError as error:
            # Whoever says that it knows no health service is there.
            return Liveness.REACHABLE if error.status == "UNIMPLEMENTED" else Liveness.UNREACHABLE
        if status == health_pb2.HealthCheckResponse.SERVING:
            return Liveness.REACHABLE
        return Liveness.UNKNOWN if status in _UNKNOWN else Liveness.UNREACHABLE

    async def _is_still_there(self, handle: StoreHandle) -> bool:
        """Look its address up; False when it has moved or was removed, or answered a request."""
        try:
            async with self._lock(handle.id):
                now = await self._refresh(handle.id)
        except StoreNotFound:
            return False
        except (PdError, RpcError) as error:
            log.debug("PD does not tell where a dead store is", store=handle.id, error=str(error))
            return self._stores.get(handle.id) is handle
        return now is handle and handle.failed_at is not None

    def moved(self, handle: StoreHandle) -> None:
        """Another store answered at its address: look it up before the next use."""
        handle.failed_at, handle.checked_at = self._clock.monotonic(), float("-inf")

    @staticmethod
    def answered(handle: StoreHandle) -> None:
        """A call to it was answered."""
        handle.failed_at = None
        handle.liveness = Liveness.REACHABLE

    # ---- fast or not ----

    def is_slow(self, handle: StoreHandle, now_s: float) -> bool:
        """Whether another replica should be asked. A store that was slow and is not heard of is asked in the background."""
        if handle.health.wants_feedback(now_s) and not handle.is_asked_for_feedback:
            handle.is_asked_for_feedback = True
            self._scope.spawn(self._ask_feedback(handle), name=f"health feedback of store {handle.id}")
        return handle.health.is_slow(now_s)

    async def _ask_feedback(self, handle: StoreHandle) -> None:
        request = kvrpcpb_pb2.GetHealthFeedbackRequest()
        try:
            response = await handle.connection.call("GetHealthFeedback", request, FEEDBACK_TIMEOUT_S)
            handle.health.told(response.health_feedback.slow_score, self._clock.monotonic())
        except RpcError as error:
            log.debug("no health feedback", store=handle.id, error=str(error))
        finally:
            handle.is_asked_for_feedback = False

    async def forget(self, store_id: int) -> None:
        """Drop a store and its connection."""
        handle = self._stores.pop(store_id, None)
        if handle is not None:
            await handle.connection.close()

    async def close(self) -> None:
        """Close all connections."""
        for store_id in list(self._stores):
            await self.forget(store_id)
