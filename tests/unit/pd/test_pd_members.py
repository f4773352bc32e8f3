"""Members of PD: restart, replacement, strangers, and what must not be believed. Virtual time, real server code."""

from __future__ import annotations

import asyncio
import pickle  # noqa: TID251 what an attacker would send
from collections.abc import Awaitable, Callable
from functools import partial

import grpc
import pytest

from core_py.errors import ConfigError, RpcError
from core_py.ports import methods_of
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.sim.disk import MemoryDisk
from core_py.sim.loop import run_virtual
from pd_py.metastore.errors import MemberRefused, NotLeader, OutcomeUnknown
from pd_py.metastore.links import METHODS, Links
from pd_py.server.config import PdConfig
from protos.kvproto import pdpb_pb2
from protos.private import metaraft_pb2
from tests.support.metadata import LoneStore
from tests.support.pd_cluster import PdCluster, PdMember

PD = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])


def with_cluster(body: Callable[[PdCluster], Awaitable[None]], names: tuple[str, ...] = ("pd1", "pd2", "pd3")) -> None:
    async def main() -> None:
        cluster = PdCluster(names)
        await cluster.start_all()
        await cluster.leader()
        try:
            await body(cluster)
        finally:
            await cluster.stop()

    run_virtual(main())


async def put(cluster: PdCluster, key: str, value: bytes) -> None:
    leader = await cluster.leader()
    await leader.running.store.write({key: value})


def knows_a_leader(member: PdMember) -> bool:
    return member.running.store.leader() is not None


def others(cluster: PdCluster, name: str) -> list[str]:
    return [other for other in cluster.members if other != name]


@pytest.mark.parametrize("names", [("pd1",), ("pd1", "pd2", "pd3"), ("pd1", "pd2", "pd3", "pd4", "pd5")])
def test_what_was_acknowledged_is_there_after_all_lost_power(names: tuple[str, ...]) -> None:
    async def body(cluster: PdCluster) -> None:
        await put(cluster, "/k", b"kept")
        for name in names:
            await cluster.kill(name, torn_bytes=7)
        await cluster.start_all()
        leader = await cluster.leader()
        assert leader.running.store.get("/k") == b"kept"

    with_cluster(body, names)


def test_a_killed_leader_is_replaced_within_three_election_intervals() -> None:
    async def body(cluster: PdCluster) -> None:
        for _ in range(5):
            old = await cluster.leader()
            began = asyncio.get_running_loop().time()
            await cluster.kill(old.name)
            new = await cluster.leader()
            assert new is not old
            assert asyncio.get_running_loop().time() - began < 3 * 0.5
            await cluster.start(old.name)
            await cluster.until(partial(knows_a_leader, old))

    with_cluster(body)


def test_a_transfer_to_a_member_that_cannot_take_over_leaves_a_leader_that_serves() -> None:
    """Asking a member to take over ends the lease of the term, for the question may arrive late; so the term must end, too."""

    async def body(cluster: PdCluster) -> None:
        old = await cluster.leader()
        target, other = others(cluster, old.name)
        store, target_id = old.running.store, cluster.members[target].running.store.member_id

        def is_ready() -> bool:
            progress = store.replica.node.progress(target_id)
            return all(member.client_urls for member in store.members()) and (
                progress is not None and progress.match == store.replica.node.last_index
            )

        await cluster.until(is_ready)
        cluster.fault.part(frozenset((target,)), frozenset((other,)))
        cluster.fault.part(frozenset((target,)), frozenset((old.name,)), both=False)
        term = store.term
        old.running.changes.transfer(target_id)
        assert cluster.serving() == []
        new = await cluster.leader(budget_s=3)
        assert new.name in (old.name, other)
        assert new.running.store.term > term

    with_cluster(body)


