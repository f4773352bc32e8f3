"""What must hold of a storage cluster after anything that happened to it, and writers whose promises are checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core_py.errors import DbError
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.support.storage_cluster import Node, StorageCluster
from tikv_py.client.raw.client import RawClient
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, DATA_CFS
from tikv_py.raftstore import admin, keys
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import load_raft_state
from tikv_py.raftstore.store import Store
from tikv_py.server.split_worker import split_region

WRITE_INTERVAL_S = 0.02


def store_of(node: Node) -> Store:
    """The running store of a node."""
    assert node.server is not None
    assert node.server.store is not None
    return node.server.store


def running(cluster: StorageCluster) -> list[Node]:
    """Nodes whose store is up."""
    return [node for node in cluster.nodes if node.server is not None and node.server.store is not None]


def peer_of(node: Node, key: bytes) -> Peer | None:
    """A store's peer of the region that holds a key."""
    for peer in store_of(node).peers.values():
        region = peer.region
        if peer.storage.is_initialized and region.start_key <= key and (not region.end_key or key < region.end_key):
            return peer
    return None


def led(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer] | None:
    """The leader of a key's region, in its newest term."""
    found = []
    for node in running(cluster):
        peer = peer_of(node, key)
        if peer is not None and peer.is_leader:
            found.append((peer.node.term, node.name, node, peer))
    return max(found)[2:] if found else None


async def leader(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer]:
    """Wait for it."""
    await until(lambda: "" if led(cluster, key) else "none", f"{key!r} has a leader")
    found = led(cluster, key)
    assert found is not None
    return found


async def split(cluster: StorageCluster, key: bytes) -> None:
    """Split at a key, unless there is a border. Raises region errors."""
    node, peer = await leader(cluster, key)
    if peer.region.start_key != key:
        assert node.server is not None
        await split_region(store_of(node), node.server.pd, peer, [key])


async def split_everywhere(cluster: StorageCluster, key: bytes) -> None:
    """Split at a key and wait until all replicas have done it."""
    await split(cluster, key)

    def missing() -> str:
        found = [peer_of(node, key) for node in cluster.nodes]
        return "" if all(peer is not None and peer.region.start_key == key for peer in found) else "not everywhere"

    await until(missing, f"all stores have split at {key!r}")
    await whole(cluster)


async def merge(cluster: StorageCluster, source: bytes, target: bytes) -> None:
    """Ask for the merge of two keys' regions, unless they are one. Raises region errors, AdminRefused."""
    node, peer = await leader(cluster, source)
    _, other = await leader(cluster, target)
    if peer.region.id != other.region.id:
        await admin.merge_region(store_of(node), peer, other.region)


class Writers:
    """Each counts up in a key of its own. `acknowledged` is the least, `attempted` the most that may be read there."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._stopping = False
        self.acknowledged: dict[bytes, int] = {}
        self.attempted: dict[bytes, int] = {}

    async def write(self, key: bytes) -> None:
        """Until `stop`."""
        number = 0
        while not self._stopping:
            number += 1
            self.attempted[key] = number
            try:
                await self._client.put(key, b"%d" % number)
                self.acknowledged[key] = number
            except DbError:  # a store is down: whether this one was written is open
                continue
            finally:
                await asyncio.sleep(WRITE_INTERVAL_S)

    def stop(self) -> None:
        """Let them end."""
        self._stopping = True

    async def check(self) -> None:
        """Everything acknowledged can be read."""
        for key, least in self.acknowledged.items():
            value = await self._client.get(key)
            assert value is not None, f"{key!r} is lost, it was {least}"
            assert least <= int(value) <= self.attempted[key], f"{key!r} is {value!r}, it was {least}"


@asynccontextmanager
async def writing(client: RawClient, names: tuple[bytes, ...]) -> AsyncIterator[Writers]:
    """Writers that go on until the block ends; then what they were promised is checked."""
    writers = Writers(client)
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(writers.write(name))
        try:
            yield writers
        finally:
            writers.stop()
    await writers.check()


def _contents(node: Node) -> dict[str, list[tuple[bytes, bytes]]]:
    return {cf: node.kv_db.scan(cf, b"z", b"{") for cf in DATA_CFS}


def _living(node: Node) -> dict[int, metapb_pb2.Region]:
    return {peer.region.id: peer.region for peer in store_of(node).peers.values() if peer.storage.is_initialized}


def _is_closed_chain(regions: list[metapb_pb2.Region]) -> bool:
    """Whether the regions hold every key exactly once."""
    ordered = sorted(regions, key=lambda region: region.start_key)
    ends = [region.end_key for region in ordered]
    return bool(ordered) and [region.start_key for region in ordered] == [b"", *ends[:-1]] and ends[-1] == b""


def _left_over(node: Node) -> str:
    """What should have been cleared away by now; "" if nothing."""
    store = store_of(node)
    if store.unsettled or store.closed:
        return f"regions {sorted(store.unsettled)} are unsettled, {sorted(store.closed)} are closed for a merge"
    if node.kv_db.staged():
        return f"staged runs {node.kv_db.staged()}"
    markers = node.raft_db.scan(CF_DEFAULT, keys.PENDING_SNAPSHOT_MIN, keys.PENDING_SNAPSHOT_MAX)
    if markers:
        return f"{len(markers)} snapshot markers"
    for _, data in node.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX):
        state = serverpb.RegionLocalState.FromString(data)
        raft = load_raft_state(node.raft_db, state.region.id)
        if state.state == serverpb.Tombstone and raft is not None and raft[1] > 0:
            return f"the log of the dead region {state.region.id}"
    return ""


def _differs(cluster: StorageCluster, replicas: int) -> str:
    """Why the cluster is not whole and at rest; "" if it is."""
    first, *others = cluster.nodes
    for node in cluster.nodes:
        if left_over := _left_over(node):
            return f"{node.name} has left over: {left_over}"
        if _living(node) != _living(first):
            return f"{node.name} has regions {sorted(_living(node))}, {first.name} has {sorted(_living(first))}"
    if not _is_closed_chain(list(_living(first).values())):
        return f"the regions do not cover every key once: {list(_living(first).values())}"
    for region in _living(first).values():
        if len(region.peers) != replicas or any(peer.role != metapb_pb2.Voter for peer in region.peers):
            return f"region {region.id} has {len(region.peers)} peers and not {replicas} voters"
        leaders = [node.name for node in cluster.nodes if store_of(node).peers[region.id].is_leader]
        if len(leaders) != 1:
            return f"region {region.id} is led by {leaders}"
    contents = _contents(first)
    return next((f"{node.name} has other data" for node in others if _contents(node) != contents), "")


async def until(check: Callable[[], str], what: str, seconds: float = 60.0) -> None:
    """Wait on virtual time until a check has nothing to say against it."""
    for _ in range(int(seconds / 0.05)):
        if not check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}: {check()}")


async def whole(cluster: StorageCluster) -> None:
    """Wait until all stores hold the same regions with the same data, and nothing is left over from what happened."""
    replicas = min(len(cluster.nodes), 3)
    await until(lambda: _differs(cluster, replicas), "the cluster is whole")
