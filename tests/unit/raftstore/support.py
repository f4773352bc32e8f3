"""A store without peers elsewhere, driven by hand: messages in, turns run, messages out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core_py.codec import eraft
from core_py.ports import Transport, Workers
from core_py.raft.messages import Entry, EntryType, Message, MsgType, StateRole
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import LoopClock
from core_py.sim.network import MemoryNetwork
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT
from tikv_py.raftstore import keys
from tikv_py.raftstore.config import RaftstoreConfig, SnapshotSettings
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import initial_apply_state, region_state_bytes
from tikv_py.raftstore.router import RaftRouter
from tikv_py.raftstore.store import Store

REGION, STORE, OTHER, THIRD = 1, 1, 2, 3
LEADER_TERM = 6


class JumpingClock(LoopClock):
    """Loop time plus what a test adds: a process that was stopped for a while sees a jump."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.jumped_s


class RecordingRouter(RaftRouter):
    """Keeps what would be sent."""

    def __init__(self, transport: Transport) -> None:
        async def nowhere(_store: int) -> str:
            return "nowhere:1"

        super().__init__(transport, STORE, nowhere, lambda _store, _regions: None)
        self.sent: list[serverpb.RaftMessage] = []
        self.snapshots: list[Callable[[bool], None]] = []

    def send(self, store_id: int, message: serverpb.RaftMessage) -> None:
        self.sent.append(message)

    def send_snapshot(
        self, store_id: int, message: serverpb.RaftMessage, chunks: AsyncIterator[bytes], done: Callable[[bool], None]
    ) -> None:
        self.snapshots.append(done)


class Bench:
    """One store with region 1 on stores 1, 2 and 3; its own peer is 11."""

    def __init__(
        self,
        raft_db: MemoryEngine,
        kv_db: MemoryEngine,
        *,
        workers: Workers | None = None,
        snapshots: SnapshotSettings | None = None,
        config: RaftstoreConfig | None = None,
    ) -> None:
        self.raft_db, self.kv_db = raft_db, kv_db
        self.clock = JumpingClock()
        self.store = Store(
            STORE,
            raft_db,
            kv_db,
            config or RaftstoreConfig(),
            clock=self.clock,
            rng=random.Random(1),
            workers=workers or InlineWorkers(),
            snapshots=snapshots,
        )
        self.router = RecordingRouter(MemoryNetwork().transport("store"))
        self.store.router = self.router

    @property
    def peer(self) -> Peer:
        return self.store.peers[REGION]

    async def settle(self) -> None:
        """Let the store's tasks do what they can without time passing."""
        for _ in range(20):
            await asyncio.sleep(0)

    def time_out(self) -> None:
        """Let the peer hear no leader until it begins an election: what it promised before its start binds it so long."""
        while self.peer.node.role is StateRole.FOLLOWER:
            self.peer.node.tick()

    def message(self, message: Message, **fields: object) -> serverpb.RaftMessage:
        """A message of peer 12 on store 2."""
        wire = serverpb.RaftMessage(region_id=REGION, message=eraft.message_to_pb(message))
        wire.from_peer.id, wire.from_peer.store_id = 12, OTHER
        wire.to_peer.id, wire.to_peer.store_id = 11, STORE
        wire.region_epoch.conf_ver, wire.region_epoch.version = 1, 1
        for name, value in fields.items():
            setattr(wire, name, value)
        return wire

    async def heartbeat(self, commit: int = 0, term: int = LEADER_TERM) -> None:
        """The leader, peer 12, is heard."""
        self.store.deliver(self.message(Message(MsgType.HEARTBEAT, 11, 12, term, commit=commit, context=b"\0" * 8)))
        await self.settle()

    async def append(self, entries: list[bytes], commit: int, *, term: int = LEADER_TERM) -> None:
        """The leader replicates ordinary entries and commits up to `commit`."""
        last = self.peer.storage.last_index()
        made = tuple(
            Entry(term, last + number, data, EntryType.NORMAL, b"") for number, data in enumerate(entries, start=1)
        )
        log_term = self.peer.storage.term(last)
        self.store.deliver(
            self.message(Message(MsgType.APPEND, 11, 12, term, log_term, last, entries=made, commit=commit))
        )
        await self.settle()


def first_region() -> metapb_pb2.Region:
    region = metapb_pb2.Region(id=REGION)
    region.region_epoch.conf_ver = region.region_epoch.version = 1
    for store_id in (STORE, OTHER, THIRD):
        region.peers.add(id=10 + store_id, store_id=store_id)
    return region


def engines_with(*regions: metapb_pb2.Region) -> tuple[MemoryEngine, MemoryEngine]:
    raft_db, kv_db = MemoryEngine((CF_DEFAULT,)), MemoryEngine()
    batch = kv_db.batch()
    for region in regions:
        batch.put(CF_RAFT, keys.region_state_key(region.id), region_state_bytes(region, serverpb.Normal))
        batch.put(CF_RAFT, keys.apply_state_key(region.id), initial_apply_state().to_bytes())
    kv_db.write(batch)
    kv_db.sync_wal()
    return raft_db, kv_db


@asynccontextmanager
async def bench(
    raft_db: MemoryEngine | None = None,
    kv_db: MemoryEngine | None = None,
    *,
    workers: Workers | None = None,
    snapshots: SnapshotSettings | None = None,
) -> AsyncIterator[Bench]:
    """A started store; on new engines it holds region 1 as every replica does after bootstrap."""
    if raft_db is None or kv_db is None:
        raft_db, kv_db = engines_with(first_region())
    made = Bench(raft_db, kv_db, workers=workers, snapshots=snapshots)
    await made.store.start()
    await made.settle()
    try:
        yield made
    finally:
        await made.store.stop()
