"""Raw put and linearizable get, 100-byte values, three durable replicas, beside a three-member etcd in the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from bench.load import Result, drive
from bench.peers import etcd
from bench.stores import leader_first, region_of, stores_of
from core_py.errors import RpcError
from core_py.ports import methods_of
from core_py.runtime.grpc_transport import GrpcTransport
from protos.etcd import rpc_pb2
from tidb_py.testing.playground import PlaygroundCluster, playground
from tikv_py.client.connect import connect_raw

VALUE = b"x" * 100
KEYS = 20_000
METHODS = methods_of(rpc_pb2.DESCRIPTOR.services_by_name["KV"])
WINDOWS = (64, 256)


def key(number: int) -> bytes:
    """A 20-byte key, spread over the key space."""
    return b"bench%015d" % (number * 7919 % KEYS)


async def _ours(cluster: PlaygroundCluster, operations: int) -> tuple[list[Result], list[str]]:
    async with await connect_raw([cluster.pd]) as client:

        def put(number: int) -> Awaitable[object]:
            return client.put(key(number), VALUE)

        def get(number: int) -> Awaitable[object]:
            return client.get(key(number))

        await put(0)
        stores = stores_of(cluster)
        leader, *others = leader_first(stores, await region_of(client, key(0)))
        pids = [leader.pid, *[store.pid for store in others]]
        puts = [await drive("tidb-py", "raw put", n, operations, put, pids) for n in WINDOWS]
        gets = [await drive("tidb-py", "raw get", n, operations, get, pids) for n in WINDOWS]
        stayed = leader_first(stores, await region_of(client, key(0)))[0] is leader
    return puts + gets, [] if stayed else ["the leader moved during the run: its CPU figures are not its alone"]


async def _etcd(members: list[etcd.Member], operations: int) -> list[Result]:
    transport = GrpcTransport()
    channels = [transport.connect(member.address) for member in members]

    async def put(number: int) -> object:
        channel = channels[number % len(channels)]
        return await channel.unary(METHODS["Put"], rpc_pb2.PutRequest(key=key(number), value=VALUE), timeout_s=30)

    async def get(number: int) -> object:
        channel = channels[number % len(channels)]
        return await channel.unary(METHODS["Range"], rpc_pb2.RangeRequest(key=key(number)), timeout_s=30)

    for number in range(3):
        await until_it_works(lambda number=number: put(number))  # type: ignore[misc]
    pids = [member.pid for member in sorted(members, key=lambda member: not member.is_leader())]
    puts = [await drive("etcd", "raw put", n, operations, put, pids) for n in WINDOWS]
    gets = [await drive("etcd", "raw get", n, operations, get, pids) for n in WINDOWS]
    for channel in channels:
        await channel.close()
    return puts + gets


async def until_it_works(operation: Callable[[], Awaitable[object]]) -> None:
    """A new cluster elects before it answers."""
    for _ in range(100):
        try:
            await operation()
        except RpcError:
            await asyncio.sleep(0.2)
        else:
            return
    raise TimeoutError("the peer does not answer")


async def _run(operations: int) -> tuple[list[Result], list[str]]:
    with playground("--db", "0") as ready:
        rows, notes = await _ours(ready, operations)
    notes.append(
        "CPU of the servers: user and system time of each process over the counted operations, the leader's first"
    )
    peer = etcd.version()
    if peer is None:
        return rows, [*notes, "etcd is not installed (Debian: etcd-server): skipped"]
    with etcd.cluster() as members:
        rows += await _etcd(members, operations)
    return rows, [*notes, f"peer: {peer}, three members, fsync on, requests spread over the members"]


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes). One event loop: grpc.aio does not survive a second one in a process."""
    return uvloop.run(_run(operations))
