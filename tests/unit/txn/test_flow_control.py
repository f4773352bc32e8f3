"""Flow control over a database that tells what it is told to: slower, refused, faster, and who is let through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core_py.region_errors import ServerIsBusy
from core_py.runtime.config import ByteSize
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.engine.port import Pressure
from tikv_py.txn.flow_control import (
    DELAY_MAX_S,
    RATE_MAX_BYTES_S,
    RATE_MIN_BYTES_S,
    SLOWER,
    START_MIN_BYTES_S,
    FlowControlConfig,
    FlowController,
)

GIB = 1 << 30
WELL = {"default": Pressure(1, 4, 0), "write": Pressure(0, 0, 0)}
NOBODY = pb.Context()


def run(test: Callable[[FlowController], Awaitable[None]], config: FlowControlConfig | None = None) -> None:
    async def main() -> None:
        await test(FlowController(LoopClock(), config))

    run_virtual(main())


@pytest.mark.parametrize(
    "worse", [Pressure(6, 0, 0), Pressure(0, 21, 0), Pressure(0, 0, 200 * GIB)], ids=["memtables", "l0", "pending"]
)
def test_beyond_a_soft_limit_writes_pass_at_the_rate_they_had_and_less(worse: Pressure) -> None:
    async def test(flow: FlowController) -> None:
        for _ in range(10):
            await asyncio.sleep(1)
            flow.seen_bytes += 8 << 20
            assert flow.observe(WELL) == ""
        assert not flow.throttles
        assert flow.observe({"default": worse, "write": WELL["write"]}) == "limit"
        assert flow.throttles
        assert flow.rate_bytes_s == pytest.approx(8 << 20, rel=0.01)
        assert flow.observe({"default": worse}) == "slower"
        assert flow.rate_bytes_s == pytest.approx(SLOWER * (8 << 20), rel=0.01)
        for _ in range(100):
            flow.observe({"default": worse})
        assert flow.rate_bytes_s == RATE_MIN_BYTES_S

    run(test)


def test_at_a_limit_nothing_happens_yet() -> None:
    async def test(flow: FlowController) -> None:
        assert flow.observe({"default": Pressure(5, 20, 192 * GIB)}) == ""
        assert not flow.throttles

    run(test)


def test_while_it_catches_up_the_rate_stays_and_then_grows_until_there_is_no_limit() -> None:
    async def test(flow: FlowController) -> None:
        assert flow.observe({"default": Pressure(0, 60, 0)}) == "limit"
        assert flow.rate_bytes_s == START_MIN_BYTES_S, "a restarted store does not begin at nothing"
        assert flow.observe({"default": Pressure(0, 40, 0)}) == ""
        assert flow.rate_bytes_s == START_MIN_BYTES_S
        seen = []
        while flow.throttles:
            seen.append(flow.observe(WELL))
            assert (flow.rate_bytes_s or 0) <= RATE_MAX_BYTES_S
        assert seen[-1] == "free"
        assert set(seen[:-1]) == {"faster"}
        assert len(seen) < 30
        await flow.admit(1 << 40, NOBODY)

    run(test)


def test_the_throughput_is_the_limit_and_single_writes_are_delayed_evenly() -> None:
    async def test(flow: FlowController) -> None:
        flow.observe({"default": Pressure(9, 0, 0)})
        rate, amount, clock = flow.rate_bytes_s, 4096, LoopClock()
        assert rate is not None
        began, passed, gaps = clock.monotonic(), 0, []
        while clock.monotonic() < began + 5:
            before = clock.monotonic()
            await flow.admit(amount, NOBODY)
            gaps.append(clock.monotonic() - before)
            passed += amount
        assert passed / 5 == pytest.approx(rate, rel=0.05)
        assert max(gaps) < 0.1

    run(test)


def test_nobody_waits_longer_than_the_limit_or_its_deadline_and_who_is_refused_is_not_charged() -> None:
    async def test(flow: FlowController) -> None:
        flow.observe({"default": Pressure(9, 0, 0)})
        clock, began = LoopClock(), LoopClock().monotonic()
        await flow.admit(10 * START_MIN_BYTES_S, NOBODY)  # too large for any bucket, but the first
        assert clock.monotonic() - began == pytest.approx(DELAY_MAX_S, abs=0.01)
        for _ in range(3):
            with pytest.raises(ServerIsBusy, match="limited to 1048576 bytes per second") as refused:
                await flow.admit(1000, NOBODY)
            assert 7000 < refused.value.backoff_ms < 8100
        await asyncio.sleep(refused.value.backoff_ms / 1000)
        await flow.admit(500_000, NOBODY)
        with pytest.raises(ServerIsBusy):
            await asyncio.gather(
                flow.admit(1_000_000, NOBODY), flow.admit(1000, pb.Context(max_execution_duration_ms=100))
            )

    run(test)


def test_beyond_the_hard_limit_writes_are_refused_until_it_is_behind() -> None:
    async def test(flow: FlowController) -> None:
        flow.observe({"default": Pressure(0, 0, 1024 * GIB)})
        with pytest.raises(ServerIsBusy, match="wait to be compacted, the limit is") as refused:
            await flow.admit(1, NOBODY)
        assert refused.value.backoff_ms == 1000
        flow.observe({"default": Pressure(0, 0, 1000 * GIB)})
        await flow.admit(1, NOBODY)

    run(test)


def test_it_can_be_turned_off_and_contradictions_are_refused() -> None:
    async def test(flow: FlowController) -> None:
        assert flow.observe({"default": Pressure(99, 99, 1 << 50)}) == ""
        assert not flow.throttles

    run(test, FlowControlConfig(enable=False))
    with pytest.raises(ValueError, match="soft-pending"):
        FlowControlConfig(soft_pending_compaction_bytes_limit=ByteSize(1 << 50)).validate()
    with pytest.raises(ValueError, match="memtables-threshold"):
        FlowControlConfig(memtables_threshold=0).validate()


def prewrite(key: bytes, start_ts: int) -> pb.PrewriteRequest:
    request = pb.PrewriteRequest(primary_lock=key, start_version=start_ts, lock_ttl=3000)
    request.mutations.add(op=pb.Put, key=key, value=b"v")
    return request


def test_a_store_that_is_far_behind_refuses_writes_but_not_reads_nor_what_ends_or_removes() -> None:
    async def test(rpc: StoreRpc) -> None:
        await rpc.call("KvPrewrite", prewrite(b"locked", 10))
        await rpc.call("KvPrewrite", prewrite(b"left", 12))
        await rpc.call("RawPut", pb.RawPutRequest(key=b"raw", value=b"v"))
        engine = rpc.cluster.nodes[0].kv_db
        engine.pressure = lambda: {"default": Pressure(0, 0, 2 << 40)}  # type: ignore[method-assign]
        await asyncio.sleep(3)
        before = rpc.data()
        for name, request in (
            ("RawPut", pb.RawPutRequest(key=b"a", value=b"v")),
            ("RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"a")])),
            ("RawCompareAndSwap", pb.RawCASRequest(key=b"a", previous_not_exist=True)),
            ("KvPrewrite", prewrite(b"other", 20)),
        ):
            busy = (await rpc.call(name, request)).region_error.server_is_busy
            assert busy.reason.startswith("flow control: 2199023255552 bytes wait to be compacted"), name
            assert busy.backoff_ms == 1000
        assert rpc.data() == before
        assert (await rpc.call("RawGet", pb.RawGetRequest(key=b"raw"))).value == b"v"
        commit = pb.CommitRequest(keys=[b"locked"], start_version=10, commit_version=11)
        rollback = pb.BatchRollbackRequest(keys=[b"left"], start_version=12)
        for name, ending in (
            ("KvCommit", commit),
            ("KvBatchRollback", rollback),
            ("RawDelete", pb.RawDeleteRequest(key=b"raw")),
        ):
            assert not (await rpc.call(name, ending)).HasField("region_error"), name
        assert rpc.data()["lock"] == []
        registry = rpc.server.registry
        assert registry.get_sample_value("tikv_scheduler_pending_compaction_bytes", {"cf": "default"}) == 2 << 40
        engine.pressure = lambda: dict(WELL)  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert registry.get_sample_value("tikv_scheduler_throttle_flow") == 0
        assert registry.get_sample_value("tikv_scheduler_throttle_action_total", {"type": "free"}) == 1
        assert not (await rpc.call("RawPut", pb.RawPutRequest(key=b"a", value=b"v"))).HasField("region_error")

    with_store(test)


def test_an_idle_store_asks_its_database_nothing() -> None:
    async def test(rpc: StoreRpc) -> None:
        await asyncio.sleep(2)
        asked = 0

        def pressure() -> dict[str, Pressure]:
            nonlocal asked
            asked += 1
            return dict(WELL)

        rpc.cluster.nodes[0].kv_db.pressure = pressure  # type: ignore[method-assign]
        await asyncio.sleep(30)
        assert asked == 0
        await rpc.call("RawPut", pb.RawPutRequest(key=b"a", value=b"v"))
        await asyncio.sleep(30)
        assert asked == 1

    with_store(test)
