"""etcdserverpb.Cluster: who the members are, and changing that. Clients find all members by it; PD members join by it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from core_py.errors import DbError
from core_py.ports import CallContext, Service, StatusError
from pd_py.etcd.member import EtcdMember, to_status
from pd_py.etcd.ports import MemberInfo
from protos.etcd import rpc_pb2

MAX_URLS = 16
MAX_URL_LENGTH = 512
T = TypeVar("T")


class ClusterService:
    """Handlers of one member."""

    def __init__(self, member: EtcdMember) -> None:
        self._member = member

    async def member_list(self, request: rpc_pb2.MemberListRequest, context: CallContext) -> rpc_pb2.MemberListResponse:
        """All members. Old clients do not say whether the answer must be the newest, so then it need not be."""
        self._member.requires_leader(context)
        if request.linearizable:
            await self._member.barrier()
        return rpc_pb2.MemberListResponse(header=self._member.header(), members=self._all())

    async def member_add(self, request: rpc_pb2.MemberAddRequest, context: CallContext) -> rpc_pb2.MemberAddResponse:
        """A place for a new member; it may start once this is answered."""
        self._member.requires_leader(context)
        urls = _checked(request.peerURLs)
        added = await _outcome(self._member.members.add(urls, is_learner=request.isLearner))
        return rpc_pb2.MemberAddResponse(header=self._member.header(), member=to_pb(added), members=self._all())

    async def member_remove(
        self, request: rpc_pb2.MemberRemoveRequest, context: CallContext
    ) -> rpc_pb2.MemberRemoveResponse:
        """Take a member out for ever."""
        await self._find(request.ID, context)
        await _outcome(self._member.members.remove(request.ID))
        return rpc_pb2.MemberRemoveResponse(header=self._member.header(), members=self._all())

    async def member_update(
        self, request: rpc_pb2.MemberUpdateRequest, context: CallContext
    ) -> rpc_pb2.MemberUpdateResponse:
        """Set where the other members reach one."""
        urls = _checked(request.peerURLs)
        await self._find(request.ID, context)
        await _outcome(self._member.members.update(request.ID, urls))
        return rpc_pb2.MemberUpdateResponse(header=self._member.header(), members=self._all())

    async def member_promote(
        self, request: rpc_pb2.MemberPromoteRequest, context: CallContext
    ) -> rpc_pb2.MemberPromoteResponse:
        """Give a learner a vote."""
        found = await self._find(request.ID, context)
        if not found.is_learner:
            raise StatusError("FAILED_PRECONDITION", "etcdserver: can only promote a learner member")
        await _outcome(self._member.members.promote(request.ID))
        return rpc_pb2.MemberPromoteResponse(header=self._member.header(), members=self._all())

    async def _find(self, member_id: int, context: CallContext) -> MemberInfo:
        self._member.requires_leader(context)
        await self._member.barrier()
        for one in self._member.members.list():
            if one.id == member_id:
                return one
        raise StatusError("NOT_FOUND", "etcdserver: member not found")

    def _all(self) -> list[rpc_pb2.Member]:
        return [to_pb(one) for one in self._member.members.list()]


def to_pb(member: MemberInfo) -> rpc_pb2.Member:
    """A member as clients see it."""
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def _checked(urls: Sequence[str]) -> list[str]:
    """URLs of the form http[s]://host:port. Raises StatusError."""
    if not 0 < len(urls) <= MAX_URLS or not all(_is_url(url) for url in urls) or len(set(urls)) < len(urls):
        raise StatusError("INVALID_ARGUMENT", "etcdserver: given member URLs are invalid")
    return list(urls)


def _is_url(url: str) -> bool:
    if len(url) > MAX_URL_LENGTH:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.port) and not parts.path
    except ValueError:
        return False


async def _outcome(change: Awaitable[T]) -> T:
    try:
        return await change
    except DbError as error:
        raise to_status(error) from error


def service(member: EtcdMember) -> Service:
    """The service for a transport."""
    cluster = ClusterService(member)
    return Service(
        rpc_pb2.DESCRIPTOR.services_by_name["Cluster"],
        {
            "MemberList": cluster.member_list,
            "MemberAdd": cluster.member_add,
            "MemberRemove": cluster.member_remove,
            "MemberUpdate": cluster.member_update,
            "MemberPromote": cluster.member_promote,
        },
    )
