"""When leases are over: decided by the leader alone, by its monotonic clock.

Nothing of this is replicated. A leader gives every lease its full time again when it begins, because what earlier leaders answered
to keep-alives died with them; so a lease may live longer than granted and never shorter. A lease that is over is revoked by a
command of the leader's term: if the term has ended, the command comes to nothing.

Invariant: once a lease is past its deadline here it is not kept alive any more; whoever asks waits until it is gone or this
leadership is.
"""

from __future__ import annotations

import asyncio
import heapq

from core_py.errors import DbError
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from pd_py.etcd.ports import LeaderStore
from pd_py.metastore.errors import NotLeader
from pd_py.metastore.kv.leases import Lease
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2

RETRY_S = 0.5
REVOKE_BATCH = 64  # proposed together, so that they share a sync
MIN_SLEEP_S = 0.001  # a sleep may end a rounding error too early
MAX_SLEEP_S = 3600.0
SLACK = 64


class Lessor:
    """The deadlines of one term of leadership. Construct when it begins, `run` as a task, `close` at its end."""

    def __init__(self, store: LeaderStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[int, tuple[Lease, float]] = {}
        """id -> (the lease, its deadline in seconds of the clock)."""
        self._order: list[tuple[float, int]] = []
        """Heap of (time, id): one for each known lease, at or before its deadline; and what is left of revoked ones."""
        self._ending: dict[int, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._take_new()
        self._unsubscribe = store.subscribe(self._take_new)

    # ---- what is asked ----

    async def renew(self, lease_id: int) -> int:
        """Keep a lease alive; its time to live in seconds, 0 if it is gone. Raises NotLeader."""
        self._check()
        known = self._find(lease_id)
        if known is None:
            return 0
        lease, deadline = known
        now = self._clock.monotonic()
        if deadline <= now:
            future = self._ending.get(lease_id)
            if future is None:
                future = self._ending[lease_id] = asyncio.get_running_loop().create_future()
                self._wake.set()
            await asyncio.shield(future)
            return 0
        self._known[lease_id] = (lease, now + lease.ttl_s)
        return lease.ttl_s

    def remaining_s(self, lease_id: int) -> int | None:
        """Whole seconds that a lease has left, None if it is gone. Raises NotLeader."""
        self._check()
        known = self._find(lease_id)
        return None if known is None else max(int(known[1] - self._clock.monotonic()), 0)

    def _check(self) -> None:
        if self._closed:
            raise NotLeader("etcdserver: not leader")
        self._store.check()

    def _find(self, lease_id: int) -> tuple[Lease, float] | None:
        known = self._known.get(lease_id)
        return known if known is not None and self._store.kv.leases.get(lease_id) is known[0] else None

    # ---- what happens ----

    def _take_new(self) -> None:
        """Leases granted since; the newest are asked first, so this ends at the first one that is known."""
        now = self._clock.monotonic()
        leases = self._store.kv.leases
        if len(self._order) > 2 * len(leases) + SLACK:
            self._drop_revoked()
        for lease in leases.newest_first():
            known = self._known.get(lease.id)
            if known is not None and known[0] is lease:
                break
            self._known[lease.id] = (lease, now + lease.ttl_s)
            heapq.heappush(self._order, (now + lease.ttl_s, lease.id))
            self._wake.set()

    def _drop_revoked(self) -> None:
        """Forget leases that somebody revoked long before their deadline."""
        self._known = {lease_id: known for lease_id, known in self._known.items() if self._find(lease_id) is not None}
        self._order = [(deadline, lease_id) for lease_id, (_, deadline) in self._known.items()]
        heapq.heapify(self._order)

    async def run(self) -> None:
        """Revoke what is over, until cancelled."""
        while True:
            self._wake.clear()
            due = self._due()
            while due:
                batch, due = due[:REVOKE_BATCH], due[REVOKE_BATCH:]
                async with asyncio.TaskGroup() as group:
                    for lease_id in batch:
                        group.create_task(self._revoke(lease_id))
            wait_s = MAX_SLEEP_S
            if self._order:
                wait_s = min(max(self._order[0][0] - self._clock.monotonic(), MIN_SLEEP_S), MAX_SLEEP_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _due(self) -> list[int]:
        """Leases past their deadline, in the order of it; they leave the heap."""
        now, due = self._clock.monotonic(), []
        while self._order and self._order[0][0] <= now:
            _, lease_id = heapq.heappop(self._order)
            known = self._find(lease_id)
            if known is None:
                self._forget(lease_id)
            elif known[1] <= now:
                due.append(lease_id)
            else:
                heapq.heappush(self._order, (known[1], lease_id))
        return due

    async def _revoke(self, lease_id: int) -> None:
        command = metastore_pb2.Command(lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=lease_id))
        try:
            await self._store.execute(command)  # a result that says "not found" is as good
        except DbError as error:
            get_logger().warn("lease not revoked yet", lease=lease_id, error=str(error))
            heapq.heappush(self._order, (self._clock.monotonic() + RETRY_S, lease_id))
            return
        self._forget(lease_id)

    def _forget(self, lease_id: int) -> None:
        if self._find(lease_id) is None:
            self._known.pop(lease_id, None)
        future = self._ending.pop(lease_id, None)
        if future is not None and not future.done():
            future.set_result(None)

    def close(self) -> None:
        """The leadership is over: whoever waits is told so."""
        self._closed = True
        self._unsubscribe()
        for future in self._ending.values():
            if not future.done():
                future.set_exception(NotLeader("etcdserver: not leader"))
                future.exception()  # the caller may have gone away
        self._ending.clear()
