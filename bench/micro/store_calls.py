"""What one command costs in the client's lower half, without a network and without a store.

    python -m bench.micro.store_calls [--seconds N] [--send]

A channel in memory answers every batch at once with bytes made beforehand; requests are serialised and answers parsed as over a
real connection. Printed: microseconds of processor time per command, and commands per second of it, for several numbers in flight;
other work on the machine does not count. With `--send` the region sender
(context, replica choice, error check) is measured on top. `--loop` names the event loop: uvloop as servers use, or asyncio's own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import deque
from typing import Any

import uvloop

from core_py.ports import Method
from core_py.runtime.clock import SystemClock
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2, metapb_pb2, tikvpb_pb2
from tikv_py.client.pd.client import RegionInfo
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import RAW_KEYS
from tikv_py.client.region.sender import RegionRequestSender
from tikv_py.client.region.store import StoreCache
from tikv_py.client.rpc.connection import StoreConnection

IN_FLIGHT = (1, 64, 256)
PEER = metapb_pb2.Peer(id=11, store_id=1)
REGION = metapb_pb2.Region(id=2, peers=[PEER], region_epoch=metapb_pb2.RegionEpoch(conf_ver=3, version=9))


def _one_answer() -> bytes:
    """The bytes of one element of `responses`, its tag included."""
    one = tikvpb_pb2.BatchCommandsResponse.Response()
    one.Get.value = b"v" * 32
    return tikvpb_pb2.BatchCommandsResponse(responses=[one]).SerializeToString()


class EchoStream:
    """Answers each batch with as many equal responses."""

    def __init__(self) -> None:
        self._answers: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._one = _one_answer()

    async def send(self, message: Any) -> None:
        """Serialise, and put the answer where `receive` finds it."""
        message.SerializeToString()
        ids = tikvpb_pb2.BatchCommandsResponse(request_ids=message.request_ids).SerializeToString()
        self._answers.append(ids + self._one * len(message.request_ids))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def receive(self) -> Any:
        """The next answer, parsed."""
        while not self._answers:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return tikvpb_pb2.BatchCommandsResponse.FromString(self._answers.popleft())

    async def done_sending(self) -> None:
        """Nothing to do."""

    def cancel(self) -> None:
        """Nothing to do."""


class EchoChannel:
    """A channel and a transport at once."""

    def connect(self, _address: str) -> EchoChannel:
        """Itself."""
        return self

    async def serve(self, *_arguments: Any) -> Any:
        """Not a server."""
        raise NotImplementedError

    async def unary(self, method: Method, *_arguments: Any, **_options: Any) -> Any:
        """No single calls here."""
        raise NotImplementedError(method.name)

    def stream(self, _method: Method, **_options: Any) -> EchoStream:
        """A new echo."""
        return EchoStream()

    async def close(self) -> None:
        """Nothing to do."""


class OneStorePd:
    """As much of PD as a cache asks for."""

    async def get_store(self, store_id: int, **_options: Any) -> metapb_pb2.Store:
        """The only store."""
        return metapb_pb2.Store(id=store_id, address="echo:1")

    async def get_region(self, _key: bytes, **_options: Any) -> RegionInfo:
        """The only region."""
        return RegionInfo(REGION, PEER)


async def measure(in_flight: int, seconds: float, *, through_sender: bool) -> float:
    """Commands per second of processor time."""
    scope = TaskScope("bench")
    channel: Any = EchoChannel()
    pd: Any = OneStorePd()
    rng = random.Random(1)
    cache = RegionCache(pd, scope, RAW_KEYS)
    stores = StoreCache(pd, channel, SystemClock(), scope)
    sender = RegionRequestSender(cache, stores, rng, 7)
    connection = StoreConnection(lambda: channel, scope, "echo:1")
    done, stop = 0, time.perf_counter() + seconds

    async def plain() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await connection.call("KvGet", kvrpcpb_pb2.GetRequest(key=b"k" * 20, version=1 << 58), 30.0)
            done += 1

    async def sent() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            backoffer = Backoffer(20_000, rng)
            region = await cache.locate_key(b"k" * 20, backoffer)
            request = kvrpcpb_pb2.GetRequest(key=b"k" * 20, version=1 << 58)
            await sender.send(region, "KvGet", request, backoffer=backoffer)
            done += 1

    began = time.process_time()
    await asyncio.gather(*((sent if through_sender else plain)() for _ in range(in_flight)))
    taken = time.process_time() - began
    await scope.close()
    return done / taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--send", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    factory = uvloop.new_event_loop if options.loop == "uvloop" else asyncio.new_event_loop
    for in_flight in IN_FLIGHT:
        with asyncio.Runner(loop_factory=factory) as runner:
            work = measure(in_flight, options.seconds, through_sender=options.send)
            rate = runner.run(work)
        print(f"{in_flight:4d} in flight: {rate:10,.0f}/s {1e6 / rate:7.2f} us")


if __name__ == "__main__":
    main()
