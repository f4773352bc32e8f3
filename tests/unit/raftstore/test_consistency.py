"""The consistency check by hand: what is in the checksum, who compares, and who is silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from core_py.errors import InvariantViolation
from core_py.raft.node import RawNode
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from tests.unit.raftstore.support import REGION, Bench, bench, engines_with, first_region
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_RAFT, CF_WRITE
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands, keys
from tikv_py.raftstore.consistency import CHECKS_MAX, ConsistencyChecks, describe
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import ApplyState

INDEX = 9


def put(made: Bench, cf: str, key: bytes, value: bytes) -> None:
    batch = made.kv_db.batch()
    batch.put(cf, key, value)
    made.kv_db.write(batch)


def run(test: Callable[[Bench, ConsistencyChecks], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench() as made:
            await test(made, ConsistencyChecks(made.store))

    run_virtual(main())


async def checksum(made: Bench, index: int = INDEX) -> bytes:
    """What the check computes, read from the error it gives for another checksum."""
    checks = ConsistencyChecks(made.store)
    checks.on_compute_hash(made.peer, index)
    await made.settle()
    with pytest.raises(InvariantViolation) as caught:
        checks.on_verify_hash(made.peer, index, b"other")
    return bytes.fromhex(str(caught.value).split("checksum ")[1].split(" here")[0])


def test_the_checksum_covers_all_data_of_the_region_and_nothing_else() -> None:
    async def body(made: Bench, _checks: ConsistencyChecks) -> None:
        seen = [await checksum(made)]
        for cf, key, value in (
            (CF_DEFAULT, b"zk", b"v"),
            (CF_DEFAULT, b"zk", b"w"),
            (CF_LOCK, b"zk", b"v"),
            (CF_WRITE, b"zk", b"v"),
            (CF_WRITE, b"zkv", b""),
        ):
            put(made, cf, key, value)
            seen.append(await checksum(made))
        assert len(set(seen)) == len(seen)
        put(made, CF_RAFT, b"\x01\x04", b"the store's own")
        put(made, CF_DEFAULT, b"a", b"no user data")
        assert await checksum(made) == seen[-1]

    run(body)


def test_the_checksum_of_many_pairs_does_not_depend_on_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(made: Bench, _checks: ConsistencyChecks) -> None:
        for number in range(50):
            put(made, CF_DEFAULT, b"z%03d" % number, b"v" * number)
        whole = await checksum(made)
        monkeypatch.setattr("tikv_py.raftstore.consistency.SLICE_PAIRS", 7)
        assert await checksum(made) == whole

    run(body)


def test_what_is_written_after_the_command_is_not_in_the_checksum() -> None:
    async def body(made: Bench, checks: ConsistencyChecks) -> None:
        expected = await checksum(made)
        checks.on_compute_hash(made.peer, INDEX)
        put(made, CF_DEFAULT, b"zlater", b"v")
        await made.settle()
        checks.on_verify_hash(made.peer, INDEX, expected)
        checks.on_compute_hash(made.peer, INDEX)
        await made.settle()
        with pytest.raises(InvariantViolation, match="region 1: data differs from the leader's at index 9"):
            checks.on_verify_hash(made.peer, INDEX, expected)

    run(body)


def test_a_verification_that_comes_first_is_compared_when_the_checksum_is_there(
    broken_invariants: list[BaseException],
) -> None:
    async def body(made: Bench, checks: ConsistencyChecks) -> None:
        expected = await checksum(made)
        checks.on_compute_hash(made.peer, INDEX)
        checks.on_verify_hash(made.peer, INDEX, expected)
        await made.settle()
        assert broken_invariants == []
        checks.on_compute_hash(made.peer, INDEX)
        checks.on_verify_hash(made.peer, INDEX, b"\x00\x01\x02\x03")
        await made.settle()

    with pytest.raises(InvariantViolation):  # a process would have ended at once; here the scope hands it on as well
        run(body)
    assert [type(error) for error in broken_invariants] == [InvariantViolation]
    assert "00010203 there" in str(broken_invariants[0])
    broken_invariants.clear()


def test_a_replica_without_a_checksum_for_the_index_says_nothing() -> None:
    async def body(made: Bench, checks: ConsistencyChecks) -> None:
        checks.on_verify_hash(made.peer, INDEX, b"other")
        checks.on_compute_hash(made.peer, INDEX)
        await made.settle()
        checks.on_verify_hash(made.peer, INDEX + 1, b"other")
        checks.forget(made.peer.region.id)
        checks.on_verify_hash(made.peer, INDEX, b"other")

    run(body)


def test_no_more_checks_run_at_once_than_there_is_room_for() -> None:
    async def body(made: Bench, checks: ConsistencyChecks) -> None:
        for _ in range(CHECKS_MAX + 3):
            checks.on_compute_hash(made.peer, INDEX)
        checks.on_compute_hash(made.peer, INDEX + 1)
        await made.settle()
        checks.on_verify_hash(made.peer, INDEX + 1, b"left out, so nothing is compared")
        with pytest.raises(InvariantViolation):
            checks.on_verify_hash(made.peer, INDEX, b"other")

    run(body)


def test_the_leader_proposes_what_it_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(made: Bench, checks: ConsistencyChecks) -> None:
        expected = await checksum(made)
        proposed: list[bytes] = []
        monkeypatch.setattr(Peer, "is_leader", True)
        monkeypatch.setattr(RawNode, "propose", lambda _node, data: proposed.append(data))
        checks.on_compute_hash(made.peer, INDEX)
        await made.settle()
        (data,) = proposed
        admin = cmdpb.RaftCmdRequest.FromString(data).admin_request
        assert admin.cmd_type == cmdpb.VerifyHash
        assert (admin.verify_hash.index, admin.verify_hash.hash) == (INDEX, expected)
        monkeypatch.undo()

    run(body)


def test_a_region_is_described_the_same_whatever_the_order_of_its_peers() -> None:
    region, other = first_region(), metapb_pb2.Region()
    other.CopyFrom(region)
    del other.peers[:]
    other.peers.extend(reversed(region.peers))
    assert describe(region) == describe(other)
    other.peers[0].role = metapb_pb2.Learner
    assert describe(region) != describe(other)


def entry(admin: cmdpb.AdminRequest) -> bytes:
    return commands.admin_command(first_region(), admin).SerializeToString()


def writing(key: bytes, value: bytes) -> bytes:
    return commands.write_command(first_region(), [Modify(CF_DEFAULT, key, value)])


COMPUTE = entry(cmdpb.AdminRequest(cmd_type=cmdpb.ComputeHash))


def verify(index: int, expected: bytes) -> bytes:
    request = cmdpb.VerifyHashRequest(index=index, hash=expected)
    return entry(cmdpb.AdminRequest(cmd_type=cmdpb.VerifyHash, verify_hash=request))


async def applied_checksum(*turns: list[bytes]) -> bytes:
    """The checksum that a replica computes for the log entries, which arrive in these turns; the check is entry 7."""
    async with bench() as made:
        for entries in turns:
            await made.append(entries, made.peer.storage.last_index() + len(entries))
        with pytest.raises(InvariantViolation) as caught:
            made.store.consistency.on_verify_hash(made.peer, 7, b"other")
        return bytes.fromhex(str(caught.value).split("checksum ")[1].split(" here")[0])


def test_the_checksum_is_of_the_entry_however_entries_are_grouped_in_turns() -> None:
    async def main() -> None:
        first, last = writing(b"zk", b"1"), writing(b"zk", b"2")
        one_by_one = await applied_checksum([first], [COMPUTE], [last])
        assert await applied_checksum([first, COMPUTE, last]) == one_by_one
        assert await applied_checksum([first], [COMPUTE, last]) == one_by_one
        assert await applied_checksum([first, COMPUTE], [last]) == one_by_one
        assert await applied_checksum([last, COMPUTE]) != one_by_one

    run_virtual(main())


def test_a_check_in_the_middle_of_a_turn_leaves_a_state_that_can_be_started_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        raft_db, kv_db = engines_with(first_region())
        async with bench(raft_db, kv_db) as made:
            left: list[tuple[MemoryEngine, MemoryEngine]] = []

            def end_here(*_arguments: object) -> None:
                """What a process that ends right here leaves behind."""
                left.append((raft_db.image(raft_db.unsynced_batches()), kv_db.image(kv_db.unsynced_batches())))

            monkeypatch.setattr(ConsistencyChecks, "on_compute_hash", end_here)
            await made.append([writing(b"zk", b"1"), COMPUTE, writing(b"zk", b"2")], 8)
        state = left[0][1].get(CF_RAFT, keys.apply_state_key(REGION))
        assert ApplyState.from_bytes(state or b"").applied_index == 7
        assert left[0][1].get(CF_DEFAULT, b"zk") == b"1"
        async with bench(*left[0]) as again:
            await again.heartbeat(commit=8)
            assert again.kv_db.get(CF_DEFAULT, b"zk") == b"2"

    run_virtual(main())


def test_the_leaders_verification_is_compared_where_it_is_applied(broken_invariants: list[BaseException]) -> None:
    async def main() -> None:
        expected = await applied_checksum([writing(b"zk", b"1"), COMPUTE])
        async with bench() as made:
            await made.append([writing(b"zk", b"1"), COMPUTE, verify(7, expected)], 8)
            assert made.store.consistency.passed == 1
            await made.append([COMPUTE, verify(9, expected[::-1])], 10)
            assert made.store.consistency.passed == 1

    with pytest.raises(InvariantViolation):
        run_virtual(main())
    assert "region 1: data differs from the leader's at index 9" in str(broken_invariants[0])
    broken_invariants.clear()
