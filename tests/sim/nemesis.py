"""Faults for a simulated storage cluster, all drawn from the run's seed, several at a time.

`ACTIONS` is the table of what can happen: a name, a weight and a coroutine function. One line adds another fault. An action that
takes its time (a crash with the restart) runs beside those that follow; one store is in the hands of one such action only.

Besides what comes by chance, stores lose power when it hurts: while a region is born, dies or takes in a snapshot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from core_py.errors import DbError, PdError, RpcError
from core_py.sim.workers import DelayedWorkers
from protos.kvproto import metapb_pb2
from tests.sim import membership
from tests.sim.faults import Cut, SeededFault
from tests.sim.trace import Trace
from tests.support.storage_cluster import Node, StorageCluster
from tikv_py.raftstore import admin
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.server.split_worker import split_region

SYNC_S = 0.006  # a sync takes up to this long
SLOW_SYNC_S = 0.25  # on a slow disk
SLOW_LINK_S = 0.4  # a message takes up to this long on a slow link
TRIP = 0.25
DOWN_S = 4.0  # PD replaces the replicas of a store that is away for longer
ELECTED_S = 0.8  # most elections are over this long after the leader was last heard
BEHIND_S = 1.0  # more entries come in this time than a leader keeps for those who are away
DRIFT = 0.05  # a clock is at most this much too fast or too slow
PROPOSE_TIMEOUT_S = 2.0


@dataclass
class Nemesis:
    """Makes faults for a while. `split_keys` are the encoded keys to split at."""

    cluster: StorageCluster
    fault: SeededFault
    rng: random.Random
    trace: Trace
    split_keys: list[bytes]
    actions: tuple[Action, ...] = ()
    pace_s: float = 0.6
    """A fault comes after at most this long."""
    trip: float = TRIP
    """How likely it is that a store loses power while something happens there that takes several writes."""
    done: list[str] = field(default_factory=list)
    tripped: list[Node] = field(default_factory=list)
    """Stores that lose power as soon as they can: something just happened there that takes several writes."""
    tripping: asyncio.Event = field(default_factory=asyncio.Event)
    on_awake: Callable[[Node, Peer], Awaitable[None]] | None = None
    """Told of a store that runs again, at the very moment, and of the peer that led there when it fell asleep."""
    _busy: set[str] = field(default_factory=set)
    """Stores that an action is about to crash or to start."""
    _pd_runs: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._pd_runs.set()

    def watch(self, node: Node) -> None:
        """Disturb a store that has just started, and cut its power now and then while regions come and go there."""
        self.fault.disturb(node)
        store = store_of(node)
        assert store is not None
        listener = store.listener
        on_split, on_destroy = listener.on_split, listener.on_destroy

        def split(regions: list[metapb_pb2.Region], *, is_leader: bool) -> None:
            on_split(regions, is_leader=is_leader)
            self._trip(node)

        def destroyed(region_id: int) -> None:
            on_destroy(region_id)
            self._trip(node)

        listener.on_split, listener.on_destroy = split, destroyed  # type: ignore[method-assign]
        manager = store.snapshots
        bring_in = manager.bring_in

        async def brought_in(peer: Peer) -> None:
            self._trip(node)
            await bring_in(peer)

        manager.bring_in = brought_in  # type: ignore[method-assign]

    def _trip(self, node: Node) -> None:
        if self.rng.random() < self.trip:
            self.tripped.append(node)
            self.tripping.set()

    def note(self, text: str, node: Node | None = None, region: int = 0) -> None:
        """Say what is being done, or what came of it."""
        self.trace.note(text, where=node.name if node is not None else "nemesis", region=region)

    async def run(self, seconds: float) -> None:
        """Make faults, then end them all: every store and PD runs, the network is whole, the disks are fast."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        actions = self.actions or ACTIONS
        weights = [action.weight for action in actions]
        self.tripping.clear()
        self.tripped.clear()
        async with asyncio.TaskGroup() as group:
            while end - loop.time() > 0.001:  # the loop's time does not move by less
                tripped = await self._wait(end - loop.time())
                if tripped is not None:
                    group.create_task(self._perform(CRASH, tripped))
                elif loop.time() < end:
                    [action] = self.rng.choices(actions, weights)
                    group.create_task(self._perform(action, self.rng.choice(self.cluster.nodes)))
            self._heal()  # what is still under way ends in a world without faults
        self._heal()

    def _heal(self) -> None:
        self.note("everything heals")
        self.fault.heal()
        for node in self.cluster.nodes:
            node.clock.set_rate(1.0)
            set_disk(node, SYNC_S)

    async def _perform(self, action: Action, node: Node) -> None:
        self.done.append(action.name)
        await action.run(self, node)

    async def _wait(self, at_most_s: float) -> Node | None:
        """Until it is time for a fault; a store where something happens that a loss of power may spoil."""
        try:
            async with asyncio.timeout(min(self.rng.random() * self.pace_s, at_most_s)):
                await self.tripping.wait()
        except TimeoutError:
            return None
        self.tripping.clear()
        node = self.tripped.pop()
        self.tripped.clear()
        await asyncio.sleep(self.rng.random() * 4 * SYNC_S)  # a snapshot takes three syncs to bring in
        return node

    async def crash(self, nodes: list[Node], away_s: float) -> None:
        """Cut the power of stores, and start them again."""
        nodes = [node for node in nodes if node.name not in self._busy and node.server is not None]
        names = {node.name for node in nodes}
        self._busy |= names
        self.fault.dead |= names
        for node in nodes:  # an un-synced write may well have reached the disk
            keep_raft, keep_kv = (
                self.rng.choice([0, self.rng.randrange(0, waiting + 1), waiting])
                for waiting in (node.raft_db.unsynced_batches(), node.kv_db.unsynced_batches())
            )
            self.note(f"loses power, {keep_raft} and {keep_kv} unsynced batches survive", node)
            await self.cluster.cut_power(node, keep_raft, keep_kv)
        await asyncio.sleep(away_s)
        await self._pd_runs.wait()  # a process would try for as long as it takes
        self.fault.dead -= names
        for node in nodes:
            await self._start(node)
        self._busy -= names

    async def _start(self, node: Node) -> None:
        """A store that is cut off from PD while it starts goes down again; whoever runs it starts it again."""
        while node.server is None:
            self.fault.reconnect(node.name)
            try:
                await self.cluster.start_store(node)
            except (PdError, RpcError) as error:
                self.note(f"cannot start: {error.code}", node)
                await self.cluster.crash(node)
        self.note("runs again", node)

    async def crash_pd(self, away_s: float) -> None:
        """Cut PD's power and start it again."""
        if self._busy or not self._pd_runs.is_set():  # stores need PD to start
            return
        self._pd_runs.clear()
        self.fault.dead.add("pd")
        self.note("pd loses power")
        await self.cluster.crash_pd(self.rng.choice((0, self.rng.randrange(200))))
        await asyncio.sleep(away_s)
        self.fault.dead.discard("pd")
        self.cluster.pd = await self.cluster.start_pd()
        self.note("pd runs again")
        self._pd_runs.set()

    def leaders(self) -> list[tuple[Node, Store, Peer]]:
        """Whoever believes to lead, stores in order."""
        return [
            (node, store, peer)
            for node in self.cluster.nodes
            if (store := store_of(node)) is not None
            for peer in store.peers.values()
            if peer.is_leader
        ]


