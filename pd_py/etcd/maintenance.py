"""etcdserverpb.Maintenance: how a member is, for tools such as `etcdctl endpoint status`.

The Raft indices stay 0: they belong to PD's log, and nobody compares them.
"""

from __future__ import annotations

from core_py.ports import CallContext, Service
from pd_py.etcd.member import NO_LEADER, EtcdMember
from protos.etcd import rpc_pb2

ETCD_VERSION = "3.5.0"
"""The version of etcd whose behaviour clients may expect."""


class MaintenanceService:
    """Handlers of one member."""

    def __init__(self, member: EtcdMember) -> None:
        self._member = member

    async def status(self, _request: rpc_pb2.StatusRequest, _context: CallContext) -> rpc_pb2.StatusResponse:
        """This member's own view; answered without a leader, too."""
        member = self._member
        leader = member.members.leader_id()
        own = next((one for one in member.members.list() if one.id == member.store.member_id), None)
        return rpc_pb2.StatusResponse(
            header=member.header(),
            version=ETCD_VERSION,
            dbSize=member.kv.size_bytes,
            dbSizeInUse=member.kv.size_bytes,
            leader=leader,
            raftTerm=member.store.term,
            errors=() if leader else (NO_LEADER,),
            isLearner=own is not None and own.is_learner,
        )


def service(member: EtcdMember) -> Service:
    """The service for a transport."""
    return Service(rpc_pb2.DESCRIPTOR.services_by_name["Maintenance"], {"Status": MaintenanceService(member).status})
