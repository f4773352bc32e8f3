"""etcdserverpb.Lease: grant and revoke through the log, keep-alive and time to live at the leader.

A member that does not lead asks the leader for its clients (once: what was passed on is not passed on again).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from core_py.errors import DbError, RpcError
from core_py.ports import CallContext, Channel, Random, Service, StatusError, StreamCall, methods_of
from pd_py.etcd import limits
from pd_py.etcd.lessor import Lessor
from pd_py.etcd.member import UNAVAILABLE, EtcdMember, to_status
from pd_py.etcd.ports import LeaderChannel
from pd_py.metastore.errors import NotLeader
from pd_py.metastore.kv.errors import LeaseTtlTooLarge
from pd_py.metastore.kv.leases import MAX_TTL_S
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2

MAX_LEASES = 100_000
FORWARD_TIMEOUT_S = 5.0
PASSED_ON = ("pd-lease-passed-on", "true")
NOT_LEADER = "etcdserver: not leader"
DESCRIPTOR = rpc_pb2.DESCRIPTOR.services_by_name["Lease"]
METHODS = methods_of(DESCRIPTOR)


class LeaseService:
    """Handlers of one member. `lessor` gives the deadlines while this member leads."""

    def __init__(
        self, member: EtcdMember, lessor: Callable[[], Lessor | None], leader: LeaderChannel, rng: Random
    ) -> None:
        self._member = member
        self._lessor = lessor
        self._leader = leader
        self._rng = rng

    async def grant(self, request: rpc_pb2.LeaseGrantRequest, context: CallContext) -> rpc_pb2.LeaseGrantResponse:
        """A new lease; id 0 has one drawn."""
        member = self._member
        member.requires_leader(context)
        try:
            limits.check_space(member.kv)
            if request.TTL > MAX_TTL_S:
                raise LeaseTtlTooLarge
        except DbError as error:
            raise to_status(error) from error
        if len(member.kv.leases) >= MAX_LEASES:
            raise StatusError("RESOURCE_EXHAUSTED", "etcdserver: too many requests")
        lease_id = request.ID
        while not lease_id or (not request.ID and lease_id in member.kv.leases):
            lease_id = self._rng.getrandbits(63)
        command = rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=request.TTL)
        response = (await member.execute(metastore_pb2.Command(lease_grant=command))).lease_grant
        member.fill(response.header)
        return response

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest, context: CallContext) -> rpc_pb2.LeaseRevokeResponse:
        """End a lease and its keys."""
        member = self._member
        member.requires_leader(context)
        response = (await member.execute(metastore_pb2.Command(lease_revoke=request))).lease_revoke
        member.fill(response.header)
        return response

    async def keep_alive(
        self, requests: AsyncIterator[rpc_pb2.LeaseKeepAliveRequest], context: CallContext
    ) -> AsyncIterator[rpc_pb2.LeaseKeepAliveResponse]:
        """One response per request, in order; time to live 0 says that the lease is gone."""
        needs_leader = self._member.requires_leader(context)
        onward = _Onward(self._leader)
        try:
            async for request in requests:
                if needs_leader:
                    self._member.require_leader()
                # The header before the renewal: a lease that is kept alive at revision 4 was not gone at 3.
                header = self._member.header()
                lessor = self._lessor()
                if lessor is not None:
                    try:
                        ttl_s = await lessor.renew(request.ID)
                    except NotLeader as error:
                        raise StatusError(UNAVAILABLE, NOT_LEADER) from error
                    yield rpc_pb2.LeaseKeepAliveResponse(header=header, ID=request.ID, TTL=ttl_s)
                else:
                    yield await onward.ask(request, context)
        finally:
            onward.close()

    async def time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest, context: CallContext
    ) -> rpc_pb2.LeaseTimeToLiveResponse:
        """What is left of a lease; -1 if it is gone."""
        member = self._member
        member.requires_leader(context)
        lessor = self._lessor()
        if lessor is None:
            return await self._pass_on(request, context)
        try:
            remaining_s = lessor.remaining_s(request.ID)
        except NotLeader as error:
            raise StatusError(UNAVAILABLE, NOT_LEADER) from error
        response = rpc_pb2.LeaseTimeToLiveResponse(header=member.header(), ID=request.ID, TTL=-1)
        lease = member.kv.leases.get(request.ID)
        if remaining_s is not None and lease is not None:
            response.TTL, response.grantedTTL = remaining_s, lease.ttl_s
            if request.keys:
                response.keys.extend(sorted(lease.keys))
        return response

    async def leases(self, _request: rpc_pb2.LeaseLeasesRequest, context: CallContext) -> rpc_pb2.LeaseLeasesResponse:
        """The ids of all leases."""
        member = self._member
        member.requires_leader(context)
        await member.barrier()
        response = rpc_pb2.LeaseLeasesResponse(header=member.header())
        for lease in member.kv.leases.all():
            response.leases.add(ID=lease.id)
        return response

    async def _pass_on(
        self, request: rpc_pb2.LeaseTimeToLiveRequest, context: CallContext
    ) -> rpc_pb2.LeaseTimeToLiveResponse:
        channel = _leader_for(self._leader, context)
        method = METHODS["LeaseTimeToLive"]
        try:
            response: rpc_pb2.LeaseTimeToLiveResponse = await channel.unary(
                method, request, timeout_s=FORWARD_TIMEOUT_S, metadata=(PASSED_ON,)
            )
        except RpcError as error:
            raise StatusError(UNAVAILABLE, f"{NOT_LEADER}, and the leader did not answer: {error}") from error
        return response


class _Onward:
    """The way of one client's keep-alives to the leader, opened when needed."""

    def __init__(self, leader: LeaderChannel) -> None:
        self._leader = leader
        self._channel: Channel | None = None
        self._stream: StreamCall | None = None

    async def ask(self, request: rpc_pb2.LeaseKeepAliveRequest, context: CallContext) -> rpc_pb2.LeaseKeepAliveResponse:
        """The leader's answer. Raises StatusError."""
        channel = _leader_for(self._leader, context)
        try:
            if self._stream is None or channel is not self._channel:
                self.close()
                self._channel = channel
                self._stream = channel.stream(METHODS["LeaseKeepAlive"], metadata=(PASSED_ON,))
            async with asyncio.timeout(FORWARD_TIMEOUT_S):
                await self._stream.send(request)
                response: rpc_pb2.LeaseKeepAliveResponse | None = await self._stream.receive()
        except (RpcError, TimeoutError) as error:
            self.close()
            raise StatusError(UNAVAILABLE, f"{NOT_LEADER}, and the leader did not answer: {error}") from error
        if response is None:
            self.close()
            raise StatusError(UNAVAILABLE, NOT_LEADER)
        return response

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


def _leader_for(leader: LeaderChannel, context: CallContext) -> Channel:
    channel = None if context.metadata.get(PASSED_ON[0]) else leader()
    if channel is None:
        raise StatusError(UNAVAILABLE, NOT_LEADER)
    return channel


def service(member: EtcdMember, lessor: Callable[[], Lessor | None], leader: LeaderChannel, rng: Random) -> Service:
    """The service for a transport."""
    leases = LeaseService(member, lessor, leader, rng)
    return Service(
        DESCRIPTOR,
        {
            "LeaseGrant": leases.grant,
            "LeaseRevoke": leases.revoke,
            "LeaseKeepAlive": leases.keep_alive,
            "LeaseTimeToLive": leases.time_to_live,
            "LeaseLeases": leases.leases,
        },
    )
