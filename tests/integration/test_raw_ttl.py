"""Raw values with a time to live (API V1TTL), and what every raw command refuses, asked as a client's wire would ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from core_py.errors import StorageError
from core_py.runtime.config import ByteSize, Seconds
from core_py.sim.loop import run_virtual
from protos.kvproto import coprocessor_pb2, tikvpb_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.support.storage_cluster import storage_cluster
from tests.support.store_rpc import METHODS, StoreRpc, with_store
from tikv_py.server.config import StorageConfig, TikvConfig
from tikv_py.server.raw_ttl import TtlWorker

TTL = TikvConfig(storage=StorageConfig(enable_ttl=True))
SWEEPING = TikvConfig(storage=StorageConfig(enable_ttl=True, ttl_check_poll_interval=Seconds(5.0)))


def with_ttl(test: Callable[[StoreRpc], Awaitable[None]], settings: TikvConfig = TTL) -> None:
    with_store(test, settings=settings)


async def put(rpc: StoreRpc, key: bytes, value: bytes, ttl_s: int = 0, cf: str = "") -> None:
    response = await rpc.call("RawPut", pb.RawPutRequest(key=key, value=value, ttl=ttl_s, cf=cf))
    assert response == pb.RawPutResponse()


async def scanned(rpc: StoreRpc, **fields: Any) -> list[tuple[bytes, bytes]]:
    response = await rpc.call("RawScan", pb.RawScanRequest(**{"limit": 1000, **fields}))
    return [(pair.key, pair.value) for pair in response.kvs]


async def get(rpc: StoreRpc, key: bytes, cf: str = "") -> bytes | None:
    response = await rpc.call("RawGet", pb.RawGetRequest(key=key, cf=cf))
    assert not response.error
    return None if response.not_found else bytes(response.value)


def test_an_expired_value_is_invisible_to_every_command_at_once() -> None:
    async def test(rpc: StoreRpc) -> None:
        await put(rpc, b"brief", b"1", 10)
        await put(rpc, b"long", b"2", 1000)
        await put(rpc, b"stays", b"3")
        everything = [(b"brief", b"1"), (b"long", b"2"), (b"stays", b"3")]
        whole = pb.RawChecksumRequest(ranges=[pb.KeyRange()])
        assert await scanned(rpc) == everything
        assert (await rpc.call("RawChecksum", whole)).total_kvs == 3
        left = await rpc.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"brief"))
        assert 8 <= left.ttl <= 10
        await asyncio.sleep(10)
        assert await get(rpc, b"brief") is None
        assert await get(rpc, b"long") == b"2"
        many = await rpc.call("RawBatchGet", pb.RawBatchGetRequest(keys=[b"brief", b"long", b"stays", b"none"]))
        assert [(pair.key, pair.value) for pair in many.pairs] == everything[1:]
        assert await scanned(rpc) == everything[1:]
        assert await scanned(rpc, reverse=True) == everything[:0:-1]
        assert await scanned(rpc, limit=1) == everything[1:2]
        assert (await rpc.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"brief"))).not_found
        assert (await rpc.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"stays"))).ttl == 0
        assert (await rpc.call("RawChecksum", whole)).total_kvs == 2
        swap = pb.RawCASRequest(key=b"brief", previous_value=b"1", value=b"4")
        lost = await rpc.call("RawCompareAndSwap", swap)
        assert (lost.succeed, lost.previous_not_exist) == (False, True)
        made = await rpc.call("RawCompareAndSwap", pb.RawCASRequest(key=b"brief", previous_not_exist=True, value=b"4"))
        assert (made.succeed, await get(rpc, b"brief")) == (True, b"4")

    with_ttl(test)


def test_what_is_stored_is_the_value_and_eight_bytes() -> None:
    async def test(rpc: StoreRpc) -> None:
        await put(rpc, b"k", b"v")
        await put(rpc, b"l", b"v", 7)
        await put(rpc, b"m", b"", (1 << 64) - 1)
        now_s = rpc.store.clock.wall_ms() // 1000
        stored = dict(rpc.data()["default"])
        assert stored[b"zk"] == b"v" + bytes(8)
        assert now_s + 5 <= int.from_bytes(stored[b"zl"][1:], "big") <= now_s + 7
        assert stored[b"zm"] == b"\xff" * 8, "the sum saturates"

    with_ttl(test)


def test_swapping_with_a_time_to_live_and_deleting() -> None:
    async def test(rpc: StoreRpc) -> None:
        swap = pb.RawCASRequest(key=b"k", previous_not_exist=True, value=b"1", ttl=10)
        assert (await rpc.call("RawCompareAndSwap", swap)).succeed
        swap = pb.RawCASRequest(key=b"k", previous_value=b"1", value=b"ignored", delete=True)
        done = await rpc.call("RawCompareAndSwap", swap)
        assert (done.succeed, done.previous_value) == (True, b"1")
        assert rpc.data()["default"] == []
        nothing = pb.RawCASRequest(key=b"k", previous_not_exist=True, delete=True)
        assert (await rpc.call("RawCompareAndSwap", nothing)).succeed
        assert rpc.data()["default"] == []

    with_ttl(test)


def test_a_batch_has_one_time_to_live_for_all_or_one_for_each() -> None:
    async def test(rpc: StoreRpc) -> None:
        async def batch(keys: bytes, **fields: Any) -> str:
            pairs = [pb.KvPair(key=bytes([key]), value=b"v") for key in keys]
            return str((await rpc.call("RawBatchPut", pb.RawBatchPutRequest(pairs=pairs, **fields))).error)

        assert await batch(b"abc", ttls=[10, 0, 20]) == ""
        assert await batch(b"de", ttls=[10]) == ""
        assert await batch(b"f") == ""
        assert await batch(b"gh", ttl=20) == "", "the field that ttls replaced"
        before = rpc.data()
        assert await batch(b"xyz", ttls=[1, 2]) == "The length of ttls does not equal to the length of pairs"
        assert await batch(b"x", ttls=[1, 2]) == "The length of ttls does not equal to the length of pairs"
        assert rpc.data() == before
        await asyncio.sleep(10)
        assert [key for key, _ in await scanned(rpc)] == [b"b", b"c", b"f", b"g", b"h"]
        await asyncio.sleep(10)
        assert [key for key, _ in await scanned(rpc)] == [b"b", b"f"]

    with_ttl(test)


def test_a_scan_reads_over_any_number_of_expired_values() -> None:
    async def test(rpc: StoreRpc) -> None:
        for at in range(0, 1200, 400):
            request = pb.RawBatchPutRequest(ttls=[5])
            for number in range(at, at + 400):
                request.pairs.add(key=b"k%04d" % number, value=b"v")
            await rpc.call("RawBatchPut", request)
        await put(rpc, b"a", b"1")
        await put(rpc, b"k0700x", b"2")
        await put(rpc, b"z", b"3")
        await asyncio.sleep(5)
        live = [(b"a", b"1"), (b"k0700x", b"2"), (b"z", b"3")]
        assert await scanned(rpc) == live
        assert await scanned(rpc, limit=2) == live[:2]
        assert await scanned(rpc, reverse=True, limit=2) == live[:0:-1]
        assert await scanned(rpc, start_key=b"k", end_key=b"l") == live[1:2]

    with_ttl(test)


def test_the_sweep_removes_what_is_expired_on_all_replicas_and_nothing_else() -> None:
    async def main() -> None:
        async with storage_cluster(3, settings=SWEEPING) as cluster:
            channel = cluster.network.transport("client").connect("store1:20160")
            rpc = StoreRpc(cluster, channel)
            await asyncio.sleep(5)
            request = pb.RawBatchPutRequest(ttls=[3] * 700 + [1000, 0])
            for number in range(702):
                request.pairs.add(key=b"k%03d" % number, value=b"v")
            assert await rpc.call("RawBatchPut", request) == pb.RawBatchPutResponse()
            await put(rpc, b"other", b"v", 3, "lock")
            await asyncio.sleep(12)
            left = [key for key, _ in rpc.data()["default"]]
            assert left == [b"zk700", b"zk701"]
            assert rpc.data()["lock"] == []
            for node in cluster.nodes[1:]:
                assert [key for key, _ in node.kv_db.items("default") if key.startswith(b"z")] == left
            count = rpc.server.registry.get_sample_value("tikv_ttl_expire_kv_count_total")
            assert count == 701
            await channel.close()

    run_virtual(main())


def sweeper(rpc: StoreRpc) -> TtlWorker:
    return next(worker for worker in rpc.server._workers if isinstance(worker, TtlWorker))


async def soon(holds: Callable[[], object], what: str) -> None:
    """Let the loop turn until something holds, without letting time pass if it can."""
    for turn in range(4000):
        if holds():
            return
        await asyncio.sleep(0 if turn < 2000 else 0.01)
    raise AssertionError(what)


def test_a_value_written_while_its_expired_one_is_to_be_removed_stays() -> None:
    async def test(rpc: StoreRpc) -> None:
        for key in (b"again", b"gone", b"swapped"):
            await put(rpc, key, b"old", 2)
        await asyncio.sleep(2.5)
        rpc.fail.configure("raw_ttl_before_remove", "1*pause")
        values = rpc.server.services.raw_values  # type: ignore[union-attr]
        await soon(lambda: values.condemned, "the sweep finds the values")
        await asyncio.sleep(0.5)
        swap = pb.RawCASRequest(key=b"swapped", previous_not_exist=True, value=b"new")
        assert (await rpc.call("RawCompareAndSwap", swap)).succeed
        peer = next(iter(rpc.store.peers.values()))
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(put(rpc, b"again", b"new"))
            await soon(lambda: peer.pending_writes, "the write is proposed")
            rpc.fail.remove("raw_ttl_before_remove")
            await soon(lambda: not values.condemned, "the removal is proposed")
            assert not writing.done(), "the write was proposed before and is not applied yet"
        await asyncio.sleep(1)
        assert [key for key, _ in rpc.data()["default"]] == [b"zagain", b"zswapped"]
        assert await get(rpc, b"again") == b"new"

    with_ttl(test, SWEEPING)


def test_a_write_that_is_on_its_way_when_the_sweep_looks_stays() -> None:
    """The new value is proposed but not applied while the sweep finds the old one."""

    async def test(rpc: StoreRpc) -> None:
        await put(rpc, b"k", b"old", 2)
        await asyncio.sleep(2.5)
        worker = sweeper(rpc)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(put(rpc, b"k", b"new"))
            values = rpc.server.services.raw_values  # type: ignore[union-attr]
            peer = next(iter(rpc.store.peers.values()))
            await soon(lambda: peer.pending_writes, "the write is proposed")
            tasks.create_task(worker.sweep())
            await soon(lambda: values.condemned, "the sweep finds the old value")
            assert not writing.done()
        assert await get(rpc, b"k") == b"new"

    with_ttl(test)


def test_a_sweep_can_be_made_to_leave_what_it_found() -> None:
    async def test(rpc: StoreRpc) -> None:
        await put(rpc, b"k", b"v", 2)
        await asyncio.sleep(2.5)
        worker = sweeper(rpc)
        rpc.fail.configure("raw_ttl_before_remove", "1*return")
        await worker.sweep()
        assert [key for key, _ in rpc.data()["default"]] == [b"zk"]
        await worker.sweep()
        assert rpc.data()["default"] == []

    with_ttl(test)


TTL_REFUSED = [
    ("RawPut", pb.RawPutRequest(key=b"k", value=b"v", ttl=1)),
    ("RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"k")], ttls=[1])),
    ("RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"k")], ttl=1)),
    ("RawCompareAndSwap", pb.RawCASRequest(key=b"k", value=b"v", previous_not_exist=True, ttl=1)),
    ("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"k")),
]


@pytest.mark.parametrize(
    ("name", "request_"), TTL_REFUSED, ids=[one[0] + str(at) for at, one in enumerate(TTL_REFUSED)]
)
def test_a_store_without_ttl_refuses_it(name: str, request_: Any) -> None:
    async def test(rpc: StoreRpc) -> None:
        assert (await rpc.call(name, request_)).error == "ttl is not enabled, but get put request with ttl"
        assert rpc.data()["default"] == []

    with_store(test)


LONG = b"k" * 101
TOO_LONG = [
    ("RawPut", pb.RawPutRequest(key=LONG)),
    ("RawPut", pb.RawPutRequest(key=LONG, for_cas=True)),
    ("RawDelete", pb.RawDeleteRequest(key=LONG)),
    ("RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"k"), pb.KvPair(key=LONG)])),
    ("RawBatchDelete", pb.RawBatchDeleteRequest(keys=[LONG])),
    ("RawDeleteRange", pb.RawDeleteRangeRequest(start_key=b"a", end_key=LONG)),
    ("RawCompareAndSwap", pb.RawCASRequest(key=LONG, previous_not_exist=True)),
]


@pytest.mark.parametrize(("name", "request_"), TOO_LONG, ids=[one[0] + str(at) for at, one in enumerate(TOO_LONG)])
def test_keys_beyond_the_limit_are_not_written(name: str, request_: Any) -> None:
    async def test(rpc: StoreRpc) -> None:
        await put(rpc, b"k" * 100, b"v")
        before = rpc.data()
        assert (await rpc.call(name, request_)).error == "max key size exceeded, size: 101, limit: 100"
        assert rpc.data() == before

    with_store(test, settings=TikvConfig(storage=StorageConfig(max_key_size=ByteSize(100))))


def refusal(response: Any) -> str:
    for name in ("pairs", "kvs"):
        for pair in getattr(response, name, []):
            return str(pair.error.abort)
    return str(response.error)


WITH_CF = [
    ("RawGet", pb.RawGetRequest(key=b"k")),
    ("RawBatchGet", pb.RawBatchGetRequest(keys=[b"k"])),
    ("RawScan", pb.RawScanRequest(limit=1)),
    ("RawBatchScan", pb.RawBatchScanRequest(ranges=[pb.KeyRange()], each_limit=1)),
    ("RawPut", pb.RawPutRequest(key=b"k")),
    ("RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"k")])),
    ("RawDelete", pb.RawDeleteRequest(key=b"k")),
    ("RawBatchDelete", pb.RawBatchDeleteRequest(keys=[b"k"])),
    ("RawDeleteRange", pb.RawDeleteRangeRequest(start_key=b"a", end_key=b"b")),
    ("RawCompareAndSwap", pb.RawCASRequest(key=b"k", previous_not_exist=True)),
    ("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"k")),
]


@pytest.mark.parametrize(("name", "request_"), WITH_CF, ids=[one[0] for one in WITH_CF])
def test_unknown_families_and_other_api_versions_are_refused(name: str, request_: Any) -> None:
    async def test(rpc: StoreRpc) -> None:
        other = type(request_)()
        other.CopyFrom(request_)
        other.cf = "raft"
        assert refusal(await rpc.call(name, other)) == "invalid cf name: raft"
        other.cf = "default"
        other.context.api_version = pb.V2
        text = refusal(await rpc.call(name, other))
        assert text.startswith("Api version in request does not match with TiKV storage, cmd: raw_")
        assert text.endswith("storage: V1ttl, request: V2")
        assert rpc.data()["default"] == []

    with_ttl(test)


TRANSACTIONAL = {
    "KvGet": pb.GetRequest(key=b"k", version=5),
    "KvScan": pb.ScanRequest(limit=1, version=5),
    "KvBatchGet": pb.BatchGetRequest(keys=[b"k"], version=5),
    "KvPrewrite": pb.PrewriteRequest(
        mutations=[pb.Mutation(op=pb.Put, key=b"k", value=b"v")], primary_lock=b"k", start_version=5
    ),
    "KvPessimisticLock": pb.PessimisticLockRequest(
        mutations=[pb.Mutation(op=pb.PessimisticLock, key=b"k")], primary_lock=b"k", start_version=5
    ),
    "KvCommit": pb.CommitRequest(keys=[b"k"], start_version=5, commit_version=6),
    "Coprocessor": coprocessor_pb2.Request(tp=103, start_ts=5),
}


@pytest.mark.parametrize("name", TRANSACTIONAL)
def test_a_store_with_ttl_serves_no_transactions(name: str) -> None:
    async def test(rpc: StoreRpc) -> None:
        response = await rpc.call(name, TRANSACTIONAL[name])
        assert "Api version in request does not match with TiKV storage" in str(response)
        assert all(not pairs for pairs in rpc.data().values())

    with_ttl(test)


def test_a_store_with_data_does_not_start_with_another_setting() -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster:
            node = cluster.nodes[0]
            cluster.settings = TTL
            await cluster.stop_store(node)
            await cluster.start_store(node)  # nothing is stored yet
            await asyncio.sleep(5)
            channel = cluster.network.transport("client").connect("store1:20160")
            await put(StoreRpc(cluster, channel), b"k", b"v", 100)
            await channel.close()
            await cluster.stop_store(node)
            cluster.settings = TikvConfig()
            with pytest.raises(StorageError, match=r"storage\.enable-ttl = true"):
                await cluster.start_store(node)
            node.server = None
            cluster.settings = TTL
            await cluster.start_store(node)

    run_virtual(main())


def test_other_api_versions_are_refused_by_the_configuration() -> None:
    with pytest.raises(ValueError, match="api-version can only be 1"):
        replace(StorageConfig(), api_version=2).validate()


def test_plugins_are_disabled() -> None:
    async def test(rpc: StoreRpc) -> None:
        asked = pb.RawCoprocessorRequest(copr_name="count", copr_version_req="*")
        assert (await rpc.call("RawCoprocessor", asked)).error == "Coprocessor plugin is disabled!"

    with_store(test)


def test_what_has_no_place_in_a_batch_is_left_out_of_it() -> None:
    """RawGetKeyTTL, RawCompareAndSwap and RawChecksum are unary only; the others are in BatchCommands too."""
    fields = tikvpb_pb2.BatchCommandsRequest.Request.DESCRIPTOR.fields_by_name
    for name in ("RawGetKeyTTL", "RawCompareAndSwap", "RawChecksum"):
        assert name in METHODS
        assert name not in fields
    assert {"RawGet", "RawBatchScan", "RawCoprocessor"} <= set(fields)
