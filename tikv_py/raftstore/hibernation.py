"""Which peers of a store are awake. A group that has nothing to say is not ticked and sends nothing, until somebody speaks to it.

    leader, quiet for an election timeout     asks every member: MsgHibernateRequest
    member that has all of the leader's log   answers and falls asleep
    leader that every member answered         falls asleep
    any message, write or read                wakes the peer; a woken follower wakes its leader (MsgRegionWakeUp)

Why: heartbeats of thousands of idle regions would be most of what a store does. A sleeping group cannot notice that its leader's
store died, so the store watches stores instead of groups: it probes those that lead its sleeping followers by the public
health service, and when one does not answer it wakes them all.

Invariants: a sleeping leader has no lease; a follower counts its sleep as silence of the leader when it wakes, so that its
promises end when they would have ended; a peer whose region is being merged or whose member lags does not sleep.
Tests: tests/unit/raftstore/test_hibernation.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_py.raft.messages import StateRole
from core_py.runtime.log import get_logger
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.raftstore.peer import Peer

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

Probe = Callable[[int, float], Awaitable[bool]]
"""(store id, timeout in seconds) -> whether the store answers."""


@dataclass(frozen=True, slots=True)
class _Sleep:
    since: float
    leader_store_id: int


class Hibernation:
    """See the module's text. Regions by id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asleep: dict[int, _Sleep] = {}
        self._led_by: dict[int, dict[int, None]] = {}
        """Sleeping followers by the store of their leader."""
        self.awake: dict[int, None] = {}
        """In the order in which they woke."""

    def add(self, region_id: int) -> None:
        """A new peer is awake."""
        self.awake[region_id] = None

    def remove(self, region_id: int) -> None:
        """A peer is gone."""
        self.awake.pop(region_id, None)
        self._forget(region_id)

    def is_asleep(self, region_id: int) -> bool:
        """Whether the peer is not ticked."""
        return region_id in self._asleep

    def wake(self, peer: Peer, *, by: int = 0) -> None:
        """Tick the peer again; `by` is the peer whose message woke it, 0 for a client or the store itself."""
        region_id = peer.region.id
        slept = self._forget(region_id)
        if slept is None:
            return
        store = self._store
        now = store.clock.monotonic()
        peer.node.wake(int((now - slept.since) / float(store.config.raft_base_tick_interval)))
        peer.quiet_ticks, peer.sleepers = 0, set()
        peer.heard = dict.fromkeys(peer.heard, now)
        self.awake[region_id] = None
        store.activate(region_id)
        leader = peer.leader()
        if leader is not None and leader.id not in (by, peer.peer_id):
            store.send_extra(peer, leader, serverpb.ExtraMessage(type=serverpb.MsgRegionWakeUp))

    def _forget(self, region_id: int) -> _Sleep | None:
        slept = self._asleep.pop(region_id, None)
        if slept is not None and slept.leader_store_id:
            followers = self._led_by[slept.leader_store_id]
            del followers[region_id]
            if not followers:
                del self._led_by[slept.leader_store_id]
        return slept

    def _fall_asleep(self, peer: Peer) -> None:
        leader = None if peer.is_leader else peer.leader()
        leader_store_id = 0 if leader is None else leader.store_id
        region_id = peer.region.id
        peer.node.fall_asleep()
        self.awake.pop(region_id, None)
        self._asleep[region_id] = _Sleep(self._store.clock.monotonic(), leader_store_id)
        if leader_store_id:
            self._led_by.setdefault(leader_store_id, {})[region_id] = None

    def after_tick(self, peer: Peer) -> None:
        """A leader that has been quiet for an election timeout asks its members to sleep."""
        config = self._store.config
        if not config.hibernate_regions or peer.node.role is not StateRole.LEADER:
            return
        if peer.used or not _is_quiet(peer):
            peer.used, peer.quiet_ticks, peer.sleepers = False, 0, set()
            return
        peer.quiet_ticks += 1
        # A heartbeat of this very tick would reach the members behind the request and wake them.
        if peer.quiet_ticks < config.raft_election_timeout_ticks or peer.node.has_ready():
            return
        peer.quiet_ticks, peer.sleepers = 0, {peer.peer_id}
        request = serverpb.ExtraMessage(type=serverpb.MsgHibernateRequest, index=peer.node.last_index)
        for member in peer.region.peers:
            if member.id != peer.peer_id:
                self._store.send_extra(peer, member, request)
        self._sleep_if_all_do(peer)

    def on_request(self, peer: Peer, message: serverpb.RaftMessage) -> None:
        """The leader wants to sleep."""
        node, fail = peer.node, self._store.fail
        follows = node.leader_id == message.from_peer.id and node.term == message.message.term
        if (
            not self._store.config.hibernate_regions
            or not follows
            or node.last_index != message.extra_msg.index
            or not _is_quiet(peer)
            or (fail.armed and fail.hit("hibernate_request") is not None)
        ):
            return
        answer = serverpb.ExtraMessage(type=serverpb.MsgHibernateResponse, index=node.last_index)
        self._store.send_extra(peer, message.from_peer, answer)
        self._fall_asleep(peer)

    def on_response(self, peer: Peer, message: serverpb.RaftMessage) -> None:
        """A member sleeps; the last answer lets the leader sleep, unless something happened meanwhile."""
        node = peer.node
        if not peer.is_leader or node.term != message.message.term or node.last_index != message.extra_msg.index:
            return
        if not peer.sleepers or self.is_asleep(peer.region.id):
            return
        peer.sleepers.add(message.from_peer.id)
        self._sleep_if_all_do(peer)

    def _sleep_if_all_do(self, peer: Peer) -> None:
        members = {member.id for member in peer.region.peers}
        if members == peer.sleepers and _is_quiet(peer):
            self._fall_asleep(peer)

    def wake_long_sleepers(self) -> None:
        """Wake followers now and then: one that was removed while it slept hears of it only when it asks."""
        limit = self._store.clock.monotonic() - float(self._store.config.max_leader_missing_duration)
        old = [region_id for region_id, sleep in self._asleep.items() if sleep.leader_store_id and sleep.since <= limit]
        for region_id in old:
            self.wake(self._store.peers[region_id])

    async def watch_stores(self, probe: Probe) -> None:
        """Probe the stores that lead sleeping followers, for ever; wake those whose store does not answer."""
        config = self._store.config
        interval_s = float(config.raft_base_tick_interval) * config.raft_heartbeat_ticks
        timeout_s = float(config.raft_base_tick_interval) * config.raft_election_timeout_ticks
        while True:
            await asyncio.sleep(interval_s)
            stores = sorted(self._led_by)
            answers = await asyncio.gather(*[probe(store_id, timeout_s) for store_id in stores])
            for store_id, alive in zip(stores, answers, strict=True):
                fail = self._store.fail
                if not alive or (fail.armed and fail.hit("hibernate_probe") is not None):
                    self._wake_led_by(store_id)

    def _wake_led_by(self, store_id: int) -> None:
        followers = list(self._led_by.get(store_id, ()))
        if followers:
            get_logger().info("store is silent, waking its followers", store=store_id, regions=len(followers))
        for region_id in followers:
            self.wake(self._store.peers[region_id])


def _is_quiet(peer: Peer) -> bool:
    """Whether nobody waits for the peer and it owes nothing."""
    waited_for = peer.pending_writes or peer.proposals or peer.reads or peer.read_waits or peer.unsynced
    busy = waited_for or peer.snapshot is not None or peer.storage.merge is not None
    return not busy and peer.storage.is_initialized and peer.node.is_settled()
