"""Changing who is a member: add, remove, move, give a vote. What operators and joining members ask for, through any member.

Every change is one entry of the log and changes at most one voter, so majorities before and after overlap. Refused here is what
would leave the cluster without a leader: removing a member while the rest has no healthy majority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core_py.ports import Random
from core_py.raft.errors import NotLeaderError
from pd_py.metastore.errors import MemberRefused, NotLeader
from pd_py.metastore.members import MAX_MEMBERS, MAX_URL_LENGTH, Member, to_pb
from pd_py.metastore.replicated import ReplicatedStore
from protos.private import metaraft_pb2

Change = metaraft_pb2.MemberChange
MAX_PEER_URLS = 8
HAND_OVER_S = 0.1
HAND_OVER_ROUNDS = 30


class MemberChanges:
    """The members of this member's cluster, for reading and changing."""

    def __init__(self, store: ReplicatedStore, rng: Random) -> None:
        self._store = store
        self._rng = rng

    def list(self) -> Sequence[Member]:
        """All members, by id."""
        return self._store.members()

    def leader(self) -> Member | None:
        """The member that leads, as far as this one knows."""
        return self._store.leader()

    def leader_id(self) -> int:
        """Its id; 0 for none."""
        leader = self._store.leader()
        return 0 if leader is None else leader.id

    async def add(self, peer_urls: Sequence[str], *, is_learner: bool = True) -> Member:
        """Give a new member its place; it has no vote until it has caught up. Raises MemberRefused, NotLeader, OutcomeUnknown.

        One that asked before and never got its vote is given the same place again, so that a join can be repeated.
        """
        await self._store.barrier()
        _check_urls(peer_urls)
        members = self.list()
        known = next((member for member in members if set(member.peer_urls) & set(peer_urls)), None)
        if known is not None:
            if known.is_learner:
                return known
            raise MemberRefused("etcdserver: Peer URLs already exists")
        if len(members) >= MAX_MEMBERS:
            raise MemberRefused(f"etcdserver: too many members in cluster: {MAX_MEMBERS} is the limit")
        if any(member.is_learner for member in members):
            raise MemberRefused("etcdserver: too many learner members in cluster")
        member = Member(self._fresh_id(members), "", tuple(peer_urls), is_learner=True)
        await self._change(Change.ADD_LEARNER, member)
        return member

    def _fresh_id(self, members: Sequence[Member]) -> int:
        taken = {member.id for member in members}
        while True:
            number = self._rng.getrandbits(62) | 1
            if number not in taken:
                return number

    async def remove(self, member_id: int) -> None:
        """Take a member away for good; a leader hands leadership over first. Raises MemberRefused, NotLeader, OutcomeUnknown."""
        await self._store.barrier()
        member = self._known(member_id)
        voters = [one for one in self.list() if not one.is_learner]
        if not member.is_learner and len(voters) == 1:
            raise MemberRefused("etcdserver: re-configuration failed due to not enough started members")
        if self._store.is_leader and member.id == self._store.member_id:
            heir = self._store.replica.likely_heir()
            await self.hand_over(next(one.id for one in voters if one.id != member.id) if heir is None else heir)
        await self._change(Change.REMOVE, member)

    async def hand_over(self, heir: int) -> None:
        """Give leadership away, and wait until somebody else has it. Raises MemberRefused, NotLeader."""
        self.transfer(heir)
        for _ in range(HAND_OVER_ROUNDS):
            await asyncio.sleep(HAND_OVER_S)
            if self.leader_id() not in (0, self._store.member_id):
                return
        raise NotLeader(f"not leader: member {heir} has not taken over leadership yet; ask again")

    async def update(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Move a member to other peer URLs. Raises MemberRefused, NotLeader, OutcomeUnknown."""
        await self._store.barrier()
        _check_urls(peer_urls)
        member = self._known(member_id)
        if any(set(one.peer_urls) & set(peer_urls) for one in self.list() if one.id != member_id):
            raise MemberRefused("etcdserver: Peer URLs already exists")
        await self._change(Change.UPDATE, Member(member.id, member.name, tuple(peer_urls), member.client_urls))

    async def promote(self, member_id: int) -> None:
        """Give a learner its vote. Raises MemberRefused, NotLeader, OutcomeUnknown."""
        await self._store.barrier()
        member = self._known(member_id)
        if not member.is_learner:
            raise MemberRefused("etcdserver: can only promote a learner member")
        await self._change(Change.PROMOTE, member)

    def transfer(self, member_id: int) -> None:
        """Hand leadership to a member; only at the leader. Raises MemberRefused, NotLeader."""
        member = self._known(member_id)
        if member.is_learner:
            raise MemberRefused(f"member {member.name} is a learner and cannot lead")
        if not self._store.replica.leads:
            raise NotLeader("not leader")
        try:
            self._store.replica.transfer_leader(member_id)
        except NotLeaderError as error:
            raise NotLeader("not leader") from error

    def _known(self, member_id: int) -> Member:
        for member in self.list():
            if member.id == member_id:
                return member
        raise MemberRefused("etcdserver: member not found")

    async def _change(self, kind: metaraft_pb2.MemberChange.Kind, member: Member) -> None:
        await self._store.change_member(Change(kind=kind, member=to_pb(member)))


def _check_urls(peer_urls: Sequence[str]) -> None:
    good = all(url.startswith(("http://", "https://")) and len(url) <= MAX_URL_LENGTH for url in peer_urls)
    if not peer_urls or len(peer_urls) > MAX_PEER_URLS or not good:
        raise MemberRefused("etcdserver: given member URLs are invalid")