def test_a_leader_that_stops_in_order_hands_leadership_over() -> None:
    async def body(cluster: PdCluster) -> None:
        old = await cluster.leader()
        await cluster.until(lambda: old.running.store.replica.likely_heir() is not None)
        began = asyncio.get_running_loop().time()
        await old.running.resign()
        await cluster.leader()
        assert asyncio.get_running_loop().time() - began < 0.4, "less than an election takes"
        assert not old.running.store.is_leader

    with_cluster(body)


def test_a_minority_neither_serves_nor_writes() -> None:
    async def body(cluster: PdCluster) -> None:
        old = await cluster.leader()
        cluster.fault.part(frozenset((old.name,)), frozenset(others(cluster, old.name)))
        write = asyncio.gather(old.running.store.write({"/lost": b"1"}), return_exceptions=True)
        await cluster.until(lambda: old.name not in cluster.serving())
        channel = cluster.network.transport("client").connect(f"{old.name}:2379")
        request = pdpb_pb2.AllocIDRequest()
        request.header.cluster_id = old.running.directory.cluster_id
        with pytest.raises(RpcError, match="not leader"):
            await channel.unary(PD["AllocID"], request, timeout_s=1)
        new = await cluster.leader()
        await new.running.store.write({"/kept": b"1"})
        assert isinstance((await write)[0], OutcomeUnknown | NotLeader)
        cluster.fault.heal()
        await cluster.until(lambda: old.running.store.get("/kept") == b"1")
        assert old.running.store.get("/lost") is None

    with_cluster(body)


def test_followers_hand_changes_to_the_leader_and_read_what_was_acknowledged() -> None:
    async def body(cluster: PdCluster) -> None:
        leader = await cluster.leader()
        first, second = (cluster.members[name].running.store for name in others(cluster, leader.name))
        with pytest.raises(NotLeader):
            await first.write({"/k": b"1"})
        command = metaraft_pb2.ProposeRequest().command
        command.put.key, command.put.value = b"/k", b"2"
        result = await first.execute(command)
        assert result.revision == first.kv.revision
        await second.barrier()
        assert second.get("/k") == b"2"

    with_cluster(body)


def test_a_member_with_a_wiped_disk_must_join_anew() -> None:
    async def body(cluster: PdCluster) -> None:
        leader = await cluster.leader()
        lost = cluster.members[others(cluster, leader.name)[0]]
        lost_id = lost.running.store.member_id
        await cluster.until(lambda: all(member.client_urls for member in leader.running.store.members()))
        await cluster.kill(lost.name)
        lost.disk = MemoryDisk()
        with pytest.raises(ConfigError, match="already been bootstrapped"):
            await cluster.start(lost.name)
        await leader.running.changes.remove(lost_id)
        lost.initial_cluster, lost.join = "", f"http://{leader.name}:2379"
        await cluster.start(lost.name)
        assert lost.running.store.member_id != lost_id
        await cluster.until(lambda: [m.is_learner for m in leader.running.store.members()] == [False, False, False])
        await put(cluster, "/after", b"1")
        await cluster.until(lambda: lost.running.store.get("/after") == b"1")

    with_cluster(body)


def test_a_cluster_grows_from_one_to_three_and_survives_its_first_member() -> None:
    async def body(cluster: PdCluster) -> None:
        await put(cluster, "/first", b"1")
        for name in ("pd2", "pd3"):
            cluster.members[name] = PdMember(name, join="http://pd1:2379")
            await cluster.start(name)
            await cluster.until(lambda: not any(m.is_learner for m in cluster.members["pd1"].running.store.members()))
        await cluster.kill("pd1")
        leader = await cluster.leader()
        assert leader.running.store.get("/first") == b"1"
        await put(cluster, "/second", b"1")
        await cluster.kill("pd2")
        await cluster.kill("pd3")
        for name in ("pd1", "pd2", "pd3"):
            await cluster.start(name)
        assert (await cluster.leader()).running.store.get("/second") == b"1"

    with_cluster(body, ("pd1",))


