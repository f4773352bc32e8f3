"""YCSB A, B, C and F over raw keys and over transactions, three durable replicas, beside a three-member etcd in the same run.

10,000 records of 1,000 bytes, keys drawn from YCSB's scrambled zipfian distribution (theta 0.99). A is half reads and half updates,
B 95 % reads, C reads only, F half reads and half read-modify-writes. With transactions every operation is one: a timestamp from
PD, then the read, or a write of one key; a read-modify-write locks its key first. A tenth of all operations is on one key, where
optimistic writes are repeated after conflicts. etcd reads are linearizable, its read-modify-write compares the revision it read.

Rows give each kind of operation apart, as it went within its mix: how many of it were done in a second, and its percentiles.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import uvloop

from bench.load import Result, drive, summarize
from bench.peers import etcd
from bench.scenarios.raw import METHODS, until_it_works
from core_py.ports import Channel
from core_py.runtime.grpc_transport import GrpcTransport
from protos.etcd import rpc_pb2
from tidb_py.testing.playground import PlaygroundCluster, playground
from tikv_py.client.connect import connect_raw, connect_txn
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

RECORDS = 10_000
VALUE = b"x" * 1000
THETA = 0.99
WINDOWS = (64, 256)
READ_SHARE = {"A": 0.5, "B": 0.95, "C": 1.0, "F": 0.5}
LOAD_AT_ONCE = 64

Operation = Callable[[bytes], Awaitable[object]]
Operations = dict[str, Operation]
"""By kind: read, update, modify."""


def key(number: int) -> bytes:
    """A record's key; neighbours in popularity are not neighbours in the key space."""
    return b"user%016d" % (number * 2_654_435_761 % (1 << 32))


class Choices:
    """The same sequence of (kind, key) for every system."""

    def __init__(self, workload: str, seed: int) -> None:
        self._rng = random.Random(seed)
        self._write = "modify" if workload == "F" else "update"
        self._reads = READ_SHARE[workload]
        self._weights = list(accumulate(1 / (rank + 1) ** THETA for rank in range(RECORDS)))
        self._ranks = range(RECORDS)

    def next(self) -> tuple[str, bytes]:
        """What to do next."""
        kind = "read" if self._rng.random() < self._reads else self._write
        return kind, key(self._rng.choices(self._ranks, cum_weights=self._weights)[0])


async def mixed(system: str, workload: str, in_flight: int, operations: int, do: Operations) -> list[Result]:
    """One workload: a row for each kind of operation."""
    choices = Choices(workload, in_flight)
    latencies: dict[str, list[float]] = {}

    async def one(_number: int) -> None:
        kind, chosen = choices.next()
        began = time.perf_counter()
        await do[kind](chosen)
        latencies.setdefault(kind, []).append(time.perf_counter() - began)

    began = time.perf_counter()
    whole = await drive(system, f"YCSB {workload}", in_flight, operations, one)
    elapsed_s = time.perf_counter() - began
    rows = [
        replace(
            summarize(system, f"YCSB {workload} {kind}", in_flight, taken, elapsed_s), client_cores=whole.client_cores
        )
        for kind, taken in sorted(latencies.items())
    ]
    return rows if len(rows) == 1 else [whole, *rows]


def raw_operations(client: RawClient) -> Operations:
    """Raw keys; a read-modify-write is a read and a compare-and-swap."""

    async def modify(chosen: bytes) -> None:
        while True:
            found = await client.get(chosen)
            if (await client.compare_and_swap(chosen, found, VALUE)).swapped:
                return

    return {"read": client.get, "update": lambda chosen: client.put(chosen, VALUE), "modify": modify}


def txn_operations(client: TxnClient) -> Operations:
    """Every operation is a transaction."""

    async def read(chosen: bytes) -> None:
        async with client.begin() as txn:
            await txn.get(chosen)

    async def update(chosen: bytes) -> None:
        await client.write({chosen: VALUE}, retries=1000)

    async def modify(chosen: bytes) -> None:
        async def work(txn: Transaction) -> None:
            await txn.lock_keys([chosen], return_values=True)
            txn.put(chosen, VALUE)

        await client.run_in_transaction(work, pessimistic=True, retries=1000)

    return {"read": read, "update": update, "modify": modify}


def etcd_operations(channels: Sequence[Channel]) -> Operations:
    """Calls spread over the members."""
    turn = iter(range(1 << 62))

    async def call(name: str, request: object) -> object:
        channel = channels[next(turn) % len(channels)]
        return await channel.unary(METHODS[name], request, timeout_s=30)  # type: ignore[arg-type]

    async def modify(chosen: bytes) -> None:
        while True:
            found = await call("Range", rpc_pb2.RangeRequest(key=chosen))
            revision = found.kvs[0].mod_revision  # type: ignore[attr-defined]
            request = rpc_pb2.TxnRequest()
            request.compare.add(key=chosen, target=rpc_pb2.Compare.MOD, mod_revision=revision)
            request.success.add().request_put.CopyFrom(rpc_pb2.PutRequest(key=chosen, value=VALUE))
            if (await call("Txn", request)).succeeded:  # type: ignore[attr-defined]
                return

    return {
        "read": lambda chosen: call("Range", rpc_pb2.RangeRequest(key=chosen)),
        "update": lambda chosen: call("Put", rpc_pb2.PutRequest(key=chosen, value=VALUE)),
        "modify": modify,
    }


async def _load(put: Operation) -> None:
    room = asyncio.Semaphore(LOAD_AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await put(key(number))

    async with asyncio.TaskGroup() as group:
        for number in range(RECORDS):
            group.create_task(one(number))


async def _all(system: str, do: Operations, operations: int) -> list[Result]:
    await _load(do["update"])
    rows = []
    for workload in READ_SHARE:
        for in_flight in WINDOWS:
            rows += await mixed(system, workload, in_flight, operations, do)
    return rows


async def _ours(cluster: PlaygroundCluster, operations: int) -> list[Result]:
    async with await connect_raw([cluster.pd]) as raw:
        rows = await _all("tidb-py", raw_operations(raw), operations)
        await raw.delete_range(b"", b"")
    async with await connect_txn([cluster.pd]) as txn:
        return rows + await _all("tidb-py txn", txn_operations(txn), operations)


async def _etcd(members: list[etcd.Member], operations: int) -> list[Result]:
    transport = GrpcTransport()
    channels = [transport.connect(member.address) for member in members]
    do = etcd_operations(channels)
    await until_it_works(lambda: do["update"](key(0)))
    rows = await _all("etcd", do, operations)
    for channel in channels:
        await channel.close()
    return rows


async def _run(operations: int) -> tuple[list[Result], list[str]]:
    with playground("--db", "0") as ready:
        rows = await _ours(ready, operations)
    peer = etcd.version()
    if peer is None:
        return rows, ["etcd is not installed (Debian: etcd-server): skipped"]
    with etcd.cluster() as members:
        rows += await _etcd(members, operations)
    return rows, [f"peer: {peer}, three members, fsync on, requests spread over the members"]


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes). One event loop: grpc.aio does not survive a second one in a process."""
    return uvloop.run(_run(operations))
