"""CRC-64/XZ over pairs, against a byte by byte one."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from protos.kvproto import kvrpcpb_pb2 as pb
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.server.raw_checksum import ALL_ONES, BLOCK, POLYNOMIAL, PairsChecksum


def table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


TABLE = [table_entry(byte) for byte in range(256)]


def slow(data: bytes) -> int:
    register = ALL_ONES
    for byte in data:
        register = TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ ALL_ONES


def test_the_published_check_value() -> None:
    total = PairsChecksum()
    total.add([(b"1234", b"56789")])
    assert (total.value, total.pairs, total.bytes) == (0x995DC9BBDF1939FA, 1, 9)


SIZES = st.one_of(st.integers(0, 40), st.integers(BLOCK - 9, BLOCK + 9), st.integers(2 * BLOCK - 9, 2 * BLOCK + 9))


@given(st.lists(st.lists(st.tuples(st.binary(max_size=12), SIZES), max_size=6), max_size=4), st.integers(0, 99))
def test_any_pairs_in_any_pieces(pieces: list[list[tuple[bytes, int]]], seed: int) -> None:
    rng = random.Random(seed)
    total, expected = PairsChecksum(), 0
    for piece in pieces:
        pairs = [(key, rng.randbytes(size)) for key, size in piece]
        total.add(pairs)
        for key, value in pairs:
            expected ^= slow(key + value)
    assert total.value == expected
    assert total.pairs == sum(map(len, pieces))


def test_a_store_adds_up_what_is_in_the_ranges_and_refuses_what_is_not_its_own() -> None:
    async def test(rpc: StoreRpc) -> None:
        rng = random.Random(5)
        pairs = {b"k%05d" % at: rng.randbytes(rng.randrange(60)) for at in range(3000)}
        for at in range(0, 3000, 500):
            request = pb.RawBatchPutRequest()
            for key in sorted(pairs)[at : at + 500]:
                request.pairs.add(key=key, value=pairs[key])
            await rpc.call("RawBatchPut", request)
        await rpc.call("RawPut", pb.RawPutRequest(key=b"k00000", value=b"other", cf="write"))
        ranges = [pb.KeyRange(start_key=b"k00100", end_key=b"k00200"), pb.KeyRange(start_key=b"k01000")]
        response = await rpc.call("RawChecksum", pb.RawChecksumRequest(ranges=ranges))
        inside = [key for key in pairs if b"k00100" <= key < b"k00200" or key >= b"k01000"]
        expected = 0
        for key in inside:
            expected ^= slow(key + pairs[key])
        assert response.checksum == expected
        assert response.total_kvs == len(inside) == 2100
        assert response.total_bytes == sum(len(key) + len(pairs[key]) for key in inside)
        unknown = pb.RawChecksumRequest(ranges=ranges)
        unknown.algorithm = 7  # type: ignore[assignment]
        assert (await rpc.call("RawChecksum", unknown)).error == "unknown checksum algorithm 7"
        many = pb.RawChecksumRequest(ranges=[pb.KeyRange()] * 257)
        assert "257 keys or ranges" in (await rpc.call("RawChecksum", many)).error
        split = pb.SplitRegionRequest(split_keys=[b"k01500"], is_raw_kv=True)
        assert len((await rpc.call("SplitRegion", split)).regions) == 2
        await asyncio.sleep(1)
        outside = await rpc.call("RawChecksum", pb.RawChecksumRequest(ranges=ranges))
        assert outside.region_error.HasField("key_not_in_region")

    with_store(test)
