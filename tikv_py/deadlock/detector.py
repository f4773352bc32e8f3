"""Finding deadlocks: every store reports its waits to one store, which knows them all and refuses the one that closes a cycle.

The store that leads the first region is that one (`tikv_py.deadlock.leader`). It holds the graph in memory only. When leadership
moves, the new leader begins with an empty graph and the stores report their waits again, so a deadlock is found a moment
later; one that is never found ends by the time limits of the waits. Waits of its own a leader reports to itself by a call.

Waits of a transaction's first lock are not reported: nobody can wait for a transaction that holds nothing.

Keys are named by a 64-bit BLAKE2b hash of the encoded key. The public servers use another hash; only stores compare them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from core_py.ports import CallContext, Handler, Service, StatusError, Transport
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import deadlock_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.deadlock.leader import DetectorLeader
from tikv_py.deadlock.link import LeaderLink
from tikv_py.deadlock.region_watch import RegionWatch
from tikv_py.deadlock.wait_for_graph import Cycle, Wait, WaitForGraph
from tikv_py.deadlock.wire import entry_of, response_of, wait_of
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.server.metrics import LockWaitMetrics
from tikv_py.txn.waiting.lock_waiting import LockWaiting

TTL_MIN_S = 3.0
KEY_MAX = 16 << 10  # bytes of a reported wait's key and tag; deadlocks over longer ones end by time
REPLACED_MAX = 1024  # keys of one report


class DeadlockDetector:
    """One store's part: the graph while it leads, the link to the leader while it does not."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        waiting: LockWaiting,
        transport: Transport,
        resolve: Callable[[int], Awaitable[str]],
        metrics: LockWaitMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._clock = store.clock
        self._fail = store.fail
        self._metrics = metrics
        self._tasks = {kind: metrics.tasks.labels(kind) for kind in ("detect", "clean_up_wait_for", "clean_up")}
        self.leader = DetectorLeader(store, pd)
        self.graph = WaitForGraph(max(TTL_MIN_S, 3 * waiting.settings.timeout_s))
        self._reign = 0
        """Counts the times that this store became or ceased to be the leader."""
        self._scope = TaskScope("deadlock detector", on_failure=on_failure)
        self._link = LeaderLink(
            store.store_id,
            self.leader,
            waiting,
            transport,
            resolve,
            self._clock,
            metrics,
            self._fail,
            self._scope,
        )

    def start(self) -> None:
        """Begin. The store's listener must be set before."""
        self._store.listener = RegionWatch(self._store.listener, self._peer_changed, self._peer_gone)
        self._waiting.detector = self
        self._lead()
        self._scope.spawn(self._link.run(), name="deadlock reports")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    def service(self) -> Service:
        """`deadlock.Deadlock`."""
        handlers: dict[str, Handler] = {"Detect": self._serve_detect, "GetWaitForEntries": self._wait_for_entries}
        return Service(deadlock_pb2.DESCRIPTOR.services_by_name["Deadlock"], handlers)

    # ---- what this store's waits report ----

    def wait_begins(self, wait: Wait) -> None:
        """A transaction waits here."""
        if self.leader.is_here:
            self._refuse(self._detect(wait))
        else:
            self._link.send(deadlock_pb2.DeadlockRequest(entry=entry_of(wait)))

    def wait_ends(self, wait: Wait) -> None:
        """It does not any more."""
        if self.leader.is_here:
            self.graph.clean_up_wait_for(wait.txn, wait.key_hash)
        else:
            self._link.send(deadlock_pb2.DeadlockRequest(tp=deadlock_pb2.CleanUpWaitFor, entry=entry_of(wait)))

    def holder_changed(self, key_hash: int, key: bytes, old_ts: int, new_ts: int) -> None:
        """A key that is waited for here has another holder (0: none)."""
        if self.leader.is_here:
            self._refuse(self._counted(self.graph.replace_holder(key_hash, new_ts, self._clock.monotonic())))
            return
        request = deadlock_pb2.DeadlockRequest()
        request.replace_locks_by_keys.items.add(key_hash=key_hash, key=key, old_lock_ts=old_ts, new_lock_ts=new_ts)
        self._link.send(request)

    def _refuse(self, cycles: list[Cycle]) -> None:
        for cycle in cycles:
            self._waiting.deadlock(cycle)

    # ---- leading ----

    def _peer_changed(self, peer: Peer) -> None:
        region = peer.region
        self._waiting.region_changed(region.id, region.region_epoch.version if peer.is_leader else None)
        if self.leader.concerns(peer):
            self._lead()

    def _peer_gone(self, region_id: int) -> None:
        self._waiting.region_changed(region_id, None)
        self._lead()

    def _lead(self) -> None:
        """Begin or cease to lead when the first region's leadership came or went."""
        if not self.leader.refresh():
            return
        self._reign += 1
        self.graph.clear()
        leads = self.leader.is_here
        self._metrics.leader.set(leads)
        get_logger().info("deadlock detector", leads=leads, store=self._store.store_id)
        if leads:
            for wait in self._waiting.reported_waits():
                self._refuse(self._detect(wait))
        self._link.wake()

    def _detect(self, wait: Wait) -> list[Cycle]:
        began = self._clock.monotonic()
        cycles = self._counted(self.graph.detect(wait, began))
        self._tasks["detect"].inc()
        self._metrics.graph.set(self.graph.transactions())
        self._metrics.detect.observe(self._clock.monotonic() - began)
        return cycles

    def _counted(self, cycles: list[Cycle]) -> list[Cycle]:
        if cycles:
            self._metrics.errors.labels("deadlock").inc(len(cycles))
        return cycles

    async def _serve_detect(
        self, requests: AsyncIterator[deadlock_pb2.DeadlockRequest], _context: CallContext
    ) -> AsyncIterator[deadlock_pb2.DeadlockResponse]:
        """Deadlock/Detect: another store's reports; answers the waits that it has to refuse."""
        reign = self._reign
        self._check_reign(reign)
        async for request in requests:
            self._check_reign(reign)
            if self._fail.armed and await self._fail.reach("deadlock_report_receive") is not None:
                continue
            for cycle in self._take(request):
                yield response_of(cycle)

    def _check_reign(self, reign: int) -> None:
        if not self.leader.is_here or reign != self._reign:
            self._metrics.errors.labels("not_leader").inc()
            raise StatusError("FAILED_PRECONDITION", "this store is not the leader of the deadlock detector")

    def _take(self, request: deadlock_pb2.DeadlockRequest) -> list[Cycle]:
        """What another store reports."""
        entry = request.entry
        if request.tp == deadlock_pb2.CleanUpWaitFor:
            self._tasks["clean_up_wait_for"].inc()
            self.graph.clean_up_wait_for(entry.txn, entry.key_hash)
            return []
        if request.tp == deadlock_pb2.CleanUp:
            self._tasks["clean_up"].inc()
            self.graph.clean_up(entry.txn)
            return []
        now = self._clock.monotonic()
        cycles = []
        for item in request.replace_locks_by_keys.items[:REPLACED_MAX]:
            cycles += self._counted(self.graph.replace_holder(item.key_hash, item.new_lock_ts, now))
        if request.HasField("entry") and len(entry.key) + len(entry.resource_group_tag) <= KEY_MAX:
            cycles += self._detect(wait_of(entry))
        return cycles

    async def _wait_for_entries(
        self, _request: deadlock_pb2.WaitForEntriesRequest, _context: CallContext
    ) -> deadlock_pb2.WaitForEntriesResponse:
        """Deadlock/GetWaitForEntries: who waits on this store."""
        entries = [entry_of(wait, wait_time_ms=int(age_s * 1000)) for wait, age_s in self._waiting.waits()]
        return deadlock_pb2.WaitForEntriesResponse(entries=entries)