def store_of(node: Node) -> Store | None:
    """The running store of a node."""
    return node.server.store if node.server is not None else None


def _store_id(node: Node) -> int:
    store = store_of(node)
    return store.store_id if store is not None else 0


def set_disk(node: Node, max_s: float) -> None:
    """How long a sync of this store takes at most."""
    if isinstance(node.workers, DelayedWorkers):
        node.workers.max_s = max_s


# ---- the actions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of fault; `node` is a store drawn at random."""

    name: str
    weight: int
    run: Callable[[Nemesis, Node], Awaitable[None]]


async def crash(nemesis: Nemesis, node: Node) -> None:
    await nemesis.crash([node], nemesis.rng.random())


async def crash_all(nemesis: Nemesis, _node: Node) -> None:
    await nemesis.crash(nemesis.cluster.nodes, nemesis.rng.random())


async def stay_away(nemesis: Nemesis, node: Node) -> None:
    """Away for so long that PD replaces it, while other stores fail too."""
    await nemesis.crash([node], DOWN_S + 2.0)


async def restart_pd(nemesis: Nemesis, _node: Node) -> None:
    await nemesis.crash_pd(nemesis.rng.random() * 2)


async def isolate(nemesis: Nemesis, node: Node) -> None:
    nemesis.note("is cut off", node)
    nemesis.fault.isolate(node.name)


async def cut_one_way(nemesis: Nemesis, node: Node) -> None:
    """One store is heard by nobody, or only by some."""
    others = [other.name for other in nemesis.cluster.nodes if other is not node]
    deaf = frozenset(nemesis.rng.sample(others, nemesis.rng.randrange(1, len(others) + 1)))
    nemesis.note(f"is not heard by {' '.join(sorted(deaf))}", node)
    nemesis.fault.part(frozenset((node.name,)), deaf, both=False)


