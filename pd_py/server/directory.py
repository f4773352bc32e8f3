"""Who the members of PD are, as clients see them, and what this one has when it leads."""

from __future__ import annotations

from collections.abc import Callable

from core_py.runtime import cli
from pd_py.cluster.bootstrap import CLUSTER_ID_KEY
from pd_py.cluster.regions import Regions
from pd_py.metastore.members import Member
from pd_py.metastore.replicated import ReplicatedStore
from pd_py.server.session import LeaderSession
from protos.kvproto import pdpb_pb2


class MemberDirectory:
    """The members, by the replicated log. `session` is set while this member leads."""

    def __init__(self, store: ReplicatedStore, regions: Regions) -> None:
        self._store = store
        self.regions = regions
        """What this member knows of regions; a follower's copy follows the leader."""
        self._cluster_id = 0
        self.session: LeaderSession | None = None
        self.follows: Callable[[], bool] = lambda: False
        """Whether this member follows with a whole copy of the regions."""

    @property
    def cluster_id(self) -> int:
        """The cluster's id; 0 before the first leader drew it."""
        if not self._cluster_id:
            self._cluster_id = int(self._store.get(CLUSTER_ID_KEY) or b"0")
        return self._cluster_id

    @property
    def is_bootstrapped(self) -> bool:
        """Whether there is a first store."""
        return self._store.get(f"/pd/{self.cluster_id}/raft") is not None

    def own(self) -> Member | None:
        """This member; None while it is not in the table yet."""
        return self._store.replica.machine.members.get(self._store.member_id)

    def all(self) -> list[Member]:
        """All members, by id."""
        return self._store.members()

    def leader(self) -> Member | None:
        """The member that leads, as far as this one knows; of itself it knows whether its lease holds."""
        leader = self._store.leader()
        if leader is not None and leader.id == self._store.member_id and self.session is None:
            return None
        return leader

    def describe(self) -> pdpb_pb2.GetMembersResponse:
        """All members and the leader."""
        response = pdpb_pb2.GetMembersResponse(
            members=[to_pdpb(member) for member in self._store.members() if member.client_urls]
        )
        leader = self.leader()
        if leader is not None and leader.client_urls:
            response.leader.CopyFrom(to_pdpb(leader))
            response.etcd_leader.CopyFrom(response.leader)
        return response


def to_pdpb(member: Member) -> pdpb_pb2.Member:
    """A member for clients."""
    return pdpb_pb2.Member(
        name=member.name,
        member_id=member.id,
        peer_urls=member.peer_urls,
        client_urls=member.client_urls,
        binary_version=cli.RELEASE,
    )
