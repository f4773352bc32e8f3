"""Finding PD's leader while members stand still, or still believe in the one before."""

from __future__ import annotations

import asyncio

from core_py.ports import CallContext, Service
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from protos.kvproto import pdpb_pb2
from tikv_py.client.pd.members import PdMembers

NAMES = ("a:1", "b:1", "c:1")


class Answers:
    """A member that names a leader, after a while."""

    def __init__(self, leader: str, after_s: float = 0.0) -> None:
        self.leader, self.after_s = leader, after_s

    async def get_members(
        self, _request: pdpb_pb2.GetMembersRequest, _context: CallContext
    ) -> pdpb_pb2.GetMembersResponse:
        await asyncio.sleep(self.after_s)
        response = pdpb_pb2.GetMembersResponse()
        response.header.cluster_id = 7
        for name in NAMES:
            response.members.add(name=name, client_urls=[f"http://{name}"])
        if self.leader:
            response.leader.client_urls.append(f"http://{self.leader}")
        return response


async def client_of(*members: Answers) -> PdMembers:
    network = MemoryNetwork()
    for name, member in zip(NAMES, members, strict=True):
        service = Service(pdpb_pb2.DESCRIPTOR.services_by_name["PD"], {"GetMembers": member.get_members})
        await network.transport(name).serve(name, [service])
    return PdMembers(network.transport("client"), NAMES, LoopClock())


def test_a_member_that_stands_still_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        members = await client_of(Answers("", after_s=60), Answers("c:1", after_s=0.01), Answers("c:1", after_s=0.01))
        began = asyncio.get_running_loop().time()
        assert await members.find_leader() == "c:1"
        assert asyncio.get_running_loop().time() - began < 0.1

    run_virtual(main())


def test_an_answer_that_names_the_doubted_leader_is_the_second_best() -> None:
    async def main() -> None:
        late = Answers("a:1", after_s=0.05)
        members = await client_of(Answers("a:1"), Answers("a:1"), late)
        assert await members.find_leader() == "a:1"
        members.doubt("a:1")
        late.leader = "c:1"
        assert await members.find_leader() == "c:1", "it waited a moment for somebody who knows better"
        members.doubt("c:1")
        members.doubt("a:1")
        assert await members.find_leader() == "a:1"

    run_virtual(main())


def test_the_doubted_leader_is_believed_again_when_nobody_knows_another() -> None:
    async def main() -> None:
        members = await client_of(Answers("a:1"), Answers("a:1"), Answers("", after_s=60))
        assert await members.find_leader() == "a:1"
        members.doubt("a:1")
        began = asyncio.get_running_loop().time()
        assert await members.find_leader() == "a:1"
        assert asyncio.get_running_loop().time() - began < 1

    run_virtual(main())
