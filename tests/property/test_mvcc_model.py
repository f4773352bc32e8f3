"""Commands of several transactions in any order, with duplicates and late messages, against a model of snapshot isolation.

Clients keep to the protocol: they commit after all prewrites have succeeded, never commit and roll back both, resolve others'
locks by what the primary (or the secondaries) say. Within that everything may happen at any time and any number of times: two
phases, async commit, one phase, pessimistic locks by force or not, statuses that push or end, heart-beats, garbage collection.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from core_py.codec.ts import TS_MAX
from tests.property.mvcc_model import Model, ModelTxn, Store
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.check_secondary_locks import check_secondary_lock
from tikv_py.mvcc.actions.check_txn_status import StatusAction, TxnStatus, TxnStatusRequest, check_txn_status
from tikv_py.mvcc.actions.cleanup import cleanup, is_expired
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.prewrite import FastCommit, Mutation, MutationOp, PessimisticAction, PrewriteProps
from tikv_py.mvcc.actions.prewrite_request import prewrite_all
from tikv_py.mvcc.errors import Committed, CommitTsExpired, KeyIsLocked, TxnError, TxnLockNotFound, TxnNotFound
from tikv_py.mvcc.reader import snapshot_get
from tikv_py.mvcc.txn import Modify

KEYS = [b"a", b"b"]
OPEN_MAX = 3
STEPS = (
    ["go on"] * 9
    + ["status"] * 3
    + ["read"] * 2
    + ["lock", "prewrite", "take_commit_ts", "commit_primary", "finish_key", "heart_beat"]
    + ["unlock", "lose_lock", "lose_lock", "give_up", "collect_garbage"]
)
OPS = [MutationOp.PUT, MutationOp.PUT, MutationOp.DELETE, MutationOp.LOCK, MutationOp.INSERT]
pick = st.integers(0, 1 << 16)
key_list = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True)


class SnapshotIsolation(RuleBasedStateMachine):
    """See the module's text. `live` are the transactions of which messages may still come."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.model = Store(), Model()
        self.live: list[ModelTxn] = []
        self.reads: list[tuple[bytes, int, bytes | None]] = []
        self.safe_point = 0

    def chosen(self, number: int) -> tuple[ModelTxn, bytes]:
        """A live transaction, one of the latest, and a key of it."""
        txn = self.live[-1 - number % min(len(self.live), OPEN_MAX + 1)]
        return txn, txn.keys[number // 12 % len(txn.keys)]

    # ---- the clients ----

    @precondition(lambda self: sum(txn.decided is None for txn in self.live) < OPEN_MAX)
    @rule(
        names=key_list,
        ops=st.lists(st.sampled_from(OPS), min_size=2, max_size=2),
        pessimistic=st.booleans(),
        mode=st.sampled_from(["2pc", "2pc", "async", "async", "1pc"]),
        long=st.booleans(),
        limit=st.sampled_from([0, 0, 0, 3]),
        ttl_ms=st.sampled_from([5, 1000, 1000]),
    )
    def begin(
        self,
        names: list[bytes],
        ops: list[MutationOp],
        pessimistic: bool,
        mode: str,
        long: bool,
        limit: int,
        ttl_ms: int,
    ) -> None:
        start_ts = self.store.ts()
        mutations = {}
        for name, op in zip(names, ops, strict=False):
            value = b"%d" % start_ts * (20 if long else 1) if op in (MutationOp.PUT, MutationOp.INSERT) else b""
            mutations[name] = Mutation(MutationOp.PUT if pessimistic and op is MutationOp.INSERT else op, name, value)
        txn = ModelTxn(start_ts, mutations, pessimistic, mode, limit, ttl_ms)
        self.model.txns[start_ts] = txn
        self.live.append(txn)

    @precondition(lambda self: self.live)
    @rule(kind=st.sampled_from(STEPS), number=pick, yes=st.booleans(), also=st.booleans())
    def step(self, kind: str, number: int, yes: bool, also: bool) -> None:
        """One of the steps below: one rule, so that each comes as often as it is meant to."""
        if kind == "go on":
            self.go_on(number, yes)
        elif kind == "lock":
            self.lock(number, yes, also)
        elif kind == "status":
            self.ask_status(number, may_end=yes, resolving_pessimistic=also)
        elif kind == "read":
            self.read(KEYS[number % len(KEYS)], (0, 0, 5, 30)[number // 7 % 4])
        else:
            getattr(self, kind)(number)

    def go_on(self, number: int, force: bool) -> None:
        """The next step of a client that nothing stops; mostly of a transaction that has not ended."""
        txn, key = self.chosen(number)
        going = [other for other in self.live if other.decided is None and not other.failed]
        if going and number % 5:
            txn = going[number // 5 % len(going)]
            key = txn.keys[number // 12 % len(txn.keys)]
        if txn.decided is not None:
            self._finish(txn, key)
        elif txn.pessimistic and txn.phase == "open" and set(txn.locked) != set(txn.keys):
            self._lock(txn, next(name for name in txn.keys if name not in txn.locked), force=force, late=False)
        elif set(txn.prewritten) != set(txn.keys):
            self._prewrite(txn, next(name for name in txn.keys if name not in txn.prewritten))
        elif not txn.commit_timestamps:
            self._take_commit_ts(txn)
        else:
            self._commit_primary(txn, txn.commit_timestamps[-1])

    def lock(self, number: int, force: bool, late: bool) -> None:
        self._lock(*self.chosen(number), force=force, late=late)

    def _lock(self, txn: ModelTxn, key: bytes, *, force: bool, late: bool) -> None:
        if not txn.pessimistic or (late and key not in txn.asked_at) or (not late and txn.phase != "open"):
            return
        if not late:
            first = key not in txn.asked_at and not force
            txn.asked_at[key] = txn.start_ts if first else self.store.ts()
        at = txn.asked_at[key]
        self.store.max_ts = max(self.store.max_ts, at)
        props = pessimistic_lock.LockProps(
            txn.primary, txn.start_ts, at, txn.ttl_ms, at + 1, allow_lock_with_conflict=force
        )
        try:
            locked = self.store.run(
                txn.start_ts, lambda t, r: pessimistic_lock.acquire(t, r, props, key, should_not_exist=False)
            )
        except TxnError:
            return
        at = locked.conflict_ts or at
        if at >= self.safe_point:
            assert locked.value == self.model.value(key, at)
        if not late:
            txn.locked[key] = at
            (txn.forced.add if force else txn.forced.discard)(key)

    def unlock(self, number: int) -> None:
        """A statement that failed gives its lock back; the message may come late."""
        txn, key = self.chosen(number)
        if txn.pessimistic and (txn.phase == "open" or key not in txn.locked):
            at = txn.locked.pop(key, txn.start_ts)
            self.store.run(txn.start_ts, lambda t, r: pessimistic_lock.rollback(t, r, key, at))

    def lose_lock(self, number: int) -> None:
        """A pessimistic lock that was only in the old leader's memory is gone."""
        held = [key for key, lock in self.store.locks().items() if lock.is_pessimistic]
        if held:
            self.store.write([Modify(CF_LOCK, keys.data_key(held[number % len(held)]), None)])

    def prewrite(self, number: int) -> None:
        self._prewrite(*self.chosen(number))

    def _prewrite(self, txn: ModelTxn, key: bytes) -> None:
        first_time = txn.phase in ("open", "prewrite") and not txn.failed
        if first_time and txn.pessimistic and set(txn.locked) != set(txn.keys):
            return
        if not first_time and key not in txn.sent:
            return
        if first_time:
            txn.phase = "prewrite"
        sent = txn.keys if txn.mode == "1pc" else [key]
        txn.sent.update(sent)
        before, lock = txn.decided, self.store.locks().get(txn.primary)
        held = lock is not None and lock.start_ts == txn.start_ts
        done = self.store.run(
            txn.start_ts, lambda t, r: prewrite_all(t, r, self._props(txn), self._mutations(txn, sent))
        )
        if done.errors:
            txn.failed = txn.failed or not isinstance(done.errors[0], KeyIsLocked)
            assert before is None or not before or all(isinstance(e, KeyIsLocked) for e in done.errors)
            return
        assert before != 0 or txn.primary not in sent or held, (
            "a transaction that was rolled back prewrites its primary"
        )
        if done.one_pc_commit_ts:
            self.model.decide(txn, done.one_pc_commit_ts)
        if txn.phase != "prewrite":
            return
        for name in sent:
            txn.prewritten.setdefault(name, done.min_commit_ts)
        txn.fell_back = txn.fell_back or not done.min_commit_ts
        if txn.mode == "async" and set(txn.prewritten) == set(txn.keys) and not txn.fell_back and not txn.failed:
            self.model.decide(txn, max(txn.prewritten.values()))

    def _props(self, txn: ModelTxn) -> PrewriteProps:
        fast = None
        self.store.max_ts = max(self.store.max_ts, txn.start_ts if not txn.pessimistic else 0)
        if txn.mode != "2pc" and not txn.fell_back:
            limit = txn.start_ts + txn.commit_limit if txn.commit_limit else 0
            secondaries = tuple(txn.keys[1:]) if txn.mode == "async" else None
            fast = FastCommit(self.store.max_ts, limit, secondaries, txn.mode == "1pc")
        return PrewriteProps(
            txn.primary,
            txn.start_ts,
            txn.ttl_ms,
            min_commit_ts=txn.start_ts + 1,
            for_update_ts=max(txn.locked.values(), default=txn.start_ts) if txn.pessimistic else 0,
            is_pessimistic=txn.pessimistic,
            fast=fast,
        )

    @staticmethod
    def _mutations(txn: ModelTxn, names: list[bytes]) -> list[Mutation]:
        if not txn.pessimistic:
            return [txn.mutations[name] for name in names]
        check = PessimisticAction.DO_PESSIMISTIC_CHECK
        return [
            replace(
                txn.mutations[name],
                pessimistic_action=check,
                expected_for_update_ts=txn.locked[name] if name in txn.forced else 0,
            )
            for name in names
        ]

    def take_commit_ts(self, number: int) -> None:
        self._take_commit_ts(self.chosen(number)[0])

    def _take_commit_ts(self, txn: ModelTxn) -> None:
        ready = set(txn.prewritten) == set(txn.keys) and not txn.failed and txn.decided is None
        if ready and txn.phase in ("prewrite", "commit") and (txn.mode == "2pc" or txn.fell_back):
            txn.phase = "commit"
            txn.commit_timestamps.append(self.store.ts())

    def commit_primary(self, number: int) -> None:
        txn, _ = self.chosen(number)
        if txn.commit_timestamps:
            self._commit_primary(txn, txn.commit_timestamps[-1 - number % len(txn.commit_timestamps)])

    def _commit_primary(self, txn: ModelTxn, commit_ts: int) -> None:
        try:
            self.store.run(txn.start_ts, lambda t, r: commit(t, r, txn.primary, commit_ts))
        except CommitTsExpired:
            assert txn.decided is None
            self._take_commit_ts(txn)
        except TxnLockNotFound:
            self.model.decide(txn, 0)
        else:
            if txn.decided is None:
                self.model.decide(txn, commit_ts)
            assert txn.decided

    def give_up(self, number: int) -> None:
        """The client rolls back, the primary first, unless it has committed as far as it knows."""
        txn, _ = self.chosen(number)
        if txn.phase in ("commit", "rollback") or txn.decided or not (txn.failed or number % 4 == 0):
            return
        txn.phase = "rollback"
        try:
            self.store.run(txn.start_ts, lambda t, r: cleanup(t, r, txn.primary, 0, protect_rollback=True))
        except Committed as committed:
            self.model.decide(txn, committed.commit_ts)
        else:
            self.model.decide(txn, 0)

    def finish_key(self, number: int) -> None:
        """What follows from a known outcome, from whoever knows it."""
        txn, key = self.chosen(number)
        if txn.decided is not None:
            self._finish(txn, key)

    def _finish(self, txn: ModelTxn, key: bytes) -> None:
        decided = txn.decided
        if decided:
            self.store.run(txn.start_ts, lambda t, r: commit(t, r, key, decided))
        else:
            self.store.run(txn.start_ts, lambda t, r: cleanup(t, r, key, 0, protect_rollback=False))

    def heart_beat(self, number: int) -> None:
        txn, _ = self.chosen(number)
        with suppress(TxnNotFound):
            self.store.run(
                txn.start_ts, lambda t, r: pessimistic_lock.heart_beat(t, r, txn.primary, txn.ttl_ms + number % 20)
            )

    # ---- who meets their locks ----

    def ask_status(self, number: int, *, may_end: bool, resolving_pessimistic: bool) -> None:
        """Who met a lock asks the primary, and reads through it when it was promised that it commits later."""
        txn, key = self.chosen(number)
        if txn.start_ts not in [lock.start_ts for lock in self.store.locks().values()]:
            return
        reader_ts = self.store.ts(skip_ms=2000 if may_end and number % 3 == 0 else 0)
        status = self._status(txn, reader_ts, may_end=may_end, resolving_pessimistic=resolving_pessimistic)
        if status is None or status.lock is None or status.action is not StatusAction.MIN_COMMIT_TS_PUSHED:
            return
        self.read_at(key, reader_ts, frozenset([txn.start_ts]))

    def _status(
        self, txn: ModelTxn, reader_ts: int, *, may_end: bool, resolving_pessimistic: bool, force_sync: bool = False
    ) -> TxnStatus | None:
        now = self.store.ts()
        request = TxnStatusRequest(
            txn.primary,
            txn.start_ts,
            reader_ts,
            now,
            rollback_if_not_exist=may_end,
            force_sync_commit=force_sync,
            resolving_pessimistic_lock=resolving_pessimistic,
            verify_is_primary=True,
        )
        self.store.max_ts = max(self.store.max_ts, now)
        try:
            status = self.store.run(txn.start_ts, lambda t, r: check_txn_status(t, r, request))
        except TxnNotFound:
            assert not may_end
            assert txn.decided is None, "the primary of an ended transaction has forgotten it"
            return None
        if status.lock is None:
            undecided = (StatusAction.TTL_EXPIRE_PESSIMISTIC_ROLLBACK, StatusAction.LOCK_NOT_EXIST_DO_NOTHING)
            if status.action not in undecided:
                self.model.decide(txn, status.commit_ts)
            else:
                assert txn.decided is None or not txn.decided
        elif status.lock.use_async_commit and is_expired(status.lock, now) and may_end and not force_sync:
            self._settle_async(txn, status, reader_ts)
        return status

    def _settle_async(self, txn: ModelTxn, status: TxnStatus, reader_ts: int) -> None:
        """Nobody asks the client any more: the secondaries decide."""
        assert status.lock is not None
        commit_ts = status.lock.min_commit_ts
        self.store.max_ts = max(self.store.max_ts, txn.start_ts)
        for key in status.lock.secondaries:
            secondary = self.store.run(txn.start_ts, lambda t, r, key=key: check_secondary_lock(t, r, key))  # type: ignore[misc]
            if secondary.lock is None:
                self.model.decide(txn, secondary.commit_ts)
                return
            if not secondary.lock.use_async_commit:
                self._status(txn, reader_ts, may_end=True, resolving_pessimistic=False, force_sync=True)
                return
            commit_ts = max(commit_ts, secondary.lock.min_commit_ts)
        self.model.decide(txn, commit_ts)

    def read(self, key: bytes, back: int) -> None:
        self.read_at(key, max(self.store.ts() - back, self.safe_point), frozenset())

    def read_at(self, key: bytes, ts: int, resolved: frozenset[int]) -> None:
        """Read, compare with the model and keep the answer: it must be the same for ever."""
        self.store.max_ts = max(self.store.max_ts, ts)
        try:
            value = snapshot_get(self.store.reader(), key, ts, resolved)
        except KeyIsLocked:
            return
        assert value == self.model.value(key, ts)
        self.reads.append((key, ts, value))

    def collect_garbage(self, _number: int) -> None:
        """At the newest safe point that neither an open transaction nor a lock is in the way of."""
        locked = {lock.start_ts for lock in self.store.locks().values()}
        needed = [txn.start_ts for txn in self.live if txn.decided is None or txn.start_ts in locked]
        safe_point = min(needed, default=self.store.ts()) - 1
        if safe_point > self.safe_point:
            self.safe_point = safe_point
            self.live = [txn for txn in self.live if txn.start_ts > safe_point]
            self.reads = [read for read in self.reads if read[1] >= safe_point]
            self.store.collect_garbage(safe_point, self._check_newest)

    def _check_newest(self) -> None:
        reader = self.store.reader()
        for key in KEYS:
            if key not in self.store.locks():
                assert reader.get(keys.data_key(key), TS_MAX) == self.model.value(key, TS_MAX)

    def teardown(self) -> None:
        """Everybody who waits ends everything, messages come that were held up; then only the model's versions may be there."""
        self.store.ts(skip_ms=10_000)
        for txn in self.live:
            for _ in range(2):
                if txn.decided is None:
                    self._status(txn, self.store.ts(), may_end=True, resolving_pessimistic=False)
            assert txn.decided is not None
        for txn in self.live:
            for key in txn.keys:
                if key in txn.sent or txn.phase == "prewrite":
                    self._prewrite(txn, key)
                if key in txn.asked_at:
                    self._lock(txn, key, force=True, late=True)
        self.store.ts(skip_ms=10_000)
        for txn in self.live:
            self._status(txn, self.store.ts(), may_end=True, resolving_pessimistic=False)
            for key in txn.keys:
                self._finish(txn, key)
            record = self.store.reader().commit_record(keys.data_key(txn.primary), txn.start_ts)
            assert record is not None, "the primary has forgotten how its transaction ended"
            assert (record.commit_ts if record.committed else 0) == txn.decided
        assert not self.store.engine.scan(CF_LOCK, b"", b"")
        assert not self.store.orphans()
        reader = self.store.reader()
        for key, ts, value in self.reads:
            assert reader.get(keys.data_key(key), ts) == value, "a read is not repeatable"
        timestamps = [txn.decided for txn in self.model.txns.values() if txn.decided and txn.decided >= self.safe_point]
        for key in KEYS:
            for ts in (*timestamps, TS_MAX):
                assert reader.get(keys.data_key(key), ts) == self.model.value(key, ts), "a committed version is lost"


TestSnapshotIsolation = SnapshotIsolation.TestCase
TestSnapshotIsolation.settings = settings(
    max_examples=int(os.environ.get("MVCC_EXAMPLES", "60")), stateful_step_count=120, deadline=None
)
