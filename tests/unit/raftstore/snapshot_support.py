"""A store that is offered snapshots: their messages, chunks and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from core_py.codec import eraft
from core_py.raft.messages import Message, MsgType, Snapshot, SnapshotMeta
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import LEADER_TERM, OTHER, Bench, first_region
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import DATA_CFS, Pair, Range
from tikv_py.raftstore import snapshot


def chunks(families: Mapping[str, list[Pair]]) -> list[bytes]:
    """The chunks of a region that holds these pairs."""
    engine = MemoryEngine()
    batch = engine.batch()
    for cf, pairs in families.items():
        for key, value in pairs:
            batch.put(cf, key, value)
    engine.write(batch)
    return list(snapshot.chunks_of(engine.snapshot([Range(cf, b"", b"") for cf in DATA_CFS])))


def snapshot_message(
    one: Bench, region: metapb_pb2.Region, index: int, peer_id: int = 11, size: int = 0
) -> serverpb.RaftMessage:
    """A snapshot of the leader on store 2; `size` is announced."""
    data = serverpb.RaftSnapshotData(region=region, version=2, file_size=size).SerializeToString()
    meta = SnapshotMeta(index, LEADER_TERM, eraft.conf_state_of_peers(region.peers))
    sender = next(peer.id for peer in region.peers if peer.store_id == OTHER)
    wire = one.message(Message(MsgType.SNAPSHOT, peer_id, sender, LEADER_TERM, snapshot=Snapshot(meta, data)))
    wire.region_id, wire.to_peer.id, wire.from_peer.id = region.id, peer_id, sender
    wire.region_epoch.CopyFrom(region.region_epoch)
    return wire


async def stream(message: serverpb.RaftMessage, data: list[bytes]) -> AsyncIterator[serverpb.SnapshotChunk]:
    """A stream as it arrives."""
    yield serverpb.SnapshotChunk(message=message)
    for chunk in data:
        yield serverpb.SnapshotChunk(data=chunk)


async def bring(one: Bench, index: int, pairs: list[Pair]) -> None:
    """A whole snapshot arrives, and the store does with it what it can."""
    data = chunks({"default": pairs})
    await one.store.snapshots.receive(stream(snapshot_message(one, first_region(), index), data))
    await one.settle()
