"""Reads and changes through etcd's interface: statuses, headers, limits, linearizable reads."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from core_py.errors import DbError, RpcError
from core_py.sim.loop import run_virtual
from pd_py.etcd import limits
from pd_py.metastore.errors import MemberRefused, NotLeader, OutcomeUnknown, ProposalLost
from protos.etcd import rpc_pb2
from tests.unit.pd_etcd.support import Client, serving
from tests.unit.pd_kv.commands import Compare, delete_op, put_op, range_op, txn_op, txn_request


async def refusal(client: Client, name: str, request: Message, **options: object) -> tuple[str, str]:
    with pytest.raises(RpcError) as caught:
        await client.call(name, request, **options)  # type: ignore[arg-type]
    return caught.value.status, str(caught.value).split(": ", 2)[2]


def test_put_get_delete_and_the_header() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            assert await client.put(b"k", b"1") == 2
            response = await client.get(b"k")
            header = response.header
            assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (99, 1, 2, 7)
            assert (response.kvs[0].value, response.count) == (b"1", 1)
            deleted = await client.call("DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"k", prev_kv=True))
            assert (deleted.deleted, deleted.prev_kvs[0].value, deleted.header.raft_term) == (1, b"1", 7)
            assert member.store.kv.get(b"k") is None

    run_virtual(main())


def test_transactions_that_only_read_are_not_logged() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            await client.put(b"k", b"1")
            commands = member.store.commands
            inner = txn_request([], [range_op(b"k")])
            response = await client.call("Txn", txn_request([Compare(key=b"k", version=1)], [txn_op(inner)]))
            assert response.responses[0].response_txn.responses[0].response_range.kvs[0].value == b"1"
            assert (member.store.commands, member.store.barriers) == (commands, 1)
            await client.call("Txn", txn_request([], [range_op(b"k", serializable=True)]))
            assert member.store.barriers == 1
            response = await client.call("Txn", txn_request([], [put_op(b"k"), delete_op(b"l")]))
            assert (response.header.revision, response.header.cluster_id) == (3, 99)
            assert member.store.commands == commands + 1

    run_virtual(main())


def test_reads_wait_for_what_was_acknowledged_unless_they_say_serializable() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            await client.get(b"k", serializable=True)
            assert member.store.barriers == 0
            await client.get(b"k")
            assert member.store.barriers == 1

    run_virtual(main())


@pytest.mark.parametrize(
    ("name", "request_", "status", "text"),
    [
        ("Range", rpc_pb2.RangeRequest(), "INVALID_ARGUMENT", "key is not provided"),
        ("Range", rpc_pb2.RangeRequest(key=b"k", revision=9), "OUT_OF_RANGE", "is a future revision"),
        ("Put", rpc_pb2.PutRequest(), "INVALID_ARGUMENT", "key is not provided"),
        ("Put", rpc_pb2.PutRequest(key=b"k", lease=5), "NOT_FOUND", "requested lease not found"),
        ("Put", rpc_pb2.PutRequest(key=b"k", value=b"x" * (3 << 19)), "INVALID_ARGUMENT", "request is too large"),
        ("Put", rpc_pb2.PutRequest(key=b"/pd/1/timestamp"), "PERMISSION_DENIED", "permission denied"),
        ("DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"), "PERMISSION_DENIED", "denied"),
        ("DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"/", range_end=b"0"), "PERMISSION_DENIED", "denied"),
        ("Txn", txn_request([], [], [put_op(b"/pd/x")]), "PERMISSION_DENIED", "permission denied"),
        (
            "Txn",
            txn_request([], [txn_op(txn_request([], [delete_op(b"/pd/x")]))]),
            "PERMISSION_DENIED",
            "permission denied",
        ),
        ("Txn", txn_request([], [range_op(b"k")] * 129), "INVALID_ARGUMENT", "too many operations in txn request"),
        ("Txn", txn_request([], [put_op(b"k"), put_op(b"k")]), "INVALID_ARGUMENT", "duplicate key given"),
        ("Compact", rpc_pb2.CompactionRequest(revision=5), "OUT_OF_RANGE", "is a future revision"),
        ("LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=5), "NOT_FOUND", "requested lease not found"),
        ("LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=1 << 40), "OUT_OF_RANGE", "too large lease TTL"),
    ],
)
def test_refusals_have_the_public_status_and_text(name: str, request_: Message, status: str, text: str) -> None:
    async def main() -> None:
        async with serving() as (member, client):
            before = member.store.kv.image()
            found, message = await refusal(client, name, request_)
            assert found == status
            assert message.startswith("etcdserver: ")
            assert text in message
            assert member.store.kv.image() == before

    run_virtual(main())


def test_ranges_beside_pds_own_keys_may_be_deleted() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            for key in (b"/pc", b"/pd", b"/pd0"):
                await client.put(key)
            await client.call("DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"/pc", range_end=b"/pd/"))
            await client.call("DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"/pd0", range_end=b"\0"))
            assert (await client.get(b"\0", b"\0")).count == 0

    run_virtual(main())


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NotLeader("not leader"), "UNAVAILABLE", "etcdserver: no leader"),
        (ProposalLost("lost"), "UNAVAILABLE", "etcdserver: leader changed"),
        (OutcomeUnknown("who knows"), "UNAVAILABLE", "etcdserver: request timed out"),
        (MemberRefused("etcdserver: request is too large"), "FAILED_PRECONDITION", "etcdserver: request is too large"),
    ],
)
def test_what_the_group_refuses(error: DbError, status: str, text: str) -> None:
    async def main() -> None:
        async with serving() as (member, client):
            member.store.refusal = error
            for name, request in (
                ("Range", rpc_pb2.RangeRequest(key=b"k")),
                ("Put", rpc_pb2.PutRequest(key=b"k")),
                ("Txn", txn_request([], [range_op(b"k")])),
                ("LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=5)),
            ):
                assert await refusal(client, name, request) == (status, text)

    run_virtual(main())


def test_who_requires_a_leader_is_refused_without_one() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            member.members.leader = 0
            for name, request in (
                ("Range", rpc_pb2.RangeRequest(key=b"k", serializable=True)),
                ("Put", rpc_pb2.PutRequest(key=b"k")),
                ("MemberList", rpc_pb2.MemberListRequest()),
                ("LeaseLeases", rpc_pb2.LeaseLeasesRequest()),
            ):
                found = await refusal(client, name, request, metadata=(("hasleader", "true"),))
                assert found == ("UNAVAILABLE", "etcdserver: no leader")
            await client.get(b"k", serializable=True)

    run_virtual(main())


def test_a_full_state_takes_no_more_but_can_be_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STATE_BYTES", 1000)

    async def main() -> None:
        async with serving() as (_, client):
            await client.put(b"k", b"x" * 1000)
            for name, request in (
                ("Put", rpc_pb2.PutRequest(key=b"l")),
                ("Txn", txn_request([], [put_op(b"l")])),
                ("LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=5)),
            ):
                assert await refusal(client, name, request) == (
                    "RESOURCE_EXHAUSTED",
                    "etcdserver: mvcc: database space exceeded",
                )
            await client.delete(b"k")
            revision = (await client.get(b"k")).header.revision
            await client.call("Compact", rpc_pb2.CompactionRequest(revision=revision))
            await client.put(b"l")

    run_virtual(main())
