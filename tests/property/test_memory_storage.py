"""The memory cluster's storage answers every command as the stores' own MVCC actions do, whatever came before.

Where they may differ: texts, and rollback records that stores collapse (the memory storage remembers all), which is why the
oracle protects them.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.codec.ts import TS_MAX
from core_py.sim.clock import LoopClock
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.unit.client.mvcc_storage import MvccStorage
from tikv_py.client.testing import percolator
from tikv_py.client.testing.storage import MemoryStorage

MS = 1 << 18
KEYS = [b"a", b"b", b"c"]
ALL = (b"", b"")
ACTIONS = [percolator.SKIP, percolator.CHECK, percolator.CONSTRAINT]

keys = st.sampled_from(KEYS)
stamps = st.integers(1, 9).map(lambda ms: ms * MS)
read_stamps = st.one_of(stamps, st.just(int(TS_MAX)))
key_lists = st.lists(keys, min_size=1, max_size=3, unique=True)
values = st.sampled_from([b"x", b"y", b"z" * 300])


@st.composite
def prewrites(draw: st.DrawFn) -> tuple[str, Any]:
    start_ts = draw(stamps)
    pessimistic = draw(st.booleans())
    chosen = draw(key_lists)
    request = pb.PrewriteRequest(
        primary_lock=draw(st.sampled_from([*chosen, b"a"])),
        start_version=start_ts,
        lock_ttl=draw(st.integers(0, 5)),
        txn_size=len(chosen),
        for_update_ts=start_ts + draw(st.integers(0, 3)) * MS if pessimistic else 0,
        min_commit_ts=draw(st.sampled_from([0, start_ts + 1])),
    )
    for key in chosen:
        op = draw(st.sampled_from([pb.Put, pb.Del, pb.Lock, pb.Insert, pb.CheckNotExists]))
        request.mutations.add(op=op, key=key, value=draw(values) if op in (pb.Put, pb.Insert) else b"")
        if pessimistic:
            request.pessimistic_actions.append(draw(st.sampled_from(ACTIONS)))
    return "KvPrewrite", request


@st.composite
def others(draw: st.DrawFn) -> tuple[str, Any]:
    start_ts, key, some = draw(stamps), draw(keys), draw(key_lists)
    later = start_ts + draw(st.integers(1, 4)) * MS
    version = draw(read_stamps)
    low, high = sorted((draw(keys), draw(keys)))
    return draw(
        st.sampled_from(
            [
                ("KvGet", pb.GetRequest(key=key, version=version)),
                ("KvBatchGet", pb.BatchGetRequest(keys=some, version=version)),
                ("KvScan", pb.ScanRequest(start_key=low, end_key=high, version=version, limit=2)),
                ("KvScan", pb.ScanRequest(start_key=b"", version=version, limit=9, reverse=True)),
                ("KvCommit", pb.CommitRequest(start_version=start_ts, keys=some, commit_version=later)),
                ("KvBatchRollback", pb.BatchRollbackRequest(start_version=start_ts, keys=some)),
                ("KvTxnHeartBeat", pb.TxnHeartBeatRequest(primary_lock=key, start_version=start_ts, advise_lock_ttl=4)),
                ("KvResolveLock", pb.ResolveLockRequest(start_version=start_ts, commit_version=0)),
                ("KvResolveLock", pb.ResolveLockRequest(start_version=start_ts, commit_version=0, keys=some)),
                (
                    "KVPessimisticRollback",
                    pb.PessimisticRollbackRequest(start_version=start_ts, for_update_ts=later, keys=some),
                ),
                ("KvCheckSecondaryLocks", pb.CheckSecondaryLocksRequest(keys=some, start_version=start_ts)),
            ]
        )
    )


@st.composite
def checks(draw: st.DrawFn) -> tuple[str, Any]:
    start_ts = draw(stamps)
    return "KvCheckTxnStatus", pb.CheckTxnStatusRequest(
        primary_key=draw(keys),
        lock_ts=start_ts,
        caller_start_ts=draw(st.one_of(st.just(0), read_stamps)),
        current_ts=start_ts + draw(st.integers(0, 8)) * MS,
        rollback_if_not_exist=draw(st.booleans()),
        resolving_pessimistic_lock=draw(st.booleans()),
        verify_is_primary=draw(st.booleans()),
    )


@st.composite
def reservations(draw: st.DrawFn) -> tuple[str, Any]:
    start_ts = draw(stamps)
    chosen = draw(key_lists)
    request = pb.PessimisticLockRequest(
        primary_lock=draw(st.sampled_from([*chosen, b"a"])),
        start_version=start_ts,
        for_update_ts=start_ts + draw(st.integers(0, 4)) * MS,
        lock_ttl=draw(st.integers(0, 5)),
        wait_timeout=-1,
        return_values=True,
    )
    for key in chosen:
        absent = pb.NotExist if draw(st.integers(0, 4)) == 0 else pb.Assertion.Value("None")
        request.mutations.add(op=pb.PessimisticLock, key=key, assertion=absent)
    return "KvPessimisticLock", request


commands = st.one_of(prewrites(), prewrites(), reservations(), checks(), others(), others(), others())


def meaning(response: Any) -> str:
    """The response without texts."""
    errors = list(getattr(response, "errors", []))
    if "error" in response.DESCRIPTOR.fields_by_name and response.HasField("error"):
        errors.append(response.error)
    for error in errors:
        if error.abort:
            error.abort = "aborted"
        if error.retryable:
            error.retryable = "retry"
    if response.DESCRIPTOR.name == "PessimisticLockResponse" and response.errors:
        del response.values[:], response.not_founds[:]
    if response.DESCRIPTOR.name == "CheckTxnStatusResponse" and response.action == pb.LockNotExistRollback:
        response.action = pb.NoAction
    if response.DESCRIPTOR.name == "CheckTxnStatusResponse" and response.error.HasField("txn_not_found"):
        return "rolled back or unknown"
    if response.DESCRIPTOR.name == "CheckTxnStatusResponse" and not response.ByteSize():
        return "rolled back or unknown"
    return str(response)


@settings(max_examples=150, deadline=None)
@given(st.lists(commands, min_size=1, max_size=25))
def test_same_answers_as_the_stores(script: list[tuple[str, Any]]) -> None:
    ours, theirs = MemoryStorage(LoopClock()), MvccStorage(protect_rollbacks=True)
    for name, request in script:
        copy = type(request)()
        copy.CopyFrom(request)
        assert meaning(ours.run(name, request, ALL)) == meaning(theirs.run(name, copy, ALL)), name
        assert {k: v.start_ts for k, v in ours.locks().items()} == {k: v.start_ts for k, v in theirs.locks().items()}


@pytest.mark.parametrize("name", ["Coprocessor", "KvFlush"])
def test_what_is_not_there_says_so(name: str) -> None:
    with pytest.raises(Exception, match="does not serve"):
        MemoryStorage(LoopClock()).run(name, None, ALL)
