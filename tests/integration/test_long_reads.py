"""Reads of so many keys that they take several turns: complete, in order, and stopped when their region changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protos.kvproto import kvrpcpb_pb2 as pb
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.server.read_pool import SLICE_KEYS, ReadPool

KEYS = [b"k%04d" % number for number in range(3 * SLICE_KEYS + 50)]


def pool_of(rpc: StoreRpc) -> ReadPool:
    assert rpc.server.services is not None
    return rpc.server.services.pool


async def fill(rpc: StoreRpc) -> None:
    """Every key with its own number as value at 20, and 7 locked by a transaction of 30."""
    request = pb.PrewriteRequest(primary_lock=KEYS[0], start_version=10, lock_ttl=3000)
    for key in KEYS:
        request.mutations.add(op=pb.Put, key=key, value=key[1:])
    assert not (await rpc.call("KvPrewrite", request)).errors
    commit = pb.CommitRequest(keys=KEYS, start_version=10, commit_version=20)
    assert not (await rpc.call("KvCommit", commit)).HasField("error")
    await rpc.prewrite(KEYS[600], b"later", 30)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [SLICE_KEYS, SLICE_KEYS + 1, 2 * SLICE_KEYS, 5000])
def test_a_long_scan_gives_every_key_once_and_in_order(limit: int, *, reverse: bool) -> None:
    async def test(rpc: StoreRpc) -> None:
        await fill(rpc)

        def request(version: int) -> pb.ScanRequest:
            start, end = (KEYS[-10], b"k") if reverse else (b"k", KEYS[-10])
            return pb.ScanRequest(limit=limit, version=version, reverse=reverse, start_key=start, end_key=end)

        inside = KEYS[:-10][::-1] if reverse else KEYS[:-10]
        found = await rpc.call("KvScan", request(25))
        assert [(pair.key, pair.value) for pair in found.pairs] == [(key, key[1:]) for key in inside[:limit]]
        above = await rpc.call("KvScan", request(35))
        assert [pair.key for pair in above.pairs] == inside[:limit]
        locked = [pair.key for pair in above.pairs if pair.HasField("error")]
        assert locked == [key for key in inside[:limit] if key == KEYS[600]]
        assert (await rpc.call("KvScan", request(15))).pairs == []

    with_store(test)


def test_a_long_batch_get_gives_every_key() -> None:
    async def test(rpc: StoreRpc) -> None:
        await fill(rpc)
        wanted = KEYS[::-1]
        found = await rpc.call("KvBatchGet", pb.BatchGetRequest(keys=[*wanted, b"none"], version=25))
        assert [(pair.key, pair.value) for pair in found.pairs] == [(key, key[1:]) for key in wanted]
        above = await rpc.call("KvBatchGet", pb.BatchGetRequest(keys=wanted, version=35))
        assert [pair.key for pair in above.pairs if pair.HasField("error")] == [KEYS[600]]
        assert len(above.pairs) == len(wanted)

    with_store(test)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("KvScan", pb.ScanRequest(start_key=b"k", limit=5000, version=25)),
        ("KvBatchGet", pb.BatchGetRequest(keys=KEYS, version=25)),
        ("RawBatchGet", pb.RawBatchGetRequest(keys=KEYS)),
    ],
    ids=["KvScan", "KvBatchGet", "RawBatchGet"],
)
def test_a_long_read_whose_region_changes_meanwhile_is_told_so(
    name: str, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(rpc: StoreRpc) -> None:
        await fill(rpc)
        pool = pool_of(rpc)
        next_turn, turns = pool.next_turn, 0

        async def held(context: pb.Context, began: float) -> float:
            nonlocal turns
            turns += 1
            if turns == 2:
                split = pb.SplitRegionRequest(split_keys=[b"k05"])
                assert len((await rpc.call("SplitRegion", split)).regions) == 2
            return float(await next_turn(context, began))

        monkeypatch.setattr(pool, "next_turn", held)
        response = await rpc.call(name, request_)
        assert response.region_error.HasField("epoch_not_match"), response
        assert turns == 2

    with_store(test)


def test_a_long_raw_scan_shows_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rpc: StoreRpc) -> None:
        request = pb.RawBatchPutRequest()
        for key in KEYS:
            request.pairs.add(key=key, value=b"old")
        await rpc.call("RawBatchPut", request)
        pool = pool_of(rpc)
        next_turn, turns = pool.next_turn, 0

        async def held(context: pb.Context, began: float) -> float:
            nonlocal turns
            turns += 1
            if turns == 1:
                await rpc.call("RawPut", pb.RawPutRequest(key=KEYS[0], value=b"new"))
                await rpc.call("RawPut", pb.RawPutRequest(key=KEYS[-1], value=b"new"))
                await rpc.call("RawDelete", pb.RawDeleteRequest(key=KEYS[-2]))
            return float(await next_turn(context, began))

        monkeypatch.setattr(pool, "next_turn", held)
        for reverse in (False, True):
            turns = 0
            expected = [(key, b"old") for key in KEYS] if not reverse else None
            asked = pb.RawScanRequest(start_key=b"" if reverse else b"k", limit=5000, reverse=reverse)
            found = await rpc.call("RawScan", asked)
            pairs = [(pair.key, pair.value) for pair in found.kvs]
            if expected is not None:
                assert pairs == expected
            else:
                assert [value for _, value in pairs].count(b"new") == 2, "the puts of the first scan"
                assert len(pairs) == len(KEYS) - 1
            assert turns == 3
            await asyncio.sleep(0)

    with_store(test)
