"""A process that uses PD and a transactional store all the time, and tells what it saw; the chaos tests run it.

    python -m tests.chaos.pd_workload PD_ADDRESSES
    python -m tests.chaos.pd_workload --leader PD_ADDRESSES      prints who leads

Prints one JSON line every 100 ms: the time and how much of each kind was done. SIGTERM ends it with a last line: what was wrong.
Kinds: `tso` timestamps that must grow, `ids` that must never repeat, `puts` of etcd keys that must stay, `txns` that count.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

import structlog
import uvloop

from core_py.errors import DbError
from core_py.ports import methods_of
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from protos.etcd import rpc_pb2
from protos.kvproto import pdpb_pb2
from tikv_py.client.connect import connect_txn
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.members import METHODS

KV = methods_of(rpc_pb2.DESCRIPTOR.services_by_name["KV"])
BUDGET_S = 60.0
CALL_S = 2.0
COUNTERS = 3


class Workload:
    """What was done, and what was wrong."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.transport = GrpcTransport()
        self.done = {"tso": 0, "ids": 0, "puts": 0, "txns": 0}
        self.wrong: list[str] = []
        self.acknowledged: set[str] = set()
        self.ids: set[int] = set()
        self.counted = [0] * COUNTERS
        self.tried = [0] * COUNTERS

    async def timestamps(self) -> None:
        pd = await PdClient.open(self.transport, self.addresses, SystemClock())
        newest = 0
        while True:
            try:
                ts = await pd.timestamp(BUDGET_S)
            except DbError:
                continue
            if ts <= newest:
                self.wrong.append(f"timestamp {ts} after {newest}")
            newest = ts
            self.done["tso"] += 1
            await asyncio.sleep(0.002)

    async def second_client(self) -> None:
        """Timestamps of a client of its own, compared with those of other members' callers through a shared newest one."""
        newest = 0
        while True:
            pd = await PdClient.open(self.transport, self.addresses, SystemClock())
            for _ in range(200):
                before = newest
                try:
                    ts = await pd.timestamp(BUDGET_S)
                except DbError:
                    break
                if ts <= before:
                    self.wrong.append(f"timestamp {ts} after {before}, which another connection had before")
                newest = max(newest, ts)
                await asyncio.sleep(0.005)
            await pd.close()

    async def numbers(self) -> None:
        pd = await PdClient.open(self.transport, self.addresses, SystemClock())
        while True:
            try:
                number = await pd.alloc_id()
            except DbError:
                await asyncio.sleep(0.05)
                continue
            if number in self.ids:
                self.wrong.append(f"id {number} was given twice")
            self.ids.add(number)
            self.done["ids"] += 1
            await asyncio.sleep(0.005)

    async def puts(self) -> None:
        channels = [self.transport.connect(address) for address in self.addresses]
        number = 0
        while True:
            number += 1
            key = f"/chaos/{number:08d}"
            request = rpc_pb2.PutRequest(key=key.encode(), value=b"%d" % number)
            try:
                await channels[number % len(channels)].unary(KV["Put"], request, timeout_s=CALL_S)
            except DbError:
                await asyncio.sleep(0.02)
                continue
            self.acknowledged.add(key)
            self.done["puts"] += 1
            await asyncio.sleep(0.005)

    async def transactions(self) -> None:
        client = await connect_txn(self.addresses)
        number = 0
        while True:
            number = (number + 1) % COUNTERS
            key = b"counter%d" % number
            self.tried[number] += 1
            try:
                async with client.begin() as txn:
                    txn.put(key, b"%d" % (int(await txn.get(key) or b"0") + 1))
            except DbError:
                await asyncio.sleep(0.05)
                continue
            self.counted[number] += 1
            self.done["txns"] += 1

    async def report(self) -> None:
        while True:
            print(json.dumps({"t": time.monotonic(), **self.done}), flush=True)
            await asyncio.sleep(0.1)

    async def look_back(self) -> None:
        """Whether everything acknowledged is still there."""
        channel = self.transport.connect(self.addresses[0])
        request = rpc_pb2.RangeRequest(key=b"/chaos/", range_end=b"/chaos0", keys_only=True)
        found = await channel.unary(KV["Range"], request, timeout_s=10)
        missing = self.acknowledged - {kv.key.decode() for kv in found.kvs}
        if missing:
            self.wrong.append(f"{len(missing)} acknowledged keys are gone, {min(missing)} the first")
        client = await connect_txn(self.addresses)
        for number in range(COUNTERS):
            async with client.begin() as txn:
                value = int(await txn.get(b"counter%d" % number) or b"0")
            if not self.counted[number] <= value <= self.tried[number]:
                self.wrong.append(
                    f"counter {number} is {value}: {self.counted[number]} acknowledged, {self.tried[number]} tried"
                )
        await client.close()


async def leader_of(addresses: list[str]) -> str:
    """The client address of the leader, as a majority of the members says."""
    transport = GrpcTransport()
    votes: list[str] = []
    for address in addresses:
        channel = transport.connect(address)
        try:
            answer = await channel.unary(METHODS["GetMembers"], pdpb_pb2.GetMembersRequest(), timeout_s=1)
            votes += [url.split("://")[-1] for url in answer.leader.client_urls[:1]]
        except DbError:
            pass
        finally:
            await channel.close()
    return max(set(votes), key=votes.count) if votes else ""


async def main(addresses: list[str]) -> None:
    """Work until told to end."""
    workload = Workload(addresses)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one())
            for one in (
                workload.timestamps,
                workload.second_client,
                workload.numbers,
                workload.puts,
                workload.transactions,
                workload.report,
            )
        ]
        await over.wait()
        for task in tasks:
            task.cancel()
    await workload.look_back()
    print(json.dumps({"wrong": workload.wrong, **workload.done}), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if sys.argv[1] == "--leader":
        print(uvloop.run(leader_of(sys.argv[2].split(","))))
    else:
        uvloop.run(main(sys.argv[1].split(",")))