def test_a_removed_member_is_told_to_end() -> None:
    async def body(cluster: PdCluster) -> None:
        leader = await cluster.leader()
        gone = cluster.members[others(cluster, leader.name)[0]]
        await leader.running.changes.remove(gone.running.store.member_id)
        await cluster.until(lambda: gone.name in cluster.failures)
        assert "was removed from the cluster" in str(cluster.failures.pop(gone.name))
        assert len(leader.running.store.members()) == 2

    with_cluster(body)


def test_changes_of_members_that_cannot_be_are_refused() -> None:
    async def body(cluster: PdCluster) -> None:
        changes = (await cluster.leader()).running.changes
        with pytest.raises(MemberRefused, match="member not found"):
            await changes.remove(12345)
        with pytest.raises(MemberRefused, match="URLs are invalid"):
            await changes.add(("ftp://x",))
        with pytest.raises(MemberRefused, match="already exists"):
            await changes.add(("http://pd1:2380",))
        first = await changes.add(("http://new:2380",))
        assert await changes.add(("http://new:2380",)) == first, "a join that is repeated gets the same place"
        with pytest.raises(MemberRefused, match="too many learner"):
            await changes.add(("http://other:2380",))
        assert len(changes.list()) == 4

    with_cluster(body)


def test_the_last_member_cannot_be_removed() -> None:
    async def body(cluster: PdCluster) -> None:
        server = cluster.members["pd1"].running
        with pytest.raises(MemberRefused, match="not enough started members"):
            await server.changes.remove(server.store.member_id)

    with_cluster(body, ("pd1",))


def test_a_stranger_is_not_listened_to() -> None:
    """Another group, another token, another member's name: refused before anything is read."""

    async def body(cluster: PdCluster) -> None:
        leader = await cluster.leader()
        store = leader.running.store
        transport = cluster.network.transport("stranger")
        term = store.term

        async def refusal(group_id: int, token: str, to_member: int) -> str:
            links = Links(transport, 99, group_id, token, lambda _m: f"{leader.name}:2380", lambda _m: None)
            stream = links.open(store.member_id)
            batch = links.envelope(to_member)
            batch.messages.add(term=term + 10, to=to_member, msg_type=8)
            await stream.send(batch)
            with pytest.raises(RpcError) as refused:
                await stream.receive()
            await links.close()
            return refused.value.status

        assert await refusal(1234, "pd-cluster", store.member_id) == "FAILED_PRECONDITION"
        assert await refusal(store.cluster_id, "guess", store.member_id) == "UNAUTHENTICATED"
        assert await refusal(store.cluster_id, "pd-cluster", 77) == "NOT_FOUND"
        assert store.term == term

    with_cluster(body)


async def test_a_pickle_on_the_wire_is_refused() -> None:
    store = await LoneStore.open(MemoryDisk())
    heard: list[object] = []
    links = Links(GrpcTransport(), store.member_id, store.cluster_id, "", lambda _m: "", heard.append)

    async def propose(_request: metaraft_pb2.ProposeRequest) -> None:
        heard.append(_request)

    listener = await GrpcTransport().serve("127.0.0.1:0", [links.service(propose, metaraft_pb2.DescribeResponse)])
    async with grpc.aio.insecure_channel(listener.address) as channel:
        for name in ("Exchange", "Propose", "Describe"):
            method = METHODS[name]
            payload = pickle.dumps({"type": "append_entries", "term": 9, "entries": [b"x"]})
            if method.client_streaming:
                call = channel.stream_unary(method.path)(iter([payload]))
            else:
                call = channel.unary_unary(method.path)(payload)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert heard == []
    await listener.stop(0)
    await links.close()
    await store.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pd1=http://a:1,pd1", "not of the form"),
        ("pd2=http://a:1", "does not name this member"),
        ("pd1=http://a:1,pd2=http://a:1", "names a peer URL twice"),
    ],
)
def test_an_initial_cluster_that_makes_no_sense_is_refused(text: str, reason: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=reason):
        PdConfig(name="pd1", initial_cluster=text).validate()
