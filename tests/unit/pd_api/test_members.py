"""The members' part of the backend: who answers, and to whom leadership is handed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from core_py.errors import PdError
from core_py.ports import CallContext, Service
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from pd_py.api.of_members import MembersOfPd
from pd_py.member.changes import MemberChanges
from pd_py.metastore.members import Member
from protos.grpc_health import health_pb2
from protos.kvproto import pdpb_pb2

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
STATUS = health_pb2.HealthCheckResponse
MEMBERS = [Member(number, f"pd{number}", (), (f"http://pd{number}:2379",), number == 4) for number in range(1, 5)]


class Changes:
    """What is asked of `MemberChanges`, at member 1, which leads."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def leader_id(self) -> int:
        return 1

    def list(self) -> list[Member]:
        return MEMBERS

    def transfer(self, member_id: int) -> None:
        self.calls.append(("transfer", member_id))

    async def remove(self, member_id: int) -> None:
        self.calls.append(("remove", member_id))


def describe() -> pdpb_pb2.GetMembersResponse:
    members = [pdpb_pb2.Member(name=one.name, member_id=one.id, client_urls=one.client_urls) for one in MEMBERS]
    return pdpb_pb2.GetMembersResponse(members=members)


async def serve(network: MemoryNetwork, name: str, status: STATUS.ServingStatus) -> None:
    async def check(_request: Any, _context: CallContext) -> Any:
        return STATUS(status=status)

    await network.transport(name).serve(f"{name}:2379", [Service(HEALTH, {"Check": check})])


def test_leadership_goes_to_a_member_that_answers() -> None:
    async def main() -> None:
        network, changes = MemoryNetwork(), Changes()
        await serve(network, "pd1", STATUS.SERVING)
        await serve(network, "pd2", STATUS.NOT_SERVING)
        await serve(network, "pd3", STATUS.SERVING)
        await serve(network, "pd4", STATUS.SERVING)
        members = MembersOfPd(describe, lambda: cast("MemberChanges", changes), network.transport("pd1"))
        assert await members.healthy() == [1, 3, 4]
        await members.resign("")
        await members.resign("pd2")
        await members.remove(2)
        assert changes.calls == [("transfer", 3), ("transfer", 2), ("remove", 2)]
        for name in ("pd1", "pd4", "odd"):
            with pytest.raises(PdError, match="no valid pd to transfer etcd leader"):
                await members.resign(name)
        with pytest.raises(PdError, match="not supported"):
            await members.set_priority(2, 5)
        assert len(changes.calls) == 3

    run_virtual(main())
