"""Watches: order, replay, resuming, cancelling, slow clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.sim.loop import run_virtual
from pd_py.etcd import watch
from pd_py.etcd.watch_hub import Watcher, WatchHub
from pd_py.metastore.kv import versions
from pd_py.metastore.kv.errors import Compacted
from pd_py.metastore.kv.record import span_of
from pd_py.metastore.kv.state import KvState
from protos.etcd import rpc_pb2
from tests.unit.pd_etcd.support import Watching, serving, settle
from tests.unit.pd_kv.commands import compact, delete, put, put_op, txn, txn_request

Create = rpc_pb2.WatchCreateRequest


def test_changes_come_as_they_are_made() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            await client.put(b"k", b"0")
            watching = await client.watch(b"k", prev_kv=True)
            await client.put(b"other")
            await client.put(b"k", b"1")
            await client.delete(b"k")
            response = await watching.next()
            assert (response.watch_id, response.header.cluster_id) == (0, 99)
            event = response.events[0]
            assert (event.type, event.kv.value, event.prev_kv.value, event.kv.mod_revision) == (0, b"1", b"0", 4)
            event = (await watching.next()).events[0]
            assert (event.type, event.kv.key, event.kv.mod_revision, event.prev_kv.value) == (1, b"k", 5, b"1")
            assert (event.kv.value, event.kv.version) == (b"", 0)
            watching.stream.cancel()
            await settle(lambda: len(member.watches.hub) == 0)

    run_virtual(main())


def test_a_start_in_the_past_replays_and_one_to_come_waits() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            for number in range(5):
                await client.put(b"k%d" % number)
            watching = await client.watch(b"k", b"l", start_revision=4)
            assert await watching.events(3) == [(b"k2", b"v", 4), (b"k3", b"v", 5), (b"k4", b"v", 6)]
            later = await client.watch(b"k", b"l", start_revision=9)
            for number in range(4):
                await client.put(b"k%d" % number)
            assert await later.events(2) == [(b"k2", b"v", 9), (b"k3", b"v", 10)]

    run_virtual(main())


def test_resuming_after_each_event_leaves_no_gap_and_repeats_nothing() -> None:
    """The way of clientv3: a broken stream is opened again at the last event's revision + 1."""

    async def main() -> None:
        async with serving() as (_, client):
            async with asyncio.TaskGroup() as group:

                async def write() -> None:
                    for number in range(200):
                        request = txn_request([], [put_op(b"a", b"%d" % number), put_op(b"b", b"%d" % number)])
                        await client.call("Txn", request)

                group.create_task(write())
                seen: list[tuple[bytes, bytes, int]] = []
                revision = 2
                while len(seen) < 400:
                    watching = await client.watch(b"a", b"c", start_revision=revision)
                    response = await watching.next()
                    seen += [(event.kv.key, event.kv.value, event.kv.mod_revision) for event in response.events]
                    assert len(response.events) % 2 == 0, "a revision came in two pieces"
                    revision = seen[-1][2] + 1
                    watching.stream.cancel()
            expected = [(key, b"%d" % number, number + 2) for number in range(200) for key in (b"a", b"b")]
            assert seen == expected

    run_virtual(main())


def test_a_start_before_the_kept_history_ends_with_where_to_begin() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            for _ in range(5):
                await client.put(b"k")
            member.store.apply(compact(5))
            watching = await client.watch(b"k", start_revision=4)
            response = await watching.next()
            assert (response.canceled, response.compact_revision, response.watch_id) == (True, 5, 0)
            assert "required revision has been compacted" in response.cancel_reason
            await watching.create(b"k", start_revision=5)
            assert [revision for _, _, revision in await watching.events(2)] == [5, 6]
            assert len(member.watches.hub) == 1

    run_virtual(main())


def test_several_watches_of_one_stream() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            watching = Watching(client.stream("Watch"))
            assert (await watching.create(b"a")).watch_id == 0
            assert (await watching.create(b"b", watch_id=7)).watch_id == 7
            assert (await watching.create(b"c")).watch_id == 1
            for fields in ({"watch_id": 7}, {"range_end": b"a"}, {"start_revision": -1}):
                refused = await watching.create(b"b", **fields)
                assert (refused.watch_id, refused.canceled) == (-1, True)
                assert refused.cancel_reason
            await client.put(b"b")
            assert (await watching.next()).watch_id == 7
            cancel = rpc_pb2.WatchCancelRequest(watch_id=7)
            await watching.stream.send(rpc_pb2.WatchRequest(cancel_request=cancel))
            await watching.stream.send(rpc_pb2.WatchRequest(cancel_request=cancel))  # nobody there any more: no answer
            response = await watching.next()
            assert (response.watch_id, response.canceled) == (7, True)
            await client.put(b"b")
            await client.put(b"c")
            assert (await watching.next()).watch_id == 1
            assert len(member.watches.hub) == 2
            await watching.stream.done_sending()
            assert await watching.next() is None
            await settle(lambda: len(member.watches.hub) == 0)

    run_virtual(main())


def test_filters() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            deletes = await client.watch(b"k", filters=[Create.NOPUT])
            puts = await client.watch(b"k", filters=[Create.NODELETE])
            await client.put(b"k", b"1")
            await client.delete(b"k")
            await client.put(b"k", b"2")
            assert await deletes.events(1) == [(b"k", b"", 3)]
            assert await puts.events(2) == [(b"k", b"1", 2), (b"k", b"2", 4)]
            assert await deletes.is_quiet()

    run_virtual(main())


