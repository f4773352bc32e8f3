"""The named anomalies and the verdict of snapshot isolation on each, directly on the transaction rules.

Everything is one step of one transaction after another, so each test is one history. The same names at the client and in SQL:
tests/integration/test_anomalies.py and tests/integration/test_sql_anomalies.py.
"""

from __future__ import annotations

import pytest

from core_py.codec import ts as tso
from tikv_py.engine.memory import MemoryEngine
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.cleanup import cleanup
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.prewrite import Mutation, MutationOp, PessimisticAction, PrewriteProps
from tikv_py.mvcc.actions.prewrite_request import prewrite_all
from tikv_py.mvcc.errors import KeyIsLocked, WriteConflict
from tikv_py.mvcc.reader import MvccReader, snapshot_get
from tikv_py.mvcc.scanner import ScanRequest, scan
from tikv_py.mvcc.txn import MvccTxn

X, Y, Z = b"x", b"y", b"z"
MODES = pytest.mark.parametrize("pessimistic", [False, True], ids=["optimistic", "pessimistic"])


class Db:
    """An engine with x = y = 50, and a clock that gives out timestamps."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self._now_ms = 0
        setup = self.begin()
        setup.put(X, b"50")
        setup.put(Y, b"50")
        setup.commit()

    def ts(self) -> int:
        self._now_ms += 1
        return tso.compose(self._now_ms, 0)

    def begin(self, *, pessimistic: bool = False) -> Txn:
        return Txn(self, pessimistic=pessimistic)

    def values(self) -> list[bytes | None]:
        return [self.begin().get(key) for key in (X, Y)]


class Txn:
    """A transaction, whose client does no more than the protocol asks."""

    def __init__(self, db: Db, *, pessimistic: bool) -> None:
        self.db, self.pessimistic, self.start_ts = db, pessimistic, db.ts()
        self.for_update_ts = self.start_ts if pessimistic else 0
        self.writes: dict[bytes, bytes] = {}

    def _run(self, decide: object) -> object:
        txn = MvccTxn(self.start_ts)
        result = decide(txn, MvccReader(self.db.engine))  # type: ignore[operator]
        batch = self.db.engine.batch()
        for cf, key, value in txn.modifies:
            if value is None:
                batch.delete(cf, key)
            else:
                batch.put(cf, key, value)
        self.db.engine.write(batch)
        return result

    def get(self, key: bytes) -> bytes | None:
        return snapshot_get(MvccReader(self.db.engine), key, self.start_ts)

    def scan(self) -> list[bytes]:
        items = scan(self.db.engine, ScanRequest(b"z", b"{", self.start_ts, 100))
        assert not any(item.error for item in items)
        return [item.user_key for item in items]

    def lock(self, key: bytes) -> bytes | None:
        """SELECT ... FOR UPDATE of the newest state."""
        self.for_update_ts = self.db.ts()
        return self.lock_at(key, self.for_update_ts)

    def lock_at(self, key: bytes, for_update_ts: int) -> bytes | None:
        props = pessimistic_lock.LockProps(key, self.start_ts, for_update_ts, 1000)
        locked = self._run(lambda t, r: pessimistic_lock.acquire(t, r, props, key, should_not_exist=False))
        assert isinstance(locked, pessimistic_lock.LockedKey)
        return locked.value

    def put(self, key: bytes, value: bytes) -> None:
        self.writes[key] = value

    def prewrite(self) -> None:
        """Raises the first refusal."""
        action = PessimisticAction.DO_PESSIMISTIC_CHECK if self.pessimistic else PessimisticAction.SKIP
        primary = next(iter(self.writes))
        props = PrewriteProps(
            primary, self.start_ts, 1000, for_update_ts=self.for_update_ts, is_pessimistic=self.pessimistic
        )
        mutations = [
            Mutation(MutationOp.PUT, key, value, pessimistic_action=action) for key, value in self.writes.items()
        ]

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            for error in prewrite_all(txn, reader, props, mutations).errors:
                raise error

        self._run(decide)

    def commit(self) -> None:
        self.prewrite()
        self.finish(self.db.ts(), *self.writes)

    def finish(self, commit_ts: int, *names: bytes) -> None:
        for key in names:
            self._run(lambda t, r, key=key: commit(t, r, key, commit_ts))

    def rollback(self) -> None:
        for key in self.writes:
            self._run(lambda t, r, key=key: cleanup(t, r, key, 0, protect_rollback=False))


@MODES
def test_dirty_write(pessimistic: bool) -> None:
    """Nobody writes over what is not committed yet."""
    db = Db()
    one, two = db.begin(pessimistic=pessimistic), db.begin(pessimistic=pessimistic)
    for txn, value in ((one, b"1"), (two, b"2")):
        txn.put(X, value)
        txn.put(Y, value)
    if pessimistic:
        one.lock(X)
        one.lock(Y)
        with pytest.raises(KeyIsLocked):
            two.lock(X)
    one.prewrite()
    if not pessimistic:
        with pytest.raises(KeyIsLocked):
            two.prewrite()
    one.finish(db.ts(), X, Y)
    with pytest.raises(WriteConflict):
        two.lock_at(X, two.start_ts) if pessimistic else two.prewrite()
    assert db.values() == [b"1", b"1"]


@MODES
def test_dirty_read(pessimistic: bool) -> None:
    """What is not committed is not seen: a reader waits, or sees what was, and a rollback leaves no trace."""
    db = Db()
    one, before = db.begin(pessimistic=pessimistic), db.begin()
    one.put(X, b"1")
    if pessimistic:
        one.lock(X)
        assert db.values() == [b"50", b"50"]
    one.prewrite()
    for reader in (before, db.begin()):
        with pytest.raises(KeyIsLocked):
            reader.get(X)
    one.rollback()
    assert [before.get(X), *db.values()] == [b"50", b"50", b"50"]


@MODES
def test_lost_update(pessimistic: bool) -> None:
    """Of two that read and write, the second fails, or reads what the first wrote."""
    db = Db()
    one, two = db.begin(pessimistic=pessimistic), db.begin(pessimistic=pessimistic)
    assert one.get(X) == two.get(X) == b"50"
    one.put(X, b"51")
    if pessimistic:
        one.lock(X)
    one.commit()
    if pessimistic:
        with pytest.raises(WriteConflict):
            two.lock_at(X, two.start_ts)
        assert two.lock(X) == b"51"
        two.put(X, b"61")
        two.commit()
        assert db.values()[0] == b"61"
    else:
        two.put(X, b"60")
        with pytest.raises(WriteConflict):
            two.commit()
        assert db.values()[0] == b"51"


def test_read_skew() -> None:
    """Two keys that are written together are seen together, also between the phases of the commit."""
    db = Db()
    reader = db.begin()
    assert reader.get(X) == b"50"
    writer = db.begin()
    writer.put(X, b"0")
    writer.put(Y, b"100")
    writer.prewrite()
    commit_ts = db.ts()
    after = db.begin()
    writer.finish(commit_ts, X)
    assert after.get(X) == b"0"
    with pytest.raises(KeyIsLocked):
        after.get(Y)
    writer.finish(commit_ts, Y)
    assert reader.get(Y) == b"50"
    assert after.get(Y) == b"100"


def test_fuzzy_read() -> None:
    """A value read twice is the same twice."""
    db = Db()
    reader = db.begin()
    assert reader.get(X) == b"50"
    for number in (b"1", b"2"):
        writer = db.begin()
        writer.put(X, number)
        writer.commit()
        assert reader.get(X) == b"50"
    assert db.values()[0] == b"2"


def test_phantom() -> None:
    """A range read twice has the same keys twice."""
    db = Db()
    reader = db.begin()
    assert reader.scan() == [X, Y]
    writer = db.begin()
    writer.put(Z, b"50")
    writer.commit()
    assert reader.scan() == [X, Y]
    assert db.begin().scan() == [X, Y, Z]


@MODES
def test_write_skew(pessimistic: bool) -> None:
    """Allowed: two that read the same and write different keys. Locking what was read prevents it."""
    db = Db()
    one, two = db.begin(pessimistic=pessimistic), db.begin(pessimistic=pessimistic)
    for txn, key in ((one, X), (two, Y)):
        assert [txn.get(X), txn.get(Y)] == [b"50", b"50"]
        if pessimistic:
            txn.lock(key)
        txn.put(key, b"-50")
    one.commit()
    two.commit()
    assert db.values() == [b"-50", b"-50"]

    one, two = db.begin(pessimistic=True), db.begin(pessimistic=True)
    assert [one.lock(X), one.lock(Y)] == [b"-50", b"-50"]
    with pytest.raises(KeyIsLocked):
        two.lock(X)
