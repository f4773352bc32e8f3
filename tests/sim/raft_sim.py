"""Single keys under everything at once: every kind of operation by several clients, and each key's history must be linearizable.

Clients draw a key and an operation: put, delete, compare-and-swap, put of several keys, read at the leader, read at any replica.
A request is sent once: one whose outcome is not known (the transport failed, the store lost sight of the proposal) stays in the
history as one that may take effect at any later time, and its client goes on. No value is written twice, so a read tells which
write it saw. What the cluster itself must keep is checked by `observer` while it runs.

After healing: replicas are equal, every region has a leader, every key is read once more, and the histories are judged.
"""

from __future__ import annotations

import asyncio
import random

from core_py.errors import DbError, RpcError
from core_py.region_errors import UndeterminedResult
from core_py.sim.clock import LoopClock
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.sim import world as worlds
from tests.sim.nemesis import chosen_actions
from tests.sim.world import Options, Outcome, World, check_replicas, error_name
from tests.support.checkers.linearizable import Kind, Operation, explain
from tests.support.storage_cluster import PD_ADDRESS, Node
from tikv_py.client.errors import RawError, RegionStale
from tikv_py.client.raw.client import RawClient
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.sender import variant_of
from tikv_py.client.rpc.methods import METHODS
from tikv_py.raftstore.peer import Peer

CLIENTS = 5
SWAPPED = [b"key%d" % number for number in range(3)]
"""Keys of compare-and-swaps: as in TiKV, all that write to them must ask for it (`for_cas`)."""
PLAIN = [b"key%d" % number for number in range(3, 6)]
KEYS = [*SWAPPED, *PLAIN]
TIMEOUT_S = 0.7  # of one request
BUDGET_MS = 2_000  # of one operation
PAUSE_S = 0.07  # between a client's operations, at most
SHORT = Options("raft-short", stores=3, run_s=4.0, pace_s=0.35)
"""What `make test` runs by the hundred."""
LEASES = Options(
    "raft-leases",
    stores=3,
    run_s=4.0,
    pace_s=0.2,
    actions=chosen_actions(transfer=10, slow_links=6, pause=6, partition=4, heal=6, reorder=2),
)
"""Leaders come and go, nobody crashes."""
PAUSES = Options(
    "raft-pauses",
    stores=3,
    run_s=6.0,
    pace_s=1.2,
    actions=chosen_actions(sleep_through_election=10, transfer=2, heal=2, slow_disk=1),
)
"""Leaders sleep until others have been elected, and are asked in the moment in which they wake."""
SNAPSHOTS = Options(
    "raft-snapshots",
    stores=4,
    run_s=5.0,
    pace_s=0.3,
    actions=chosen_actions(change_members=12, isolate=6, heal=8, crash=8, slow_disk=4, split=3, crash_all=4),
)
"""Replicas come and go, power is lost."""
LAGGARDS = Options(
    "raft-laggards",
    stores=3,
    run_s=9.0,
    pace_s=1.6,
    actions=chosen_actions(fall_behind=8, slow_disk=2, heal=1),
    trip=1.0,
)
"""Replicas with data fall behind, take in snapshots, and lose power while they do."""
UNKNOWN = (RpcError, UndeterminedResult, RawError)


