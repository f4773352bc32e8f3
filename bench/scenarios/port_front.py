"""What one port for gRPC and HTTP costs: timestamps straight from grpcio's port, and through the front, of one PD process.

    python -m bench port_front

Both ports belong to the same process and the same oracle. Rounds alternate between them, and the figures are medians over the
rounds, because one round of a virtual machine says little. The client is ours: its callers share one stream.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from bench.load import Result, drive
from core_py.ports import Listener, Service
from core_py.runtime.clock import SystemClock
from core_py.runtime.disk import DirectoryDisk
from core_py.runtime.grpc_transport import GrpcChannel, GrpcTransport
from core_py.runtime.lifecycle import SWITCH_INTERVAL_S
from core_py.runtime.port_front import serve_shared
from core_py.runtime.workers import ThreadWorkers
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig
from tikv_py.client.pd.client import PdClient

ROUNDS = 9
CALLERS = (1, 64, 1024)
NAMES = {"direct": "tidb-py", "shared": "tidb-py, shared port"}


class _TwoPorts(GrpcTransport):
    """Serves the same services on the asked port, and on a second one behind the front."""

    shared: Listener

    async def serve(self, address: str, services: Sequence[Service]) -> Listener:
        if not address.startswith("unix:"):
            self.shared = await serve_shared(self, "127.0.0.1:0", services, web.Application())
        return await super().serve(address, services)


async def _serve(directory: str) -> None:
    transport = _TwoPorts()
    server = PdServer(
        PdConfig(client_urls="http://127.0.0.1:0", peer_urls="http://127.0.0.1:0"),
        transport=transport,
        disk=DirectoryDisk(directory),
        workers=ThreadWorkers(1),
        clock=SystemClock(),
        rng=random.Random(1),
        registry=CollectorRegistry(),
    )
    await server.start()
    print(server.address, transport.shared.address, flush=True)
    await asyncio.Event().wait()


class _Through(GrpcTransport):
    """Connects to one address whatever PD says its address is."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def connect(self, address: str) -> GrpcChannel:
        return super().connect(self._address)


def _median(rows: list[Result]) -> Result:
    return replace(
        rows[0],
        per_second=statistics.median(row.per_second for row in rows),
        p50_ms=statistics.median(row.p50_ms for row in rows),
        p99_ms=statistics.median(row.p99_ms for row in rows),
        client_cores=statistics.median(row.client_cores or 0.0 for row in rows),
        server_cpu_us=(statistics.median(row.server_cpu_us[0] for row in rows),),
    )


async def _measure(addresses: dict[str, str], pid: int, operations: int) -> tuple[list[Result], list[str]]:
    clients = {
        name: await PdClient.open(_Through(address), [address], SystemClock()) for name, address in addresses.items()
    }
    rows: list[Result] = []
    notes = [
        f"{ROUNDS} alternating rounds, medians; the ratio column is the direct port's throughput over the shared one's"
    ]
    for callers in CALLERS:
        found: dict[str, list[Result]] = {name: [] for name in clients}
        count = max(2_000, operations if callers > 1 else operations // 10)
        for _ in range(ROUNDS):
            for name, client in clients.items():
                found[name].append(
                    await drive(NAMES[name], "tso", callers, count, lambda _n, c=client: c.timestamp(), [pid])  # type: ignore[misc]
                )
        direct, shared = _median(found["direct"]), _median(found["shared"])
        rows += [direct, shared]
        notes.append(
            f"{callers} callers, shared over direct: p50 {shared.p50_ms / direct.p50_ms - 1:+.0%}, "
            f"p99 {shared.p99_ms / direct.p99_ms - 1:+.0%}, throughput {shared.per_second / direct.per_second - 1:+.0%}"
        )
    for client in clients.values():
        await client.close()
    return rows, notes


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "bench.scenarios.port_front", os.path.join(directory, "pd")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                words = process.stdout.readline().split()
                while len(words) != 2:  # before it the log speaks
                    words = process.stdout.readline().split()
                addresses = dict(zip(("direct", "shared"), words, strict=True))
                return uvloop.run(_measure(addresses, process.pid, operations))
            finally:
                process.terminate()


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(sys.argv[1]))
