"""Keeps the table of members true: each member publishes its name and URLs, and the leader gives learners their vote.

A member that joins is a learner until it holds nearly everything, so that it never counts for a majority that it cannot help.
"""

from __future__ import annotations

import asyncio

from core_py.errors import DbError
from core_py.runtime.log import get_logger
from pd_py.metastore.members import Member, to_pb
from pd_py.metastore.replicated import ReplicatedStore
from protos.private import metaraft_pb2, metastore_pb2

RETRY_S = 0.2
PROMOTE_INTERVAL_S = 0.5
MAX_LAG_ENTRIES = 64


def member_key(member_id: int, name: str) -> str:
    """Where something about a member is kept."""
    return f"/pd/member/{member_id}/{name}"


class Roster:
    """This member's part in the table."""

    def __init__(
        self, store: ReplicatedStore, name: str, peer_urls: tuple[str, ...], client_urls: tuple[str, ...]
    ) -> None:
        self._store = store
        self._own = Member(store.member_id, name, peer_urls, client_urls)
        self.published = asyncio.Event()

    async def publish(self) -> None:
        """Write this member's name and URLs into the table unless they stand there."""
        while True:
            known = self._store.replica.machine.members.get(self._own.id)
            if known is not None and self._stands(known):
                break
            if known is not None:
                change = metaraft_pb2.MemberChange(kind=metaraft_pb2.MemberChange.UPDATE, member=to_pb(self._own))
                try:
                    await self._store.change_member(change)
                    continue
                except DbError as error:  # no leader yet, or not reachable
                    get_logger().debug("member not published yet", error=str(error))
            await asyncio.sleep(RETRY_S)
        self.published.set()

    def _stands(self, known: Member) -> bool:
        return (known.name, known.peer_urls, known.client_urls) == (
            self._own.name,
            self._own.peer_urls,
            self._own.client_urls,
        )

    async def publish_value(self, name: str, value: str) -> None:
        """Write something about this member where all members find it (`member_key`)."""
        key = member_key(self._own.id, name)
        command = metastore_pb2.Command()
        command.put.key, command.put.value = key.encode(), value.encode()
        while self._store.get(key) != value.encode():
            try:
                await self._store.execute(command)
            except DbError as error:  # no leader yet, or not reachable
                get_logger().debug("member not published yet", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def promote_learners(self) -> None:
        """While this member leads: give learners that have caught up their vote."""
        while True:
            await asyncio.sleep(PROMOTE_INTERVAL_S)
            if not self._store.is_leader:
                continue
            node = self._store.replica.node
            for member in self._store.members():
                progress = node.progress(member.id)
                if not member.is_learner or progress is None or not progress.recent_active:
                    continue
                if progress.match + MAX_LAG_ENTRIES < node.last_index:
                    continue
                change = metaraft_pb2.MemberChange(kind=metaraft_pb2.MemberChange.PROMOTE, member=to_pb(member))
                try:
                    await self._store.change_member(change)
                    get_logger().info("pd member has its vote now", name=member.name)
                except DbError as error:  # the next round tries again
                    get_logger().warn("pd member not promoted", name=member.name, error=str(error))