async def partition(nemesis: Nemesis, _node: Node) -> None:
    """Two groups of stores; PD and clients are on both sides. Often a leader is alone on one of them."""
    names = [node.name for node in nemesis.cluster.nodes]
    leaders = nemesis.leaders()
    if leaders and nemesis.rng.random() < 0.5:
        one = frozenset((nemesis.rng.choice(leaders)[0].name,))
    else:
        one = frozenset(nemesis.rng.sample(names, nemesis.rng.randrange(1, len(names))))
    nemesis.note(f"partition of {' '.join(sorted(one))} from the others")
    nemesis.fault.part(one, frozenset(names) - one)


async def lose(nemesis: Nemesis, _node: Node) -> None:
    nemesis.fault.loss = nemesis.rng.random() * 0.1
    nemesis.note(f"loss of {nemesis.fault.loss:.3f}")


async def reorder(nemesis: Nemesis, _node: Node) -> None:
    nemesis.fault.disorder = nemesis.rng.random() * 0.3
    nemesis.note(f"raft messages come twice or late: {nemesis.fault.disorder:.3f}")


async def slow_links(nemesis: Nemesis, _node: Node) -> None:
    """Some links between stores get slow, so that messages on others overtake theirs."""
    names = [node.name for node in nemesis.cluster.nodes]
    for _ in range(nemesis.rng.randrange(1, 4)):
        source, target = nemesis.rng.sample(names, 2)
        nemesis.fault.slow[source, target] = seconds = nemesis.rng.random() * SLOW_LINK_S
        nemesis.note(f"messages from {source} to {target} take up to {seconds:.3f} s")


async def slow_disk(nemesis: Nemesis, node: Node) -> None:
    seconds = nemesis.rng.random() * SLOW_SYNC_S
    nemesis.note(f"syncs take up to {seconds:.3f} s", node)
    set_disk(node, seconds)


async def heal(nemesis: Nemesis, node: Node) -> None:
    nemesis.note("the network heals")
    nemesis.fault.heal()
    set_disk(node, SYNC_S)


async def pause(nemesis: Nemesis, node: Node) -> None:
    """The process stands still: its clock does, and its messages. Often it is one that leads."""
    leaders = nemesis.leaders()
    if leaders and nemesis.rng.random() < 0.5:
        node = nemesis.rng.choice(leaders)[0]
    stand_still(nemesis, node, nemesis.rng.random() * 2)


def stand_still(nemesis: Nemesis, node: Node, seconds: float) -> None:
    """Stop a process's clock and its messages for a while."""
    nemesis.note(f"stands still for {seconds:.3f} s", node)
    node.clock.pause(seconds)
    nemesis.fault.stands_until[node.name] = asyncio.get_running_loop().time() + seconds


async def sleep_through_election(nemesis: Nemesis, _node: Node) -> None:
    """A leader's process stands still until another leads; a client has stayed with it and asks when it runs again.

    It does not hear of its successor at once: for a moment longer the other stores do not reach it.
    """
    leaders = [leader for leader in nemesis.leaders() if not nemesis.fault.stands(leader[0].name)]
    if not leaders:
        return
    node, _, peer = nemesis.rng.choice(leaders)
    own = cut_off(nemesis, node)
    seconds = ELECTED_S + nemesis.rng.random()
    stand_still(nemesis, node, seconds)
    await asyncio.sleep(seconds)
    if nemesis.on_awake is not None and node.server is not None:
        await nemesis.on_awake(node, peer)
    end_cuts(nemesis, own)


def cut_off(nemesis: Nemesis, node: Node) -> list[Cut]:
    """Cut a store off from the other stores, not from PD and clients; the cuts that do it."""
    others = frozenset(other.name for other in nemesis.cluster.nodes if other is not node)
    before = len(nemesis.fault.cuts)
    nemesis.fault.part(frozenset((node.name,)), others)
    return nemesis.fault.cuts[before:]


def end_cuts(nemesis: Nemesis, own: list[Cut]) -> None:
    """End these cuts, if they have not healed already."""
    nemesis.fault.cuts = [cut for cut in nemesis.fault.cuts if not any(cut is one for one in own)]


