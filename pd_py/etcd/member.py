"""What all services of etcd's interface share: headers, the way to the store, and how its refusals look to clients.

    KvError          its own status and text
    NotLeader        UNAVAILABLE "etcdserver: no leader"           nothing changed
    ProposalLost     UNAVAILABLE "etcdserver: leader changed"      nothing changed
    OutcomeUnknown   UNAVAILABLE "etcdserver: request timed out"   nobody knows
    MemberRefused    FAILED_PRECONDITION, its text

A change goes on to its end when its caller goes away.
"""

from __future__ import annotations

from core_py.errors import DbError
from core_py.ports import CallContext, StatusError
from pd_py.etcd.ports import Members
from pd_py.metastore.errors import MemberRefused, NotLeader, OutcomeUnknown, ProposalLost
from pd_py.metastore.kv.errors import KvError, raise_error
from pd_py.metastore.kv.state import KvState
from pd_py.metastore.port import MetaStore
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2

NO_LEADER = "etcdserver: no leader"
UNAVAILABLE = "UNAVAILABLE"


class EtcdMember:
    """This member, as the services see it."""

    def __init__(self, store: MetaStore, members: Members) -> None:
        self.store = store
        self.members = members

    @property
    def kv(self) -> KvState:
        """This member's copy. Another object may take its place: ask each time."""
        return self.store.kv

    def header(self, revision: int | None = None) -> rpc_pb2.ResponseHeader:
        """A response's header; the revision is that of the copy unless given."""
        return rpc_pb2.ResponseHeader(
            cluster_id=self.store.cluster_id,
            member_id=self.store.member_id,
            revision=self.kv.revision if revision is None else revision,
            raft_term=self.store.term,
        )

    def fill(self, header: rpc_pb2.ResponseHeader) -> None:
        """Add what the store did not know to a header that has the revision."""
        header.cluster_id = self.store.cluster_id
        header.member_id = self.store.member_id
        header.raft_term = self.store.term

    def requires_leader(self, context: CallContext) -> bool:
        """Whether the caller wants no answer from a member that sees no leader. Raises StatusError if so it is now."""
        if context.metadata.get("hasleader") != "true":
            return False
        self.require_leader()
        return True

    def require_leader(self) -> None:
        """Raise StatusError when this member sees no leader."""
        if not self.members.leader_id():
            raise StatusError(UNAVAILABLE, NO_LEADER)

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Have a change made. Raises StatusError for every refusal."""
        try:
            result = await self.store.execute(command)
            raise_error(result.error_code, result.error)
        except DbError as error:
            raise to_status(error) from error
        return result

    async def barrier(self) -> None:
        """Make this copy hold all that was acknowledged before. Raises StatusError."""
        try:
            await self.store.barrier()
        except DbError as error:
            raise to_status(error) from error


def to_status(error: DbError) -> DbError:
    """A refusal as the client is told it; what is not one of the store's stays as it is."""
    if isinstance(error, KvError):
        return StatusError(error.status, error.message)
    if isinstance(error, NotLeader):
        return StatusError(UNAVAILABLE, NO_LEADER)
    if isinstance(error, ProposalLost):
        return StatusError(UNAVAILABLE, "etcdserver: leader changed")
    if isinstance(error, OutcomeUnknown):
        return StatusError(UNAVAILABLE, "etcdserver: request timed out")
    if isinstance(error, MemberRefused):
        return StatusError("FAILED_PRECONDITION", error.message)
    return error