class Registers:
    """One run's clients and histories."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.rng.random())
        self.histories: dict[bytes, list[Operation]] = {key: [] for key in KEYS}
        self.last_read: dict[bytes, bytes | None] = dict.fromkeys(KEYS)
        self.writes = self.reads = 0
        self.stopping = False

    async def run(self) -> Outcome:
        """Clients and faults together, then the judgement."""
        async with await self.connect() as client, await self.connect() as other:
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    # Two views of where regions and leaders are.
                    group.create_task(self.client((client, other)[number % 2], f"client{number}"))
                self.world.nemesis.on_awake = self.ask_the_awakened
                await self.world.nemesis.run(self.world.options.run_s)
                self.stopping = True
            await check_replicas(self.world)
            for key in KEYS:
                await self.get(client, "judge", key, at_replica=False)
        self.judge()
        return Outcome("", self.writes, self.reads)

    async def connect(self) -> RawClient:
        """A client of its own network endpoint."""
        transport = self.world.cluster.network.transport("client")
        rng = random.Random(self.rng.random())
        return await RawClient.connect((PD_ADDRESS,), transport=transport, clock=LoopClock(), random=rng)

    def judge(self) -> None:
        """Every key's history is one of a register."""
        for key, history in self.histories.items():
            problem = explain(history)
            assert problem is None, f"{key.decode()} is not linearizable: {problem}"

    # ---- clients --------------------------------------------------------------------------------------------

    async def client(self, client: RawClient, name: str) -> None:
        """One operation after another."""
        count = 0
        while not self.stopping:
            count += 1
            key = self.rng.choice(KEYS)
            value = b"%s.%d" % (name[6:].encode(), count)
            draw = self.rng.random()
            swapped = key in SWAPPED
            if draw < 0.22:
                await self.get(client, name, key, at_replica=False)
            elif draw < 0.42:
                await self.get(client, name, key, at_replica=True)
            elif draw < 0.50:
                await self.write(client, name, Kind.DELETE, key, pb.RawDeleteRequest(key=key, for_cas=swapped), None)
            elif draw < 0.60:
                among = SWAPPED if swapped else PLAIN
                chosen = sorted(self.rng.sample(among, self.rng.randrange(2, len(among) + 1)))
                await self.put_many(client, name, {one: value + b"/" + one for one in chosen}, for_cas=swapped)
            elif draw < 0.80 and swapped:
                await self.swap(client, name, key, value)
            else:
                request = pb.RawPutRequest(key=key, value=value, for_cas=swapped)
                await self.write(client, name, Kind.PUT, key, request, value)
            await asyncio.sleep(self.rng.random() * PAUSE_S)

    @staticmethod
    def now() -> float:
        """Seconds of virtual time."""
        return asyncio.get_running_loop().time()

    async def send(
        self, client: RawClient, key: bytes, command: str, request: object, *, at_replica: bool = False
    ) -> object:
        """Send until a store has taken the request, then never again. Raises DbError."""
        backoffer = Backoffer(BUDGET_MS, self.rng)
        while True:
            try:
                region = await client.region_cache.locate_key(key, backoffer)
                return await client.sender.send(
                    region,
                    command,
                    request,
                    backoffer=backoffer,
                    timeout_s=TIMEOUT_S,
                    replica_read=at_replica,
                    idempotent=False,
                )
            except RegionStale as error:
                await backoffer.backoff(kinds.REGION_MISS, error)

    def record(self, key: bytes, operation: Operation, outcome: str) -> None:
        """An operation has come to its end, or to its client's."""
        self.histories[key].append(operation)
        self.world.note(f"{operation.kind.value} {key.decode()} {outcome}", where=operation.client)

    async def get(self, client: RawClient, name: str, key: bytes, *, at_replica: bool) -> None:
        called = self.now()
        try:
            response = await self.send(client, key, "RawGet", pb.RawGetRequest(key=key), at_replica=at_replica)
        except DbError as error:
            self.world.note(f"get {key.decode()} {error_name(error)}", where=name)
            return
        assert isinstance(response, pb.RawGetResponse)
        value = None if response.not_found else response.value
        self.last_read[key] = value
        self.reads += 1
        self.record(key, Operation(Kind.GET, called, self.now(), value, client=name), f"{value!r} since {called:.6f}")

    async def ask_the_awakened(self, node: Node, peer: Peer) -> None:
        """Read at a store that has just begun to run again, as a client does that has not heard of another leader."""
        region = peer.region
        keys = [key for key in KEYS if region.start_key <= key and (not region.end_key or key < region.end_key)]
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(self.get_at(node, peer, key))

    async def get_at(self, node: Node, peer: Peer, key: bytes) -> None:
        """Read at this peer and at no other."""
        assert node.server is not None
        name, called = "stayed", self.now()
        request = pb.RawGetRequest(key=key)
        request.context.region_id = peer.region.id
        request.context.region_epoch.CopyFrom(peer.region.region_epoch)
        request.context.peer.CopyFrom(peer.meta())
        channel = self.world.cluster.network.transport("client").connect(node.server.address)
        try:
            response = await channel.unary(METHODS["RawGet"], request, timeout_s=TIMEOUT_S)
        except RpcError as error:
            self.world.note(f"get {key.decode()} {error_name(error)}", where=name)
            return
        finally:
            await channel.close()
        if response.HasField("region_error"):
            self.world.note(f"get {key.decode()} {variant_of(response.region_error)}", where=name)
            return
        value = None if response.not_found else response.value
        self.record(key, Operation(Kind.GET, called, self.now(), value, client=name), f"{value!r} since {called:.6f}")

    async def write(
        self, client: RawClient, name: str, kind: Kind, key: bytes, request: object, value: bytes | None
    ) -> None:
        called = self.now()
        self.world.note(f"{kind.value} {key.decode()} {value!r} begins", where=name)
        returned: float | None = None
        try:
            response = await self.send(client, key, "RawPut" if kind is Kind.PUT else "RawDelete", request)
        except UNKNOWN as error:
            outcome = f"{value!r} unknown: {error_name(error)}"
        except DbError as error:
            self.world.note(f"{kind.value} {key.decode()} {value!r} not done: {error_name(error)}", where=name)
            return
        else:
            assert not response.error  # type: ignore[attr-defined]
            returned, outcome = self.now(), f"{value!r} done"
            self.writes += 1
        self.record(key, Operation(kind, called, returned, value, client=name), outcome)

    async def swap(self, client: RawClient, name: str, key: bytes, value: bytes) -> None:
        called, expected = self.now(), self.last_read[key]
        request = pb.RawCASRequest(key=key, value=value, previous_not_exist=expected is None)
        request.previous_value = expected or b""
        self.world.note(f"swap {key.decode()} {expected!r} -> {value!r} begins", where=name)
        try:
            response = await self.send(client, key, "RawCompareAndSwap", request)
        except UNKNOWN as error:
            operation = Operation(Kind.SWAP, called, None, value, expected, client=name)
            self.record(key, operation, f"{value!r} unknown: {error_name(error)}")
            return
        except DbError as error:
            self.world.note(f"swap {key.decode()} {value!r} not done: {error_name(error)}", where=name)
            return
        assert isinstance(response, pb.RawCASResponse)
        assert not response.error
        found = None if response.previous_not_exist else response.previous_value
        self.writes += response.succeed
        operation = Operation(Kind.SWAP, called, self.now(), value, expected, response.succeed, found, client=name)
        self.record(key, operation, f"{value!r} {'done' if response.succeed else 'refused'}, found {found!r}")

    async def put_many(self, client: RawClient, name: str, pairs: dict[bytes, bytes], *, for_cas: bool) -> None:
        """Each region's part is one request; the keys are judged one by one."""
        left = dict(pairs)
        called = self.now()
        backoffer = Backoffer(BUDGET_MS, self.rng)
        self.world.note(f"put {' '.join(key.decode() for key in pairs)} {min(pairs.values())!r} begins", where=name)
        while left:
            try:
                [(region, keys), *_] = await client.region_cache.group_keys_by_region(list(left), backoffer)
                request = pb.RawBatchPutRequest(for_cas=for_cas)
                request.pairs.extend(pb.KvPair(key=key, value=left[key]) for key in keys)
                await client.sender.send(
                    region, "RawBatchPut", request, backoffer=backoffer, timeout_s=TIMEOUT_S, idempotent=False
                )
            except RegionStale as error:
                try:
                    await backoffer.backoff(kinds.REGION_MISS, error)
                except DbError:
                    return
                continue
            except UNKNOWN as error:
                returned, outcome = None, f"unknown: {error_name(error)}"
            except DbError as error:
                self.world.note(f"put of several not done: {error_name(error)}", where=name)
                return
            else:
                returned, outcome = self.now(), "done"
                self.writes += 1
            for key in keys:
                self.record(key, Operation(Kind.PUT, called, returned, left.pop(key), client=name), outcome)


def simulate(seed: int, options: Options = Options()) -> Outcome:  # noqa: B008 frozen
    """Run one seed. Raises SeedFailed."""

    async def workload(world: World) -> Outcome:
        return await Registers(world).run()

    return worlds.simulate("raft", seed, workload, options, split_keys=list(KEYS))
