"""Failpoints in commands: what is refused changes nothing, what is delayed keeps its order, what is lost can be found out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from core_py.codec import row, tablecodec
from core_py.errors import DeadlineExceeded, RpcError
from core_py.failpoints import FailPointPanic
from protos.kvproto import coprocessor_pb2, tikvpb_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.tipb import executor_pb2, schema_pb2, select_pb2
from tests.support.store_rpc import StoreRpc, with_store

LOCKED, START_TS, LATER_TS = b"k", 10 << 18, 20 << 18
EXPIRED_TS = START_TS + (60_000 << 18)


def locking(key: bytes, start_ts: int, wait_timeout: int = -1) -> pb.PessimisticLockRequest:
    request = pb.PessimisticLockRequest(
        primary_lock=key,
        start_version=start_ts,
        for_update_ts=start_ts,
        lock_ttl=3000,
        is_first_lock=True,
        wait_timeout=wait_timeout,
    )
    request.mutations.add(op=pb.PessimisticLock, key=key)
    return request


def prewriting(key: bytes, start_ts: int) -> pb.PrewriteRequest:
    request = pb.PrewriteRequest(primary_lock=key, start_version=start_ts, lock_ttl=3000)
    request.mutations.add(op=pb.Put, key=key, value=b"v")
    return request


COUNT_ROWS = select_pb2.DAGRequest(
    executors=[
        executor_pb2.Executor(
            tp=executor_pb2.TypeTableScan,
            tbl_scan=executor_pb2.TableScan(
                table_id=1, columns=[schema_pb2.ColumnInfo(column_id=1, tp=8, pk_handle=True, flag=3)]
            ),
        )
    ],
    output_offsets=[0],
)


def counting(read_ts: int) -> coprocessor_pb2.Request:
    request = coprocessor_pb2.Request(tp=103, data=COUNT_ROWS.SerializeToString(), start_ts=read_ts)
    request.ranges.add(start=tablecodec.record_key(1, 0), end=tablecodec.record_key(1, 1000))
    return request


LONGER_LIFE = pb.TxnHeartBeatRequest(primary_lock=LOCKED, start_version=START_TS, advise_lock_ttl=9000)
IS_IT_EXPIRED = pb.CheckTxnStatusRequest(
    primary_key=LOCKED, lock_ts=START_TS, caller_start_ts=LATER_TS, current_ts=EXPIRED_TS
)
WRITES: list[tuple[str, str, Any]] = [
    ("kv_prewrite", "KvPrewrite", prewriting(b"other", LATER_TS)),
    ("kv_commit", "KvCommit", pb.CommitRequest(start_version=START_TS, keys=[LOCKED], commit_version=LATER_TS)),
    ("kv_batch_rollback", "KvBatchRollback", pb.BatchRollbackRequest(start_version=START_TS, keys=[LOCKED])),
    ("kv_cleanup", "KvCleanup", pb.CleanupRequest(start_version=START_TS, key=LOCKED)),
    ("kv_pessimistic_lock", "KvPessimisticLock", locking(b"other", LATER_TS)),
    ("kv_txn_heart_beat", "KvTxnHeartBeat", LONGER_LIFE),
    ("kv_check_txn_status", "KvCheckTxnStatus", IS_IT_EXPIRED),
    ("kv_resolve_lock_batch", "KvResolveLock", pb.ResolveLockRequest(start_version=START_TS, commit_version=LATER_TS)),
    ("scheduler_before_latch", "KvPrewrite", prewriting(b"other", LATER_TS)),
    ("scheduler_after_latch", "KvPrewrite", prewriting(b"other", LATER_TS)),
    ("scheduler_before_write", "KvPrewrite", prewriting(b"other", LATER_TS)),
    ("delete_range_before_write", "KvDeleteRange", pb.DeleteRangeRequest(start_key=b"a", end_key=b"z")),
    ("raw_write", "RawPut", pb.RawPutRequest(key=b"raw", value=b"v")),
    ("raw_write", "RawDelete", pb.RawDeleteRequest(key=b"old")),
    ("raw_cas_after_latch", "RawCompareAndSwap", pb.RawCASRequest(key=b"raw", value=b"v", previous_not_exist=True)),
]  # fmt: skip


@pytest.mark.parametrize(("point", "command", "request_"), WRITES, ids=[f"{w[0]}-{w[1]}" for w in WRITES])
def test_a_refused_write_changes_nothing_and_can_be_sent_again(point: str, command: str, request_: Any) -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.prewrite(LOCKED, b"v", START_TS)
        await rpc.call("RawPut", pb.RawPutRequest(key=b"old", value=b"v"))
        before = rpc.data()
        rpc.fail.configure(point, "1*return(on purpose)")
        refused = await rpc.call(command, request_)
        assert "on purpose" in refused.region_error.server_is_busy.reason
        assert rpc.data() == before
        done = await rpc.call(command, request_)
        assert not done.HasField("region_error")
        assert rpc.data() != before

    with_store(body)


def test_a_refused_pessimistic_rollback_leaves_the_lock() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(b"k", START_TS))
        release = pb.PessimisticRollbackRequest(start_version=START_TS, for_update_ts=START_TS, keys=[b"k"])
        rpc.fail.configure("kv_pessimistic_rollback", "1*return")
        refused = await rpc.call("KVPessimisticRollback", release)
        assert refused.region_error.HasField("server_is_busy")
        assert len(rpc.data()["lock"]) == 1
        await rpc.call("KVPessimisticRollback", release)
        assert rpc.data()["lock"] == []

    with_store(body)


def test_commands_of_one_key_wait_for_the_one_that_holds_the_latch() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("scheduler_after_latch", "1*pause")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(rpc.call("KvPrewrite", prewriting(b"k", START_TS)))
            await asyncio.sleep(0.1)
            second = group.create_task(rpc.call("KvPrewrite", prewriting(b"k", LATER_TS)))
            other = group.create_task(rpc.call("KvPrewrite", prewriting(b"elsewhere", LATER_TS)))
            await asyncio.sleep(5)
            assert (first.done(), second.done(), other.done()) == (False, False, True)
            rpc.fail.remove("scheduler_after_latch")
        assert not first.result().errors
        assert second.result().errors[0].locked.lock_version == START_TS

    with_store(body)


def test_an_answer_lost_after_the_write_is_undetermined_and_the_write_stays() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("scheduler_after_write", "1*return")
        lost = await rpc.call("KvPrewrite", prewriting(b"k", START_TS))
        assert lost.region_error.HasField("undetermined_result")
        assert len(rpc.data()["lock"]) == 1
        again = await rpc.call("KvPrewrite", prewriting(b"k", START_TS))
        assert not again.errors
        await rpc.commit(b"k", START_TS, LATER_TS)

    with_store(body)


async def timed(call: Awaitable[Any]) -> tuple[Any, float]:
    began = asyncio.get_running_loop().time()
    result = await call
    return result, asyncio.get_running_loop().time() - began


def test_lock_waits_can_be_refused_or_their_wakening_lost() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(b"k", START_TS))
        rpc.fail.configure("lock_wait_begin", "return")
        answer, seconds = await timed(rpc.call("KvPessimisticLock", locking(b"k", LATER_TS, 800)))
        assert answer.errors[0].locked.lock_version == START_TS
        assert seconds < 0.1
        rpc.fail.remove("lock_wait_begin")

        async def release() -> None:
            await asyncio.sleep(0.2)
            await rpc.call(
                "KVPessimisticRollback",
                pb.PessimisticRollbackRequest(start_version=START_TS, for_update_ts=START_TS, keys=[b"k"]),
            )

        rpc.fail.configure("lock_waiters_wake", "1*return")
        async with asyncio.TaskGroup() as group:
            group.create_task(release())
            answer, seconds = await timed(rpc.call("KvPessimisticLock", locking(b"k", LATER_TS, 800)))
        assert answer.errors[0].HasField("locked"), "nobody woke it, so its time ran out"
        assert seconds == pytest.approx(0.8)
        answer = await rpc.call("KvPessimisticLock", locking(b"k", LATER_TS, 800))
        assert not answer.errors

    with_store(body)


def test_a_read_without_the_lease_asks_a_quorum_and_can_fail_there() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("RawPut", pb.RawPutRequest(key=b"k", value=b"v"))
        rpc.fail.configure("read_index_wait", "return(no quorum today)")
        assert (await rpc.call("RawGet", pb.RawGetRequest(key=b"k"))).value == b"v", "the lease answers"
        rpc.fail.configure("lease_read", "return")
        refused = await rpc.call("RawGet", pb.RawGetRequest(key=b"k"))
        assert refused.region_error.HasField("read_index_not_ready")
        assert "no quorum today" in refused.region_error.message
        rpc.fail.remove("read_index_wait")
        assert (await rpc.call("RawGet", pb.RawGetRequest(key=b"k"))).value == b"v"

    with_store(body)


def test_a_coprocessor_view_is_of_the_moment_it_was_frozen() -> None:
    async def put(rpc: StoreRpc, handle: int, start_ts: int) -> None:
        key = tablecodec.record_key(1, handle)
        await rpc.prewrite(key, row.encode([]), start_ts)
        await rpc.commit(key, start_ts, start_ts + 1)

    def rows(response: coprocessor_pb2.Response) -> int:
        return sum(select_pb2.SelectResponse.FromString(response.data).output_counts)

    async def body(rpc: StoreRpc) -> None:
        await put(rpc, 1, START_TS)
        rpc.fail.configure("coprocessor_before_read", "1*return(later)")
        busy = await rpc.call("Coprocessor", counting(LATER_TS))
        assert "later" in busy.region_error.server_is_busy.reason

        rpc.fail.configure("coprocessor_view_frozen", "1*return(broken)")
        assert (await rpc.call("Coprocessor", counting(LATER_TS))).other_error == "failpoint: broken"

        rpc.fail.configure("coprocessor_view_frozen", "pause")
        async with asyncio.TaskGroup() as group:
            paused = group.create_task(rpc.call("Coprocessor", counting(LATER_TS)))
            await asyncio.sleep(1)
            await put(rpc, 2, START_TS + 5)
            assert not paused.done()
            rpc.fail.remove("coprocessor_view_frozen")
        assert rows(paused.result()) == 1
        assert rows(await rpc.call("Coprocessor", counting(LATER_TS))) == 2

    with_store(body)


def batch_of_gets(rpc: StoreRpc, *ids: int) -> tikvpb_pb2.BatchCommandsRequest:
    request = tikvpb_pb2.BatchCommandsRequest(request_ids=ids)
    for _ in ids:
        request.requests.add(RawGet=pb.RawGetRequest(key=b"k", context=rpc.context()))
    return request


def test_batched_commands_that_were_dropped_stay_unanswered_and_later_ones_do_not() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("batch_commands_receive", "1*return")
        stream = rpc.stream("BatchCommands")
        await stream.send(batch_of_gets(rpc, 1, 2))
        await stream.send(batch_of_gets(rpc, 3))
        assert list((await stream.receive()).request_ids) == [3]
        stream.cancel()

    with_store(body)


def test_a_batch_stream_can_end_with_its_answers_unsent() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("batch_commands_send", "1*return(cut)")
        stream = rpc.stream("BatchCommands")
        await stream.send(batch_of_gets(rpc, 1))
        with pytest.raises(RpcError, match="cut"):
            await stream.receive()
        again = rpc.stream("BatchCommands")
        await again.send(batch_of_gets(rpc, 1))
        assert list((await again.receive()).request_ids) == [1]
        again.cancel()

    with_store(body)


def test_a_panic_in_a_command_is_not_answered_as_a_failed_command(broken_invariants: list[BaseException]) -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("scheduler_before_write", "panic(on purpose)")
        stream = rpc.stream("BatchCommands")
        request = tikvpb_pb2.BatchCommandsRequest(request_ids=[1])
        prewrite = prewriting(b"k", START_TS)
        prewrite.context.CopyFrom(rpc.context())
        request.requests.add(Prewrite=prewrite)
        await stream.send(request)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await stream.receive()
        stream.cancel()
        assert rpc.data()["lock"] == []

    with_store(body)
    assert [type(error) for error in broken_invariants] == [FailPointPanic]
    broken_invariants.clear()


def test_a_delayed_command_holds_up_its_caller_only() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("kv_commit", "delay(30000)")
        await rpc.prewrite(b"k", b"v", START_TS)
        commit = pb.CommitRequest(start_version=START_TS, keys=[b"k"], commit_version=LATER_TS)
        with pytest.raises(DeadlineExceeded):
            await rpc.call("KvCommit", commit, timeout_s=1)
        get = pb.GetRequest(key=b"k", version=LATER_TS + 1)
        assert (await rpc.call("KvGet", get)).error.HasField("locked")
        rpc.fail.remove("kv_commit")
        await rpc.commit(b"k", START_TS, LATER_TS)
        assert (await rpc.call("KvGet", get)).value == b"v"

    with_store(body)
