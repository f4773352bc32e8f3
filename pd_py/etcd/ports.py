"""What the services of etcd's interface need of the member they run on, besides its store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from core_py.ports import Channel
from pd_py.metastore.kv.state import KvState
from protos.private import metastore_pb2


class MemberInfo(Protocol):
    """One member of PD; `pd_py.metastore.members.Member` is one."""

    @property
    def id(self) -> int:
        """Never used twice."""
        ...

    @property
    def name(self) -> str:
        """Empty until the member has run once."""
        ...

    @property
    def peer_urls(self) -> Sequence[str]:
        """Where other members reach it."""
        ...

    @property
    def client_urls(self) -> Sequence[str]:
        """Where clients reach it; empty until it has run once."""
        ...

    @property
    def is_learner(self) -> bool:
        """Whether it has no vote."""
        ...


class Members(Protocol):
    """The group of members: who is in it, who leads, and how it changes. Any member can be asked.

    The changes raise MemberRefused with etcd's public texts, NotLeader, ProposalLost, OutcomeUnknown.
    """

    def list(self) -> Sequence[MemberInfo]:
        """All members by id, as this copy has them."""
        ...

    def leader_id(self) -> int:
        """The member that leads, as far as this one knows; 0 for none."""
        ...

    async def add(self, peer_urls: Sequence[str], *, is_learner: bool) -> MemberInfo:
        """A new member, with an id that was never used."""
        ...

    async def remove(self, member_id: int) -> None:
        """Take a member out for ever."""
        ...

    async def update(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Set where a member is reached by the others."""
        ...

    async def promote(self, member_id: int) -> None:
        """Give a learner a vote."""
        ...


class LeaderStore(Protocol):
    """The store as one term of leadership may use it."""

    @property
    def kv(self) -> KvState:
        """The leader's copy: it holds every acknowledged change."""
        ...

    def check(self) -> None:
        """Raise NotLeader unless the leadership of this term holds now."""
        ...

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Make a change in this term, or none. Raises NotLeader, ProposalLost, OutcomeUnknown."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after changes; returns how to end it."""
        ...


LeaderChannel = Callable[[], Channel | None]
"""The connection to the leader's client address; None when this member leads or nobody is known to."""
