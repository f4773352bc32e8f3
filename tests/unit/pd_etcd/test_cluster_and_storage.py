"""Members, status, and PD's thin view of the same keys."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from core_py.errors import RpcError
from core_py.sim.loop import run_virtual
from pd_py.metastore.errors import NotLeader
from protos.etcd import rpc_pb2
from protos.kvproto import meta_storagepb_pb2 as pb
from tests.unit.pd_etcd.support import serving
from tests.unit.pd_kv.commands import compact

NEW = ["http://pd2:2380"]


def test_members_come_and_go() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            listed = await client.call("MemberList", rpc_pb2.MemberListRequest())
            one = listed.members[0]
            assert (one.ID, one.name, list(one.clientURLs)) == (1, "pd1", ["http://pd1:2379"])
            assert (listed.header.cluster_id, member.store.barriers) == (99, 0)
            await client.call("MemberList", rpc_pb2.MemberListRequest(linearizable=True))
            assert member.store.barriers == 1
            added = await client.call("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=NEW, isLearner=True))
            assert (added.member.ID, added.member.isLearner, len(added.members)) == (2, True, 2)
            urls = ["https://[::1]:2380"]
            updated = await client.call("MemberUpdate", rpc_pb2.MemberUpdateRequest(ID=2, peerURLs=urls))
            assert list(updated.members[1].peerURLs) == urls
            promoted = await client.call("MemberPromote", rpc_pb2.MemberPromoteRequest(ID=2))
            assert not promoted.members[1].isLearner
            removed = await client.call("MemberRemove", rpc_pb2.MemberRemoveRequest(ID=2))
            assert [left.ID for left in removed.members] == [1]

    run_virtual(main())


@pytest.mark.parametrize(
    ("name", "request_", "status", "text"),
    [
        ("MemberAdd", rpc_pb2.MemberAddRequest(), "INVALID_ARGUMENT", "given member URLs are invalid"),
        ("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=["pd2:2380"]), "INVALID_ARGUMENT", "URLs are invalid"),
        ("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=["http://pd2"]), "INVALID_ARGUMENT", "URLs are invalid"),
        ("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=["http://h:99999"]), "INVALID_ARGUMENT", "URLs are invalid"),
        ("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=["http://" + "h" * 600 + ":1"]), "INVALID_ARGUMENT", "URLs"),
        ("MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=NEW * 2), "INVALID_ARGUMENT", "URLs are invalid"),
        (
            "MemberAdd",
            rpc_pb2.MemberAddRequest(peerURLs=["http://pd1:2380"]),
            "FAILED_PRECONDITION",
            "Peer URLs already exists",
        ),
        ("MemberRemove", rpc_pb2.MemberRemoveRequest(ID=9), "NOT_FOUND", "member not found"),
        ("MemberUpdate", rpc_pb2.MemberUpdateRequest(ID=9, peerURLs=NEW), "NOT_FOUND", "member not found"),
        ("MemberPromote", rpc_pb2.MemberPromoteRequest(ID=9), "NOT_FOUND", "member not found"),
        ("MemberPromote", rpc_pb2.MemberPromoteRequest(ID=1), "FAILED_PRECONDITION", "can only promote a learner"),
    ],
)
def test_changes_of_members_that_are_refused(name: str, request_: Message, status: str, text: str) -> None:
    async def main() -> None:
        async with serving() as (member, client):
            with pytest.raises(RpcError, match=f"etcdserver: .*{text}") as caught:
                await client.call(name, request_)
            assert caught.value.status == status
            assert len(member.members.table) == 1

    run_virtual(main())


def test_status() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            await client.put(b"k")
            status = await client.call("Status", rpc_pb2.StatusRequest())
            assert (status.leader, status.raftTerm, list(status.errors), status.header.revision) == (1, 7, [], 2)
            assert status.dbSize > 0
            assert status.version.startswith("3.")
            member.members.leader = 0
            status = await client.call("Status", rpc_pb2.StatusRequest())
            assert list(status.errors) == ["etcdserver: no leader"]

    run_virtual(main())


def test_meta_storage_reads_and_writes_the_same_keys() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            put = await client.call("MetaStorage.Put", pb.PutRequest(key=b"resource_group/controller", value=b"{}"))
            assert (put.header.cluster_id, put.header.revision) == (42, 2)
            assert not put.header.HasField("error")
            assert not put.HasField("prev_kv")
            assert await client.value(b"resource_group/controller") == b"{}"
            await client.call("MetaStorage.Put", pb.PutRequest(key=b"resource_group/x", value=b"1"))
            again = pb.PutRequest(key=b"resource_group/x", value=b"2", prev_kv=True)
            assert (await client.call("MetaStorage.Put", again)).prev_kv.value == b"1"
            got = await client.call(
                "MetaStorage.Get", pb.GetRequest(key=b"resource_group/", range_end=b"resource_group0", limit=1)
            )
            assert (len(got.kvs), got.more, got.count) == (1, True, 2)
            assert (got.kvs[0].key, got.kvs[0].version) == (b"resource_group/controller", 1)
            gone = await client.call("MetaStorage.Delete", pb.DeleteRequest(key=b"resource_group/x", prev_kv=True))
            assert (gone.deleted, gone.prev_kvs[0].value) == (1, b"2")
            empty = await client.call("MetaStorage.Get", pb.GetRequest(key=b"none"))
            assert not empty.kvs
            assert not empty.header.HasField("error")

    run_virtual(main())


def test_meta_storage_says_refusals_in_the_header_and_its_own_troubles_by_status() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            for name, request in (
                ("MetaStorage.Put", pb.PutRequest(key=b"/pd/x")),
                ("MetaStorage.Delete", pb.DeleteRequest()),
                ("MetaStorage.Get", pb.GetRequest(key=b"k", revision=99)),
            ):
                answer = await client.call(name, request)
                assert answer.header.error.type == pb.UNKNOWN
                assert answer.header.error.message.startswith("etcdserver: ")
            member.store.refusal = NotLeader("not leader")
            with pytest.raises(RpcError, match="etcdserver: no leader"):
                await client.call("MetaStorage.Get", pb.GetRequest(key=b"k"))

    run_virtual(main())


def test_meta_storage_watches() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            await client.put(b"k", b"1")
            stream = client.stream("MetaStorage.Watch")
            await stream.send(pb.WatchRequest(key=b"k", start_revision=2, prev_kv=True))
            await stream.done_sending()
            first = await stream.receive()
            assert (first.events[0].kv.value, first.header.cluster_id) == (b"1", 42)
            await client.delete(b"k")
            second = await stream.receive()
            assert (second.events[0].type, second.events[0].prev_kv.value) == (pb.Event.DELETE, b"1")
            stream.cancel()
            member.store.apply(compact(3))
            old = client.stream("MetaStorage.Watch")
            await old.send(pb.WatchRequest(key=b"k", start_revision=2))
            answer = await old.receive()
            assert (answer.header.error.type, answer.compact_revision) == (pb.DATA_COMPACTED, 3)
            assert answer.header.error.message == (
                "required watch revision: 2 is smaller than current compact/min revision 3."
            )
            with pytest.raises(RpcError, match="compacted"):
                await old.receive()

    run_virtual(main())
