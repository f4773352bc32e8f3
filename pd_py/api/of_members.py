"""`MembersPort` over the table of members and what may change it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from core_py.errors import DbError, PdError, RetryClass
from core_py.ports import Transport, methods_of
from pd_py.member.changes import MemberChanges
from pd_py.metastore.members import bare_address
from protos.grpc_health import health_pb2
from protos.kvproto import pdpb_pb2

HEALTH = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"])
HEALTH_TIMEOUT_S = 1.0


class MemberCommandRefused(PdError):
    """What was asked of the members cannot be done."""

    code = "PD:member:Refused"
    retry = RetryClass.NEVER


class MembersOfPd:
    """See the port for the methods. `describe` is the member directory's."""

    def __init__(
        self,
        describe: Callable[[], pdpb_pb2.GetMembersResponse],
        changes: Callable[[], MemberChanges],
        transport: Transport,
    ) -> None:
        self._describe = describe
        self._changes = changes
        self._transport = transport

    def describe(self) -> pdpb_pb2.GetMembersResponse:
        """See the port."""
        return self._describe()

    async def healthy(self) -> Sequence[int]:
        """See the port: those that answer gRPC's health check."""
        members = list(self._describe().members)
        answers = await asyncio.gather(*(self._answers(member) for member in members))
        return [member.member_id for member, answers_now in zip(members, answers, strict=True) if answers_now]

    async def _answers(self, member: pdpb_pb2.Member) -> bool:
        for url in member.client_urls:
            channel = self._transport.connect(bare_address(url))
            try:
                request = health_pb2.HealthCheckRequest()
                answer = await channel.unary(HEALTH["Check"], request, timeout_s=HEALTH_TIMEOUT_S)
            except DbError:
                continue
            finally:
                await channel.close()
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return True
        return False

    async def remove(self, member_id: int) -> None:
        """See the port."""
        await self._changes().remove(member_id)

    async def resign(self, to: str) -> None:
        """See the port. Without a name the first other member that answers gets the leadership."""
        changes = self._changes()
        own = changes.leader_id()
        others = [member for member in changes.list() if not member.is_learner and member.id != own]
        if to:
            others = [member for member in others if member.name == to]
        else:
            healthy = await self.healthy()
            others = [member for member in others if member.id in healthy]
        if not others:
            raise MemberCommandRefused("no valid pd to transfer etcd leader")
        changes.transfer(others[0].id)

    async def set_priority(self, member_id: int, priority: int) -> None:
        """See the port: members here have no priorities."""
        raise MemberCommandRefused("leader priority is not supported: any member may become the leader")