async def fall_behind(nemesis: Nemesis, node: Node) -> None:
    """A store does not hear the others for so long that it finds their logs truncated and needs a snapshot."""
    seconds = BEHIND_S * (1 + nemesis.rng.random())
    nemesis.note(f"does not hear other stores for {seconds:.3f} s", node)
    own = cut_off(nemesis, node)
    await asyncio.sleep(seconds)
    end_cuts(nemesis, own)


async def drift(nemesis: Nemesis, node: Node) -> None:
    rate = 1 + (2 * nemesis.rng.random() - 1) * DRIFT
    nemesis.note(f"clock runs at {rate:.3f}", node)
    node.clock.set_rate(rate)


async def transfer(nemesis: Nemesis, _node: Node) -> None:
    """Move a leader, now and then to one whom the old leader hears late."""
    leaders = nemesis.leaders()
    if not leaders:
        return
    node, store, peer = nemesis.rng.choice(leaders)
    target = nemesis.rng.choice(list(peer.region.peers))
    heir = next((other for other in nemesis.cluster.nodes if _store_id(other) == target.store_id), node)
    if heir is not node and nemesis.rng.random() < 0.4:
        nemesis.fault.slow[heir.name, node.name] = SLOW_LINK_S
        nemesis.note(f"messages from {heir.name} to {node.name} take up to {SLOW_LINK_S:.3f} s")
    nemesis.note(f"leadership shall go to peer {target.id}", node, peer.region.id)
    try:
        admin.transfer_leader(store, peer, target)
    except DbError as error:
        nemesis.note(f"no transfer: {error.code}", node, peer.region.id)


async def split(nemesis: Nemesis, _node: Node) -> None:
    """Split one region, at one key or at all there are in it."""
    leaders = nemesis.leaders()
    if not leaders:
        return
    node, _, peer = nemesis.rng.choice(leaders)
    region = peer.region
    inside = [
        key for key in nemesis.split_keys if region.start_key < key and (not region.end_key or key < region.end_key)
    ]
    if not inside:
        return
    chosen = inside if nemesis.rng.random() < 0.2 else [nemesis.rng.choice(inside)]
    server = node.server
    assert server is not None
    assert server.store is not None
    nemesis.note(f"split at {chosen}", node, region.id)
    try:
        async with asyncio.timeout(PROPOSE_TIMEOUT_S):
            await split_region(server.store, server.pd, peer, chosen)
    except (DbError, TimeoutError) as error:
        nemesis.note(f"no split: {type(error).__name__}", node, region.id)


async def merge(nemesis: Nemesis, _node: Node) -> None:
    """Merge a region into a neighbour that has a replica on the same store."""
    leaders = nemesis.leaders()
    if not leaders:
        return
    node, store, peer = nemesis.rng.choice(leaders)
    start, end = peer.region.start_key, peer.region.end_key
    regions = [other.region for other in store.peers.values() if other.storage.is_initialized]
    neighbours = [
        region for region in regions if (end and region.start_key == end) or (start and region.end_key == start)
    ]
    if not neighbours:
        return
    target = nemesis.rng.choice(neighbours)
    nemesis.note(f"merge into {target.id}", node, peer.region.id)
    try:
        async with asyncio.timeout(PROPOSE_TIMEOUT_S):
            await admin.merge_region(store, peer, target)
    except (DbError, TimeoutError) as error:
        nemesis.note(f"no merge: {type(error).__name__}", node, peer.region.id)


CRASH = Action("crash", 10, crash)
ACTIONS: tuple[Action, ...] = (
    CRASH,
    Action("crash all", 3, crash_all),
    Action("replace", 2, stay_away),
    Action("restart pd", 3, restart_pd),
    Action("isolate", 5, isolate),
    Action("one way", 5, cut_one_way),
    Action("partition", 8, partition),
    Action("loss", 4, lose),
    Action("reorder", 5, reorder),
    Action("slow links", 6, slow_links),
    Action("slow disk", 4, slow_disk),
    Action("heal", 10, heal),
    Action("pause", 8, pause),
    Action("drift", 4, drift),
    Action("transfer", 8, transfer),
    Action("split", 8, split),
    Action("merge", 12, merge),
    Action("change members", 10, membership.change),
)

AIMED: tuple[Action, ...] = (
    Action("sleep through election", 0, sleep_through_election),
    Action("fall behind", 0, fall_behind),
)
"""What only the workloads do that ask for it."""


def chosen_actions(**weights: int) -> tuple[Action, ...]:
    """Some of the actions, by name with a _ for a space, with other weights."""
    named = {action.name.replace(" ", "_"): action for action in (*ACTIONS, *AIMED)}
    return tuple(replace(named[name], weight=weight) for name, weight in weights.items())