def test_an_empty_key_is_the_smallest_one() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            watching = await client.watch(b"", b"\0")
            await client.put(b"\0")
            await client.put(b"\xff")
            assert [key for key, _, _ in await watching.events(2)] == [b"\0", b"\xff"]

    run_virtual(main())


def test_progress_on_request_comes_after_every_event_up_to_it() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            watching = await client.watch(b"k")
            for _ in range(50):
                await client.put(b"k")
            await watching.stream.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))
            last = 0
            while True:
                response = await watching.next()
                if response.watch_id == -1:
                    break
                last = response.events[-1].kv.mod_revision
            assert (response.header.revision, len(response.events)) == (51, 0)
            assert last == 51

    run_virtual(main())


def test_quiet_watches_are_told_of_progress_now_and_then() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            watching = await client.watch(b"k", progress_notify=True)
            silent = await client.watch(b"k")
            await client.put(b"other")
            loop = asyncio.get_running_loop()
            begin = loop.time()
            response = await watching.next()
            assert (response.watch_id, response.header.revision, len(response.events)) == (0, 2, 0)
            assert loop.time() - begin == pytest.approx(watch.PROGRESS_INTERVAL_S)
            await watching.next()
            assert loop.time() - begin == pytest.approx(2 * watch.PROGRESS_INTERVAL_S)
            await client.put(b"k")
            assert await watching.events(1)
            await watching.next()  # not in the interval that had an event
            assert loop.time() - begin == pytest.approx(4 * watch.PROGRESS_INTERVAL_S)
            assert (await silent.next()).events

    run_virtual(main())


def test_a_client_that_reads_nothing_costs_nothing_and_is_told_where_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "HISTORY_REVISIONS", 100)

    async def main() -> None:
        async with serving() as (member, client):
            stream = client.stream("Watch")
            watching = Watching(stream)
            await watching.create(b"k")
            for _ in range(2000):  # more than the network keeps for a reader that is asleep
                member.store.apply(put(b"k"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            seen = 1
            while not (response := await watching.next()).canceled:
                for event in response.events:
                    assert event.kv.mod_revision == seen + 1
                    seen += 1
            assert response.compact_revision > seen
            assert len(member.watches.hub) == 0

    run_virtual(main())


def test_large_revisions_are_only_split_for_those_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_REQUEST_BYTES", 3000)

    async def main() -> None:
        async with serving() as (_, client):
            whole, parts = await client.watch(b"k", b"l"), await client.watch(b"k", b"l", fragment=True)
            await client.call("Txn", txn_request([], [put_op(b"k%d" % n, b"x" * 1000) for n in range(5)]))
            assert len((await whole.next()).events) == 5
            got = []
            while True:
                response = await parts.next()
                got += [event.kv.key for event in response.events]
                assert response.ByteSize() < 3200
                if not response.fragment:
                    break
            assert got == [b"k0", b"k1", b"k2", b"k3", b"k4"]

    run_virtual(main())


def test_long_histories_come_in_batches_of_whole_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BATCH_EVENTS", 10)
    monkeypatch.setattr(watch, "RESPONSE_BYTES", 1000)

    async def main() -> None:
        async with serving() as (member, client):
            for number in range(50):
                member.store.apply(txn([], [put_op(b"k%d" % key, b"%d" % number) for key in range(3)]))
            watching = await client.watch(b"k", b"l", start_revision=1)
            seen: list[int] = []
            responses = 0
            while len(seen) < 150:
                response = await watching.next()
                responses += 1
                seen += [event.kv.mod_revision for event in response.events]
                assert seen.count(seen[-1]) == 3
            assert seen == sorted(seen)
            assert responses > 10

    run_virtual(main())


def test_a_stream_that_requires_a_leader_ends_when_there_is_none_for_a_while() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            watching = Watching(client.stream("Watch", (("hasleader", "true"),)))
            await watching.create(b"k")
            member.members.leader = 0
            await asyncio.sleep(1.5)
            member.members.leader = 1  # a short election is nothing
            await asyncio.sleep(5)
            await client.put(b"k")
            await watching.events(1)
            member.members.leader = 0
            with pytest.raises(RpcError, match="etcdserver: no leader"):
                await watching.next()

    run_virtual(main())


def test_watches_per_stream_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WATCHERS_PER_STREAM", 2)

    async def main() -> None:
        async with serving() as (_, client):
            watching = Watching(client.stream("Watch"))
            answers: list[Any] = [await watching.create(b"k") for _ in range(3)]
            assert [answer.canceled for answer in answers] == [False, False, True]
            assert answers[2].cancel_reason == "etcdserver: too many requests"

    run_virtual(main())


def test_the_hub_looks_at_a_snapshot_that_took_the_place_of_the_state() -> None:
    """A member that was away: what its watchers missed is read from the history of the snapshot, if it is there."""
    old, new = KvState(), KvState()
    for state in (old, new):
        state.apply(put(b"k"))
    current = [old]
    hub = WatchHub(lambda: current[0])
    woken: list[str] = []
    near = Watcher(1, span_of(b"k", b""), lambda: woken.append("near"), 0)
    other = Watcher(2, span_of(b"o", b""), lambda: woken.append("other"), 0)
    hub.add(near)
    hub.add(other)
    new.apply(delete(b"k"))
    new.apply(put(b"k"))
    current[0] = new
    hub.changed()
    assert woken == ["near"]
    assert [event.kv.mod_revision for event in hub.read(near, 10)] == [3, 4]
    for _ in range(3):
        new.apply(put(b"z"))
    new.apply(compact(7))
    hub.changed()
    assert woken == ["near", "near", "other"] or woken == ["near", "other", "near"]
    for watcher in (near, other):
        with pytest.raises(Compacted):
            hub.read(watcher, 10)
