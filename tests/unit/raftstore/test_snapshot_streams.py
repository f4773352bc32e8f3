"""Snapshot streams as such: chunks that are damaged or wrong, limits, and what is left behind by a stream that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core_py.errors import CodecError
from core_py.ports import StatusError
from core_py.raft.errors import SnapshotTemporarilyUnavailable
from core_py.runtime.rate import ByteRate
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.snapshot_support import bring, chunks, snapshot_message, stream
from tests.unit.raftstore.support import REGION, Bench, bench, first_region
from tikv_py.engine.port import DATA_CFS, KV_CFS, Pair, Range
from tikv_py.engine.rocks import RocksEngine
from tikv_py.raftstore import keys, snapshot
from tikv_py.raftstore.config import SnapshotSettings
from tikv_py.raftstore.snapshot_receiver import MIN_FREE_BYTES
from tikv_py.raftstore.snapshot_sender import SendBackoff
from tikv_py.raftstore.staged_snapshot import StagedSnapshot

MANY = [(b"zk%05d" % number, b"v" * 1000) for number in range(700)]


async def offer(one: Bench, data: list[bytes], *, size: int = 0) -> None:
    await one.store.snapshots.receive(stream(snapshot_message(one, first_region(), 20, size=size), data))


def other_region(number: int) -> metapb_pb2.Region:
    region = first_region()
    region.id, region.start_key, region.end_key = number, b"x%d" % number, b"x%d" % (number + 1)
    return region


def test_a_region_goes_from_one_rocksdb_to_another(tmp_path: Path) -> None:
    source, target = RocksEngine(str(tmp_path / "source")), RocksEngine(str(tmp_path / "target"))
    families = {"default": MANY, "write": [(b"zw", b"1")]}
    batch = source.batch()
    for cf, pairs in {**families, "raft": [(b"r", b"1")]}.items():
        for key, value in [*pairs, (b"a", b"outside")]:
            batch.put(cf, key, value)
    source.write(batch)
    start, end = keys.data_range(b"", b"")
    view = source.snapshot([Range(cf, start, end) for cf in DATA_CFS])
    stage = StagedSnapshot(target, "s", first_region(), 20, 6)
    for chunk in snapshot.chunks_of(view):
        stage.add(chunk)
    assert stage.complete
    assert target.staged() == ["s-default", "s-write"]
    target.ingest_staged(stage.runs)
    stage.abandon()
    assert target.staged() == []
    for cf in KV_CFS:
        assert target.scan(cf, b"", b"") == families.get(cf, [])
    del batch
    view.release()
    source.close()
    target.close()


def test_chunks_are_small_unless_a_pair_is_large() -> None:
    large = (b"zl", b"x" * (1 << 20))
    data = chunks({"default": [*MANY, large, (b"zm", b"")], "write": [(b"zw", b"")]})
    sizes = [len(chunk) for chunk in data]
    assert [size > snapshot.CHUNK_BYTES + 64 for size in sizes] == [False] * 3 + [True] + [False] * 3
    families = [snapshot.decode_chunk(chunk) for chunk in data]
    found: dict[int, list[Pair]] = {}
    for family, body in families[:-1]:
        found.setdefault(family, []).extend(snapshot.parse_pairs(body))
    assert found == {0: [*MANY, large, (b"zm", b"")], DATA_CFS.index("write"): [(b"zw", b"")]}
    assert families[-1][0] == snapshot.END_FAMILY


def flipped(data: list[bytes]) -> list[bytes]:
    return [data[0][:-1] + bytes([data[0][-1] ^ 1]), *data[1:]]


@pytest.mark.parametrize(
    ("spoil", "status", "text"),
    [
        (flipped, "DATA_LOSS", "wrong checksum"),
        (lambda data: [data[0][:3]], "DATA_LOSS", "truncated"),
        (lambda data: [data[1], data[0], *data[2:]], "DATA_LOSS", "not above the one before"),
        (lambda data: [data[0], data[0], *data[1:]], "DATA_LOSS", "not above the one before"),
        (lambda data: [data[0], *data[2:]], "DATA_LOSS", "not whole"),
        (lambda data: [*data, data[-1]], "DATA_LOSS", "after its end"),
        (lambda data: [snapshot.encode_chunk(7, b"")], "DATA_LOSS", "family 7"),
        (lambda data: [snapshot.encode_chunk(0, b"")], "DATA_LOSS", "empty chunk"),
        (lambda data: [snapshot.encode_chunk(0, b"\0\0\0\1")], "DATA_LOSS", "truncated"),
        (lambda data: [snapshot.encode_chunk(0, b"\0\0\0\2\0\0\0\2zk")], "DATA_LOSS", "truncated"),
        (lambda data: [snapshot.encode_chunk(255, b"\xff")], "DATA_LOSS", "not readable"),
        (lambda data: chunks({"default": [(b"a", b"")]}), "DATA_LOSS", "outside of the region"),
        (lambda data: chunks({"default": [(b"{", b"")]}), "DATA_LOSS", "outside of the region"),
        (lambda data: [chunks({"write": MANY})[0], data[0]], "DATA_LOSS", "comes after"),
        (lambda data: data[:-1], "INVALID_ARGUMENT", "ended early"),
        (lambda data: [], "INVALID_ARGUMENT", "ended early"),
        (lambda data: [bytes(snapshot.MAX_CHUNK_BYTES + 1)], "INVALID_ARGUMENT", "16 MiB"),
    ],
)
def test_a_wrong_stream_is_refused_and_leaves_nothing(spoil, status: str, text: str) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with bench() as one:
            with pytest.raises(StatusError, match=text) as refused:
                await offer(one, spoil(chunks({"default": MANY})))
            assert refused.value.status == status
            await one.settle()
            assert one.kv_db.staged() == []
            assert one.peer.storage.last_index() == 5
            await bring(one, 20, [(b"zk", b"whole")])
            assert one.kv_db.get("default", b"zk") == b"whole", "the next stream is taken"

    run_virtual(main())


def test_a_stream_begins_with_its_message_and_has_one() -> None:
    async def main() -> None:
        async with bench() as one:
            message = snapshot_message(one, first_region(), 20)

            async def headless() -> AsyncIterator[serverpb.SnapshotChunk]:
                yield serverpb.SnapshotChunk(data=b"")

            async def doubled() -> AsyncIterator[serverpb.SnapshotChunk]:
                yield serverpb.SnapshotChunk(message=message)
                yield serverpb.SnapshotChunk(message=message)

            for chunks_ in (headless(), doubled()):
                with pytest.raises(StatusError, match="begins with its message"):
                    await one.store.snapshots.receive(chunks_)
            message.region_id = 9
            with pytest.raises(StatusError, match="region 1 in a snapshot for region 9"):
                await one.store.snapshots.receive(stream(message, []))

    run_virtual(main())


def test_a_snapshot_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    async def main() -> None:
        free = MIN_FREE_BYTES + 1000
        async with bench(snapshots=SnapshotSettings(free_bytes=lambda: free)) as one:
            one.kv_db.stage = None  # type: ignore[method-assign, assignment]
            with pytest.raises(StatusError, match="are free on the disk") as refused:
                await offer(one, chunks({"default": MANY}), size=1001)
            assert refused.value.status == "RESOURCE_EXHAUSTED"

    run_virtual(main())


def test_a_snapshot_that_grows_beyond_what_fits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tikv_py.raftstore.snapshot_receiver.ROOM_CHECK_BYTES", 1)

    async def main() -> None:
        for settings, text in (
            (SnapshotSettings(max_total_bytes=300_000), "300000 are allowed"),
            (SnapshotSettings(free_bytes=iter([1 << 40, 1 << 40, 0]).__next__), "0 are free"),
        ):
            async with bench(snapshots=settings) as one:
                with pytest.raises(StatusError, match=text):
                    await offer(one, chunks({"default": MANY}))
                await one.settle()
                assert one.kv_db.staged() == []

    run_virtual(main())


def test_only_so_many_streams_are_taken_at_once() -> None:
    async def main() -> None:
        async with bench(snapshots=SnapshotSettings(concurrent_recv_limit=2)) as one:
            one.store.peers.clear()
            gate = asyncio.Event()

            async def slow(region: metapb_pb2.Region) -> AsyncIterator[serverpb.SnapshotChunk]:
                yield serverpb.SnapshotChunk(message=snapshot_message(one, region, 20))
                await gate.wait()
                for chunk in chunks({}):
                    yield serverpb.SnapshotChunk(data=chunk)

            manager = one.store.snapshots
            for number in (3, 4):
                one.store.scope.spawn(manager.receive(slow(other_region(number))))
            await one.settle()
            with pytest.raises(StatusError, match="2 snapshots are being received") as refused:
                await manager.receive(slow(other_region(5)))
            assert refused.value.status == "RESOURCE_EXHAUSTED"
            gate.set()
            await one.settle()
            await manager.receive(slow(other_region(5)))

    run_virtual(main())


def test_a_snapshot_whose_range_is_taken_is_refused_before_it_is_sent() -> None:
    async def main() -> None:
        async with bench() as one:
            with pytest.raises(StatusError, match="held by region 1"):
                await one.store.snapshots.receive(stream(snapshot_message(one, other_region(5), 20), []))

    run_virtual(main())


def test_a_snapshot_that_the_core_has_no_use_for_is_removed() -> None:
    async def main() -> None:
        async with bench() as one:
            await bring(one, 20, [(b"zk", b"new")])
            await bring(one, 20, [(b"zk", b"again")])
            assert one.kv_db.get("default", b"zk") == b"new"
            assert one.kv_db.staged() == []

    run_virtual(main())


def test_a_chunk_that_is_still_being_written_when_its_stream_is_cancelled_leaves_nothing() -> None:
    async def main() -> None:
        async with bench() as one:
            data = chunks({"default": MANY})
            late: list[Callable[[], object]] = []
            workers = one.store.workers

            class Detached(InlineWorkers):
                async def run(self, function: Callable[..., Any], *args: Any) -> Any:
                    late.append(lambda: function(*args))
                    await asyncio.Event().wait()

            one.store.workers = Detached()
            receiving = one.store.scope.spawn(offer(one, data))
            await one.settle()
            one.store.workers = workers
            receiving.cancel()
            await one.settle()
            with pytest.raises(CodecError, match="given up"):
                late[0]()
            assert one.kv_db._staging == set()
            await bring(one, 20, MANY)
            assert one.peer.storage.last_index() == 20

    run_virtual(main())


def test_a_message_of_another_snapshot_does_not_take_the_stage() -> None:
    async def main() -> None:
        async with bench() as one:
            manager = one.store.snapshots
            await offer(one, chunks({"default": MANY}))
            assert not manager.take_stage(snapshot_message(one, first_region(), 21))
            assert manager.take_stage(snapshot_message(one, first_region(), 20))

    run_virtual(main())


def test_receiving_keeps_to_the_rate() -> None:
    async def main() -> None:
        async with bench(snapshots=SnapshotSettings(max_bytes_per_s=100_000)) as one:
            began = asyncio.get_running_loop().time()
            await bring(one, 20, MANY)
            assert 7.0 < asyncio.get_running_loop().time() - began < 7.3, "700 kB at 100 kB/s"
            assert one.kv_db.get("default", MANY[-1][0]) == MANY[-1][1]

    run_virtual(main())


def test_sending_keeps_to_the_rate() -> None:
    async def main() -> None:
        async with bench(snapshots=SnapshotSettings(max_bytes_per_s=100_000)) as one:
            await bring(one, 20, MANY)
            sender = one.store.snapshots._sender
            sender.make(one.peer, 12)
            began = asyncio.get_running_loop().time()
            sent = [chunk async for chunk in sender._chunks(sender._made[REGION, 12])]
            assert 7.0 < asyncio.get_running_loop().time() - began < 7.3
            assert sent == chunks({"default": MANY})

    run_virtual(main())


def test_the_rate_serves_in_order_and_charges_what_is_larger_than_its_burst() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        rate = ByteRate(LoopClock(), 1000)
        done: list[tuple[int, float]] = []

        async def taker(number: int, amount: int) -> None:
            await rate.take(amount)
            done.append((number, round(loop.time() - began, 3)))

        await asyncio.sleep(10)
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, amount in enumerate([50, 2000, 10]):
                group.create_task(taker(number, amount))
        assert done == [(0, 0.0), (1, 2.0), (2, 2.01)]
        unlimited = ByteRate(LoopClock(), 0)
        await unlimited.take(1 << 40)
        assert loop.time() - began < 3

    run_virtual(main())


def test_a_follower_that_fails_is_left_alone_for_longer_and_longer() -> None:
    async def main() -> None:
        clock = LoopClock()
        backoff = SendBackoff(clock, 2.0, 10.0)
        waits = []
        for _ in range(5):
            backoff.failed((1, 12))
            waits.append(backoff.wait_s((1, 12)))
            assert backoff.wait_s((1, 13)) == 0
            await asyncio.sleep(waits[-1])
            assert backoff.wait_s((1, 12)) == 0
        assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]
        backoff.succeeded((1, 12))
        backoff.failed((1, 12))
        assert backoff.wait_s((1, 12)) == 2.0
        backoff.forget(1)
        assert backoff.wait_s((1, 12)) == 0

    run_virtual(main())


def test_the_core_gets_no_second_snapshot_at_once_after_one_that_did_not_arrive() -> None:
    async def main() -> None:
        async with bench() as one:
            manager, target = one.store.snapshots, metapb_pb2.Peer(id=12, store_id=2)
            message = snapshot_message(one, first_region(), 20)
            manager.make(one.peer, 12)
            manager.send(one.peer, target, message)
            one.router.snapshots[-1](False)
            with pytest.raises(SnapshotTemporarilyUnavailable, match="failed"):
                manager.make(one.peer, 12)
            manager.make(one.peer, 13)
            await asyncio.sleep(2.1)
            manager.make(one.peer, 12)
            manager.send(one.peer, target, message)
            one.router.snapshots[-1](True)
            manager.make(one.peer, 12)

    run_virtual(main())
