"""A store with more work than it may hold says so at once, and answers nobody whose deadline has passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core_py.codec import tablecodec
from core_py.ports import CallContext
from core_py.runtime.config import ByteSize
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import coprocessor_pb2, tikvpb_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.tipb import executor_pb2, schema_pb2, select_pb2
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.server import batch_commands, dispatch
from tikv_py.server.batch_commands import BatchCommandsService
from tikv_py.server.config import CoprocessorConfig, StorageConfig, TikvConfig
from tikv_py.server.dispatch import Command, Dispatcher
from tikv_py.server.metrics import StoreMetrics
from tikv_py.txn.scheduler import COMMAND_OVERHEAD


def prewrite(key: bytes, start_ts: int, *, value: bytes = b"v", allowed_ms: int = 0) -> pb.PrewriteRequest:
    request = pb.PrewriteRequest(primary_lock=key, start_version=start_ts, lock_ttl=3000)
    request.mutations.add(op=pb.Put, key=key, value=value)
    request.context.max_execution_duration_ms = allowed_ms
    return request


def busy(response: Any) -> str:
    return str(response.region_error.server_is_busy.reason)


def test_the_scheduler_refuses_commands_beyond_its_threshold() -> None:
    async def test(rpc: StoreRpc) -> None:
        rpc.fail.configure("scheduler_after_latch", "1*pause")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(rpc.call("KvPrewrite", prewrite(b"a", 10, value=bytes(4000))))
            await asyncio.sleep(0.1)
            refused = await rpc.call("KvPrewrite", prewrite(b"b", 11, value=bytes(4000)))
            assert busy(refused).startswith("scheduler is busy: commands of 4")
            small = await rpc.call("KvPrewrite", prewrite(b"c", 12))
            assert not small.HasField("region_error")
            rpc.fail.remove("scheduler_after_latch")
            assert not (await first).HasField("region_error")
        again = await rpc.call("KvPrewrite", prewrite(b"b", 11, value=bytes(4000)))
        assert not again.HasField("region_error")
        scheduler = rpc.server.services.scheduler  # type: ignore[union-attr]
        assert scheduler.held_bytes == 0

    limit = StorageConfig(scheduler_pending_write_threshold=ByteSize(6000 + COMMAND_OVERHEAD))
    with_store(test, settings=TikvConfig(storage=limit))


def test_a_command_whose_deadline_passed_while_it_waited_for_its_latch_does_nothing() -> None:
    async def test(rpc: StoreRpc) -> None:
        rpc.fail.configure("scheduler_after_latch", "1*delay(500)")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(rpc.call("KvPrewrite", prewrite(b"k", 10)))
            await asyncio.sleep(0.05)
            late = tasks.create_task(rpc.call("KvPrewrite", prewrite(b"k", 20, allowed_ms=100)))
            in_time = tasks.create_task(rpc.call("KvPrewrite", prewrite(b"k", 30, allowed_ms=5000)))
        assert not first.result().errors
        assert busy(late.result()) == "deadline is exceeded"
        assert in_time.result().errors[0].locked.lock_version == 10

    with_store(test)


def test_a_read_whose_deadline_passed_while_it_waited_for_a_quorum_is_not_answered() -> None:
    async def test(rpc: StoreRpc) -> None:
        rpc.fail.configure("lease_read", "return")
        rpc.fail.configure("read_index_wait", "delay(500)")

        def get(allowed_ms: int) -> pb.GetRequest:
            request = pb.GetRequest(key=b"k", version=100)
            request.context.max_execution_duration_ms = allowed_ms
            return request

        assert (await rpc.call("KvGet", get(1000))).not_found, "waits no longer than it must"
        assert busy(await rpc.call("KvGet", get(100))) == "deadline is exceeded"

    with_store(test)


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


def dag_request(allowed_ms: int = 0) -> coprocessor_pb2.Request:
    request = coprocessor_pb2.Request(tp=103, data=COUNT_ROWS.SerializeToString(), start_ts=100)
    request.ranges.add(start=tablecodec.record_key(1, 0), end=tablecodec.record_key(1, 1000))
    request.context.max_execution_duration_ms = allowed_ms
    return request


def test_the_coprocessor_refuses_requests_beyond_its_number_and_those_that_are_late() -> None:
    async def test(rpc: StoreRpc) -> None:
        assert not (await rpc.call("Coprocessor", dag_request())).other_error
        rpc.fail.configure("coprocessor_before_read", "2*delay(500)")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(rpc.call("Coprocessor", dag_request()))
            late = tasks.create_task(rpc.call("Coprocessor", dag_request(allowed_ms=100)))
            await asyncio.sleep(0.1)
            refused = await rpc.call("Coprocessor", dag_request())
            assert busy(refused) == "coprocessor: 2 requests are running or waiting"
        assert not running.result().HasField("region_error")
        assert busy(late.result()) == "deadline is exceeded"
        assert not (await rpc.call("Coprocessor", dag_request())).HasField("region_error")

    with_store(test, settings=TikvConfig(coprocessor=CoprocessorConfig(max_tasks=2)))


async def wait_for(request: Any) -> pb.RawGetResponse:
    """Takes a second; an empty key gets no answer."""
    await asyncio.sleep(1)
    return pb.RawGetResponse(value=request.key)


async def fail_without_field(_request: Any) -> Any:
    await asyncio.sleep(1)
    raise KeyError("a bug")


def dispatcher() -> Dispatcher:
    commands = {
        "RawGet": Command("RawGet", pb.RawGetResponse, wait_for),
        "KvPrewrite": Command("KvPrewrite", pb.PrewriteResponse, fail_without_field),
    }
    return Dispatcher(commands, StoreMetrics(CollectorRegistry()), LoopClock())


def test_unary_commands_count_towards_the_limit_of_running_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TASKS_MAX", 3)

    async def main() -> None:
        served = dispatcher()
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(served.unary("RawGet", pb.RawGetRequest(key=b"%d" % at))) for at in range(5)]
        reasons = [busy(done.result()) for done in calls]
        assert reasons == ["", "", "", "3 commands are running", "3 commands are running"]
        await served.close()

    run_virtual(main())


def test_a_stream_is_not_read_from_while_too_many_of_its_commands_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_commands, "OUTBOX_MAX", 20)
    taken = 0

    async def requests() -> AsyncIterator[Any]:
        nonlocal taken
        for number in range(10):
            request = tikvpb_pb2.BatchCommandsRequest()
            for at in range(9):
                request.requests.add(RawGet=pb.RawGetRequest(key=b"k"))
                request.request_ids.append(number * 10 + at)
            request.requests.add(Prewrite=pb.PrewriteRequest())  # stays unanswered
            request.request_ids.append(number * 10 + 9)
            taken += 1
            yield request

    async def main() -> None:
        served = dispatcher()
        service = BatchCommandsService(served, frozenset({"RawGet", "KvPrewrite"}))
        answered: set[int] = set()

        async def read() -> None:
            async for message in service.serve(requests(), CallContext()):
                answered.update(message.request_ids)

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            await asyncio.sleep(0.5)
            assert taken == 2, "two messages of ten commands"
            assert not answered
            await asyncio.sleep(10)
            assert taken == 10, "also what stays unanswered makes room"
            reading.cancel()
        await served.close()

    run_virtual(main())
