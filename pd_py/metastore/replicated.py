"""The metadata store of a PD member: `pd_py.metastore.port.MetaStore` over the member's Raft replica.

A single member is a group of one: the same code, with nobody to wait for.

Who may write: `write` only works at the leader, because what PD decides (timestamps, ids, scheduling) only its leader may decide;
`execute` hands the change to the leader if need be, as etcd's members do for their clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from core_py.errors import RpcError, StorageError
from core_py.ports import Clock
from core_py.raft.errors import EntryTooLarge, NotLeaderError, RaftError
from pd_py.metastore.errors import MemberRefused, NotLeader, OutcomeUnknown
from pd_py.metastore.kv.state import KvState
from pd_py.metastore.links import Links
from pd_py.metastore.members import Member
from pd_py.metastore.replica import Replica
from protos.private import metaraft_pb2, metastore_pb2

WRITE_TIMEOUT_S = 5.0


class ReplicatedStore:
    """One member's store."""

    def __init__(self, replica: Replica, links: Links, group_id: int, clock: Clock) -> None:
        self.replica = replica
        self._links = links
        self._group_id = group_id
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        replica.on_applied = self._applied

    def _applied(self) -> None:
        for listener in list(self._listeners):
            listener()

    # ---- reading ----

    @property
    def kv(self) -> KvState:
        """See the port."""
        return self.replica.machine.kv

    @property
    def is_leader(self) -> bool:
        """Whether this member leads and its lease holds now."""
        return self.replica.lease_until > self._clock.monotonic()

    @property
    def term(self) -> int:
        """See the port."""
        return self.replica.node.term

    @property
    def member_id(self) -> int:
        """See the port."""
        return self.replica.member_id

    @property
    def cluster_id(self) -> int:
        """See the port."""
        return self._group_id

    def get(self, key: str) -> bytes | None:
        """See the port."""
        return self.kv.get(key.encode())

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """See the port."""
        return [(key.decode(), value) for key, value in self.kv.prefix(prefix.encode())]

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See the port."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def members(self) -> list[Member]:
        """All members, by id."""
        return self.replica.machine.members.all()

    def leader(self) -> Member | None:
        """The member that leads, as far as this one knows."""
        return self.replica.machine.members.get(self.replica.node.leader_id)

    # ---- writing ----

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """See the port."""
        txn = metastore_pb2.Command()
        for key, value in sorted(changes.items()):
            if value is None:
                txn.txn.success.add().request_delete_range.key = key.encode()
            else:
                put = txn.txn.success.add().request_put
                put.key, put.value = key.encode(), value
        result = await self._propose_here(metaraft_pb2.Proposal(command=txn))
        if result.error_code:
            raise StorageError(f"the metadata store refused a change: {result.error}")
        return int(result.revision)

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """See the port."""
        return await self._execute(metaraft_pb2.ProposeRequest(command=command))

    async def execute_here(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Make a change, only if this member leads. Raises NotLeader, ProposalLost, OutcomeUnknown."""
        return await self._propose_here(metaraft_pb2.Proposal(command=command))

    async def change_member(self, change: metaraft_pb2.MemberChange) -> None:
        """Change a member, at or through the leader. Raises MemberRefused and the errors of `write`."""
        result = await self._execute(metaraft_pb2.ProposeRequest(member_change=change))
        if result.error_code:
            raise MemberRefused(result.error)

    async def serve_propose(self, request: metaraft_pb2.ProposeRequest) -> metastore_pb2.Result:
        """A change that another member hands over."""
        return await self._propose_here(_proposal(request))

    async def _execute(self, request: metaraft_pb2.ProposeRequest) -> metastore_pb2.Result:
        if self.replica.leads:
            return await self._propose_here(_proposal(request))
        leader = self.leader()
        if leader is None:
            raise NotLeader("etcdserver: no leader")
        try:
            result = await self._links.propose(leader.id, request, WRITE_TIMEOUT_S)
        except RpcError as error:
            if error.status == "UNAVAILABLE" and not error.sent:
                raise NotLeader(f"the leader {leader.name} is not reachable: {error}") from error
            raise OutcomeUnknown(f"the leader {leader.name} did not say what became of the change: {error}") from error
        await self.barrier()
        return result

    async def _propose_here(self, proposal: metaraft_pb2.Proposal) -> metastore_pb2.Result:
        """Propose and wait. A caller that goes away changes nothing."""
        if not self.replica.leads:
            raise NotLeader("not leader")
        try:
            future = self.replica.propose(proposal)
        except NotLeaderError as error:
            raise NotLeader("not leader") from error
        except EntryTooLarge as error:
            raise MemberRefused(f"etcdserver: request is too large: {error}") from error
        except RaftError as error:
            raise NotLeader(f"not leader: {error}") from error
        return await self._within(future, "a majority of PD members did not confirm the change")

    async def _within(self, awaited: asyncio.Future[metastore_pb2.Result], what: str) -> metastore_pb2.Result:
        done, _ = await asyncio.wait([awaited], timeout=WRITE_TIMEOUT_S)
        if not done:
            raise OutcomeUnknown(f"{what} within {WRITE_TIMEOUT_S} s; it may still be made")
        return awaited.result()

    async def barrier(self) -> None:
        """See the port."""
        replica = self.replica
        if self.is_leader:
            await replica.applied_to(replica.node.committed)
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await replica.read_index()
        except NotLeaderError as error:
            raise NotLeader("etcdserver: no leader") from error
        except RaftError as error:
            raise NotLeader(f"etcdserver: too many requests: {error}") from error
        except TimeoutError:
            raise OutcomeUnknown("the leader of PD did not confirm a read in time") from None


def _proposal(request: metaraft_pb2.ProposeRequest) -> metaraft_pb2.Proposal:
    proposal = metaraft_pb2.Proposal()
    if request.HasField("member_change"):
        proposal.member_change.CopyFrom(request.member_change)
    else:
        proposal.command.CopyFrom(request.command)
    return proposal
