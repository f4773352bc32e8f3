"""Lock requests that wait, over one store's wire and over real clients: order, answers, moves of the region, a thousand at once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from core_py.ports import methods_of
from core_py.runtime.config import Seconds
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import deadlock_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_region_splits import Latency, SlowDisk
from tests.support.cluster_checks import leader, store_of, until, whole
from tests.support.storage_cluster import PD_ADDRESS, storage_cluster
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.client.txn.client import TxnClient
from tikv_py.raftstore import admin
from tikv_py.server.config import PessimisticTxnConfig, TikvConfig
from tikv_py.server.split_worker import split_region

KEY, HOLDER = b"k", 10 << 18
WAIT_FOR_ENTRIES = methods_of(deadlock_pb2.DESCRIPTOR.services_by_name["Deadlock"])["GetWaitForEntries"]


def locking(start_ts: int, wait_ms: int, key: bytes = KEY, **fields: Any) -> pb.PessimisticLockRequest:
    values = {"for_update_ts": start_ts, "lock_ttl": 3000, "is_first_lock": True, "primary_lock": key, **fields}
    request = pb.PessimisticLockRequest(start_version=start_ts, wait_timeout=wait_ms, **values)
    request.mutations.add(op=pb.PessimisticLock, key=key)
    return request


def releasing(start_ts: int, key: bytes = KEY) -> pb.PessimisticRollbackRequest:
    return pb.PessimisticRollbackRequest(start_version=start_ts, for_update_ts=start_ts, keys=[key])


async def commit(rpc: StoreRpc, start_ts: int, commit_ts: int) -> None:
    """Of a transaction that has KEY locked."""
    write = pb.PrewriteRequest(
        primary_lock=KEY,
        start_version=start_ts,
        for_update_ts=start_ts,
        lock_ttl=3000,
        pessimistic_actions=[pb.PrewriteRequest.DO_PESSIMISTIC_CHECK],
    )
    write.mutations.add(op=pb.Put, key=KEY, value=b"v")
    await rpc.call("KvPrewrite", write)
    await rpc.commit(KEY, start_ts, commit_ts)


class Line:
    """Requests that run beside the test, and the order in which they were answered."""

    def __init__(self, rpc: StoreRpc, group: asyncio.TaskGroup) -> None:
        self._rpc, self._group = rpc, group
        self.answered: list[int] = []
        self.answers: dict[int, Any] = {}

    async def join(self, request: pb.PessimisticLockRequest) -> None:
        async def run() -> None:
            answer = await self._rpc.call("KvPessimisticLock", request)
            self.answers[request.start_version] = answer
            self.answered.append(request.start_version)

        self._group.create_task(run())
        await asyncio.sleep(0.005)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_oldest_transaction_gets_a_key_that_was_given_back_at_once() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            for start_ts in (HOLDER + 3, HOLDER + 1, HOLDER + 2):
                await line.join(locking(start_ts, 0, return_values=True))
            for start_ts in (HOLDER, HOLDER + 1, HOLDER + 2):
                await rpc.call("KVPessimisticRollback", releasing(start_ts))
                await asyncio.sleep(0.1)
        assert line.answered == [HOLDER + 1, HOLDER + 2, HOLDER + 3]
        assert all(not answer.errors and list(answer.not_founds) == [True] for answer in line.answers.values())

    with_store(body)


def test_a_commit_wakes_one_with_the_conflict_and_the_others_after_the_delay() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            for start_ts in (HOLDER + 2, HOLDER + 1):
                await line.join(locking(start_ts, 0))
            began = now()
            await commit(rpc, HOLDER, HOLDER + 9)
            await asyncio.sleep(0.005)
            assert line.answered == [HOLDER + 1]
        assert line.answered == [HOLDER + 1, HOLDER + 2]
        assert now() - began == pytest.approx(0.02, abs=0.01)
        for answer in line.answers.values():
            conflict = answer.errors[0].conflict
            assert (conflict.reason, conflict.conflict_commit_ts) == (pb.WriteConflict.PessimisticRetry, HOLDER + 9)

    with_store(body)


def test_how_long_a_request_waits_and_what_it_is_told_then() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        for wait_ms, seconds in ((-1, 0.0), (300, 0.3), (0, 0.5), (9000, 0.5)):
            began = now()
            answer = await rpc.call("KvPessimisticLock", locking(HOLDER + 1, wait_ms))
            assert now() - began == pytest.approx(seconds, abs=0.01)
            assert answer.errors[0].locked.lock_version == HOLDER
            assert answer.errors[0].locked.duration_to_last_update_ms == 0
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            await line.join(locking(HOLDER + 1, 0))
            await line.join(locking(HOLDER + 2, 0))
            await rpc.call("KVPessimisticRollback", releasing(HOLDER))
            await asyncio.sleep(0.1)
        locked = line.answers[HOLDER + 2].errors[0].locked
        assert locked.lock_version == HOLDER + 1
        assert 480 <= locked.duration_to_last_update_ms <= 500

    with_store(body, settings=TikvConfig(pessimistic_txn=PessimisticTxnConfig(Seconds(0.5))))


def test_a_request_that_takes_its_lock_in_spite_of_conflicts_is_resumed_by_the_store() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            await line.join(locking(HOLDER + 1, 0, wake_up_mode=pb.WakeUpModeForceLock, return_values=True))
            await rpc.call("KVPessimisticRollback", releasing(HOLDER))
        (result,) = line.answers[HOLDER + 1].results
        assert result.type == pb.LockResultNormal
        assert not result.existence

        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            await line.join(locking(HOLDER + 2, 0, wake_up_mode=pb.WakeUpModeForceLock))
            await commit(rpc, HOLDER + 1, HOLDER + 9)
        (result,) = line.answers[HOLDER + 2].results
        assert (result.type, result.value, result.existence) == (pb.LockResultLockedWithConflict, b"v", True)
        assert result.locked_with_conflict_ts == HOLDER + 9
        several = locking(HOLDER + 3, -1, wake_up_mode=pb.WakeUpModeForceLock)
        several.mutations.add(op=pb.PessimisticLock, key=b"k2")
        refused = await rpc.call("KvPessimisticLock", several)
        assert "of one key" in refused.errors[0].abort
        assert len(rpc.data()["lock"]) == 1

    with_store(body)


def test_a_lock_only_of_what_exists_must_ask_for_the_value() -> None:
    async def body(rpc: StoreRpc) -> None:
        refused = await rpc.call("KvPessimisticLock", locking(HOLDER, -1, lock_only_if_exists=True))
        assert "only if it exists" in refused.errors[0].abort
        answer = await rpc.call("KvPessimisticLock", locking(HOLDER, -1, lock_only_if_exists=True, return_values=True))
        assert list(answer.not_founds) == [True]
        assert rpc.data()["lock"] == []

    with_store(body)


def test_waiters_of_a_region_that_is_split_are_told_so() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            await line.join(locking(HOLDER + 1, 0))
            began = now()
            await split_region(rpc.store, rpc.server.pd, next(iter(rpc.store.peers.values())), [b"zzz"])
        assert line.answers[HOLDER + 1].region_error.HasField("epoch_not_match")
        assert now() - began < 0.1

    with_store(body)


def test_waiters_of_a_region_that_is_led_elsewhere_are_told_so() -> None:
    async def body(rpc: StoreRpc) -> None:
        await whole(rpc.cluster)
        (peer,) = rpc.store.peers.values()
        if not peer.is_leader:
            node, theirs = await leader(rpc.cluster, KEY)
            admin.transfer_leader(store_of(node), theirs, peer.meta())
        await until(lambda: "" if peer.can_read_locally() else "it does not", "the first store leads")
        assert not (await rpc.call("KvPessimisticLock", locking(HOLDER, -1))).HasField("region_error")
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            for start_ts in range(HOLDER + 1, HOLDER + 21):
                await line.join(locking(start_ts, 0))
            assert not line.answered
            began = now()
            target = next(member for member in peer.region.peers if member.store_id != rpc.store.store_id)
            admin.transfer_leader(rpc.store, peer, target)
        assert all(answer.region_error.HasField("not_leader") for answer in line.answers.values())
        assert len(line.answers) == 20
        assert now() - began < 0.5

    with_store(body, stores=3)


def test_who_waits_can_be_asked() -> None:
    async def body(rpc: StoreRpc) -> None:
        assert not (await rpc.call("GetLockWaitInfo", pb.GetLockWaitInfoRequest())).entries
        await rpc.call("KvPessimisticLock", locking(HOLDER, -1))
        async with asyncio.TaskGroup() as group:
            line = Line(rpc, group)
            request = locking(HOLDER + 1, 0, is_first_lock=False)
            request.context.resource_group_tag = b"digest"
            await line.join(request)
            await asyncio.sleep(0.3)
            (entry,) = (await rpc.call("GetLockWaitInfo", pb.GetLockWaitInfoRequest())).entries
            assert (entry.txn, entry.wait_for_txn, entry.key) == (HOLDER + 1, HOLDER, KEY)
            assert entry.resource_group_tag == b"digest"
            assert 300 <= entry.wait_time <= 310
            assert entry.key_hash
            channel = rpc.cluster.network.transport("store9").connect("store1:20160")
            told = await channel.unary(WAIT_FOR_ENTRIES, deadlock_pb2.WaitForEntriesRequest(), timeout_s=1)
            assert [waiting.txn for waiting in told.entries] == [HOLDER + 1]
            await channel.close()
            value = rpc.server.registry.get_sample_value
            assert value("tikv_lock_wait_queue_entries_gauge_vec", {"type": "waiters"}) == 1
            assert value("tikv_lock_wait_queue_entries_gauge_vec", {"type": "keys"}) == 1
            assert value("tikv_lock_manager_detector_wait_for_map_size") == 1
        assert value("tikv_lock_manager_waiter_lifetime_duration_count") == 1
        assert value("tikv_lock_manager_detector_leader_heartbeat") == 1
        assert value("tikv_lock_manager_task_counter_total", {"type": "detect"}) == 1
        assert not (await rpc.call("GetLockWaitHistory", pb.GetLockWaitHistoryRequest())).entries

    with_store(body)


async def served_in_turn(waiters: int) -> tuple[float, list[int]]:
    """All want one key at the same moment, hold it for a moment and give it back: how many do a second, and in which order."""
    async with storage_cluster(1, fault=Latency(1), make_workers=SlowDisk) as cluster:
        await leader(cluster, KEY)
        channel = cluster.network.transport("client").connect("store1:20160")
        rpc = StoreRpc(cluster, channel)
        served: list[int] = []

        async def one(number: int) -> None:
            request = locking(HOLDER + number, 0, wake_up_mode=pb.WakeUpModeForceLock)
            while (await rpc.call("KvPessimisticLock", request)).errors:
                pass  # its time was up: again, as clients do
            served.append(number)
            await rpc.call("KVPessimisticRollback", releasing(HOLDER + number))

        began = now()
        arrivals = random.Random(7).sample(range(waiters), waiters)
        await asyncio.gather(*(one(number) for number in arrivals))
        took = now() - began
        await channel.close()
        return waiters / took, served


def test_a_thousand_waiters_of_one_key_pass_as_fast_as_ten_and_in_the_order_of_their_transactions() -> None:
    few, _ = run_virtual(served_in_turn(10))
    many, served = run_virtual(served_in_turn(1000))
    assert many > 0.9 * few
    ahead = [at - number for at, number in enumerate(served)]
    # Those that had to ask again were not in line for a moment, so a younger one may have gone first.
    assert max(ahead) <= 20, "somebody was passed over for long"


def test_a_lock_that_was_waited_for_very_long_lives_as_long_as_any_other() -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster:
            transport = cluster.network.transport("client")
            async with await TxnClient.connect((PD_ADDRESS,), transport=transport, clock=LoopClock()) as client:
                first, second, third = [await client.begin(pessimistic=True) for _ in range(3)]
                await first.lock_keys([KEY])
                async with asyncio.TaskGroup() as group:
                    waiting = group.create_task(second.lock_keys([KEY]))
                    await asyncio.sleep(30)
                    await first.rollback()
                    await waiting
                    waiting = group.create_task(third.lock_keys([KEY]))
                    await asyncio.sleep(5)
                    assert not waiting.done(), "the third takes the second for dead"
                    second.put(KEY, b"v")
                    await second.commit()
                    await waiting
                await third.rollback()

    run_virtual(main())
