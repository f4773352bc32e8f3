"""Advances the safe timestamps of the regions that this store leads, all of them together, every `advance-ts-interval`.

One round: take one timestamp T from PD; for each leader note a claim (applied index, min(T, its oldest lock)); ask the other
stores whether they still follow that leader in that term (`CheckLeader`, one request for all regions of a store); a claim on
which a quorum agrees is published. The other replicas learn a published claim with the next round's question.

Why nothing is committed at or below a published claim's timestamp behind its index. A transaction's commit timestamp C is
taken from PD after all its locks have been answered. Take a lock of the region. If the answer was given before T was taken,
the claim's state contains it: the leader had applied its own term, so it had everything that was answered in earlier terms;
it had applied its own last split or merge, so nobody else had answered in its range unknown to it; what it answered itself it
had applied; and there was no later term, because a quorum said after T that it was still in this one. So the lock was among
those the resolver knows, and C is greater than its start_ts (or not below its min_commit_ts), to which the claim was lowered,
or it was gone, and its commit is part of the state. If the answer was given after T was taken, C was taken later still, and C
> T. A proposed lock that is not applied yet belongs to the second case, however long it takes. Hence no answer of this store
depends on clocks, leases or ticks here, and a stopped process may publish a claim late, but not wrongly.

Async commit and one-phase commit take C from the stores instead of PD. So T is raised into `max_ts` before the claims are
noted: what a leader here decides after that comes out above T. What was decided before and is not applied yet is a lock in
memory, and the claim stays below the least timestamp that it may be committed at.

A sleeping group advances like any other and is not woken: the question goes to the stores, which answer from what their peers
know.

Costs: no task and no message per region; the passes over all regions give way to the loop every `SLICE` regions. New leaders'
lock families are read in a worker thread, `SCANS_AT_ONCE` regions over one frozen view.

What it does not do: answer the question (`tikv_py.server.safe_ts`), or serve reads (`tikv_py.txn.context`). Tests:
tests/integration/test_stale_reads.py, tests/sim/stale_sim.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

from core_py.codec import ts as tso
from core_py.errors import DbError
from core_py.ports import methods_of
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2, tikvpb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.engine.port import CF_LOCK, Snapshot
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.resolved_ts.leadership import Candidate, LeadershipRound
from tikv_py.resolved_ts.progress import Claim
from tikv_py.resolved_ts.resolver import LOCKS_MAX, Resolver, lock_bound
from tikv_py.server.metrics import ResolvedTsMetrics
from tikv_py.txn.concurrency import ConcurrencyManager

SLICE = 128
SCANS_AT_ONCE = 64
SCAN_PAIRS = 4096
LOCKS_TOTAL_MAX = 2 * LOCKS_MAX  # of all regions; beyond that those with the most are forgotten
OVERFLOW_ROUNDS = 12  # a region with too many locks is looked at again once in so many rounds
CHECK_TIMEOUT_S = 5.0
CHECK_LEADER = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])["CheckLeader"]


class SafeTsWorker:
    """See the module's text."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        concurrency: ConcurrencyManager,
        interval_s: float,
        metrics: ResolvedTsMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._pd = pd
        self._concurrency = concurrency
        self._interval_s = interval_s
        self._metrics = metrics
        self._scope = TaskScope("resolved ts", on_failure=on_failure)
        self._unscanned: dict[int, None] = {}
        """Regions whose lock family is to be read."""
        self._scan_wake = asyncio.Event()
        self._round = 0

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._rounds(), name="resolved ts rounds")
        self._scope.spawn(self._scans(), name="resolved ts scans")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _rounds(self) -> None:
        clock = self._store.clock
        took = 0.0
        while True:
            await asyncio.sleep(max(self._interval_s - took, self._interval_s / 10))
            began = clock.monotonic()
            try:
                await self.advance()
            except DbError as error:
                self._metrics.failures.labels("no_timestamp").inc()
                get_logger().info("safe timestamps not advanced", error=str(error))
            took = clock.monotonic() - began
            self._metrics.advance.labels("total").observe(took)

    async def advance(self) -> None:
        """One round. Raises PdError when PD gives no timestamp; what else fails is left to the next round."""
        self._round += 1
        ts = await self._pd.timestamp()
        self._concurrency.learn_pd_ts(ts)
        clock = self._store.clock
        began = clock.monotonic()
        asked = await self._ask(ts)
        self._metrics.advance.labels("build").observe(clock.monotonic() - began)
        timeout_s = min(self._interval_s, CHECK_TIMEOUT_S)
        async with asyncio.TaskGroup() as group:
            for store_id, requests in asked.requests().items():
                group.create_task(self._check(asked, store_id, requests, timeout_s))
        self._metrics.failures.labels("no_quorum").inc(asked.unsettled())
        await self._report(ts)

    async def _ask(self, ts: int) -> LeadershipRound:
        """Note the claims of all leaders."""
        store = self._store
        asked = LeadershipRound(store.store_id, ts)
        region_ids = list(store.peers)
        locks = known = unknown = 0
        for at, region_id in enumerate(region_ids):
            if at % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            peer = store.peers.get(region_id)
            if peer is None or not peer.is_leader:
                if peer is not None:
                    peer.applier.locks = None
                continue
            candidate = self._candidate(peer, ts)
            if candidate is None:
                unknown += 1
                continue
            known += 1
            locks += len(peer.applier.locks or ())
            if asked.add(candidate):
                _publish(store, candidate)
        self._metrics.regions.labels("resolved").set(known)
        self._metrics.regions.labels("unresolved").set(unknown)
        self._metrics.locks.set(locks)
        if locks > LOCKS_TOTAL_MAX:
            self._forget_some(locks)
        return asked

    def _candidate(self, peer: Peer, ts: int) -> Candidate | None:
        """What this leader can claim, or None; a leader whose locks are not known is put in line for that."""
        region, resolver = peer.region, peer.applier.locks
        if resolver is not None and resolver.overflowed and (self._round + region.id) % OVERFLOW_ROUNDS:
            return None
        if resolver is None or resolver.version != region.region_epoch.version or resolver.overflowed:
            self._unscanned[region.id] = None
            self._scan_wake.set()
            return None
        if not peer.is_complete() or not resolver.is_current():
            return None
        peer.safe_ts()  # so that what is reached is told
        node = peer.node
        in_memory = self._concurrency.least_commit_ts(*data_range(region.start_key, region.end_key))
        claim = Claim(peer.storage.apply_state.applied_index, resolver.resolve(min(ts, in_memory - 1)))
        return Candidate(region, peer.peer_id, node.term, node.conf_state, claim, peer.read_progress.reached)

    def _forget_some(self, locks: int) -> None:
        resolvers = [peer.applier.locks for peer in self._store.peers.values() if peer.applier.locks is not None]
        for resolver in sorted(resolvers, key=len, reverse=True):
            if locks <= LOCKS_TOTAL_MAX:
                break
            locks -= len(resolver)
            resolver.overflow()

    async def _check(
        self,
        asked: LeadershipRound,
        store_id: int,
        requests: Sequence[kvrpcpb_pb2.CheckLeaderRequest],
        timeout_s: float,
    ) -> None:
        """Ask one store. A store that does not answer leaves its regions to the others."""
        clock = self._store.clock
        for request in requests:
            began = clock.monotonic()
            try:
                response = await self._store.router.checks.call(store_id, CHECK_LEADER, request, timeout_s)
            except DbError as error:
                self._metrics.failures.labels("store_silent").inc()
                get_logger().info("store not asked whom it follows", store=store_id, error=str(error))
                return
            self._metrics.advance.labels("rpc").observe(clock.monotonic() - began)
            for candidate in asked.on_answer(store_id, response.regions):
                _publish(self._store, candidate)

    async def _report(self, ts: int) -> None:
        """Tell metrics and PD how far all leaders are."""
        least, region_id = min(
            ((peer.safe_ts(), region_id) for region_id, peer in self._store.peers.items() if peer.is_leader),
            default=(ts, 0),
        )
        if not least:
            return  # some region is new here and has yet to be advanced for the first time
        self._metrics.min_ts.set(least)
        self._metrics.min_region.set(region_id)
        self._metrics.gap_ms.set(tso.physical_ms(ts) - tso.physical_ms(least))
        try:
            await self._pd.report_min_resolved_ts(self._store.store_id, least)
        except DbError as error:
            get_logger().info("safe timestamp not reported", error=str(error))

    # ---- reading what locks there are ----

    async def _scans(self) -> None:
        while True:
            await self._scan_wake.wait()
            self._scan_wake.clear()
            while self._unscanned:
                region_ids = list(islice(self._unscanned, SCANS_AT_ONCE))
                for region_id in region_ids:
                    del self._unscanned[region_id]
                await self._scan(region_ids)

    async def _scan(self, region_ids: list[int]) -> None:
        """Attach resolvers and freeze a view in one moment, then read it. What cannot be read now is asked for again."""
        store = self._store
        watched: list[tuple[Peer, Resolver]] = []
        for region_id in region_ids:
            peer = store.peers.get(region_id)
            if peer is not None and peer.snapshot is None and not peer.unwritten:
                resolver = peer.applier.locks = Resolver(peer.region.region_epoch.version)
                watched.append((peer, resolver))
        if not watched:
            return
        ranges = [data_range(peer.region.start_key, peer.region.end_key) for peer, _ in watched]
        view = store.kv_db.snapshot()
        began = store.clock.monotonic()
        found: list[dict[bytes, int] | None] = await store.workers.run(_read_locks, view, ranges)
        self._metrics.advance.labels("scan").observe(store.clock.monotonic() - began)
        for (peer, resolver), bounds in zip(watched, found, strict=True):
            if peer.applier.locks is not resolver:
                continue
            if bounds is None:
                get_logger().warn("a region has too many locks to advance", region=peer.region.id, limit=LOCKS_MAX)
                resolver.overflow()
            else:
                resolver.load(bounds)


def _publish(store: Store, candidate: Candidate) -> None:
    """The claim holds; it is of use if the region still has the range that it is about."""
    peer = store.peers.get(candidate.region.id)
    if peer is None or peer.peer_id != candidate.peer_id:
        return
    if peer.region.region_epoch.version == candidate.region.region_epoch.version:
        peer.read_progress.offer(candidate.claim)


def _read_locks(view: Snapshot, ranges: list[tuple[bytes, bytes]]) -> list[dict[bytes, int] | None]:
    """The bounds of each range's locks, None for too many. In a worker thread; gives the view up."""
    try:
        return [_read_range(view, start, end) for start, end in ranges]
    finally:
        view.release()


def _read_range(view: Snapshot, start: bytes, end: bytes) -> dict[bytes, int] | None:
    bounds: dict[bytes, int] = {}
    while pairs := view.scan(CF_LOCK, start, end, SCAN_PAIRS):
        for key, data in pairs:
            bound = lock_bound(data)
            if bound is not None:
                bounds[key] = bound
        if len(bounds) > LOCKS_MAX:
            return None
        if len(pairs) < SCAN_PAIRS:
            break
        start = pairs[-1][0] + b"\0"
    return bounds
