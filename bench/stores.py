"""The store processes of a playground: which one leads a region, what they cost, what their status pages and logs say.

Linux only: CPU and memory are read from /proc.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core_py.ports import methods_of
from core_py.runtime.grpc_transport import GrpcTransport
from protos.kvproto import eraftpb_pb2, metapb_pb2, tikvpb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tidb_py.testing.playground import PlaygroundCluster
from tikv_py.client.raw.client import RawClient
from tikv_py.client.region.regions import RAW_KEYS, Region

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])
READY_TIMEOUT_S = 60.0
_STAMP = re.compile(r"^\[(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d)\]")


@dataclass(frozen=True, slots=True)
class StoreProcess:
    """One running store."""

    id: int
    pid: int
    status: str
    """http://host:port of its status pages."""
    log_file: Path

    def page(self, path: str) -> dict[str, Any] | None:
        """A status page, or None where it answers with an error or not at all."""
        try:
            with urllib.request.urlopen(self.status + path, timeout=5) as answer:
                page: dict[str, Any] = json.load(answer)
        except (OSError, urllib.error.HTTPError):
            return None
        return page

    def logged_at(self, text: str) -> list[float]:
        """The wall-clock seconds of the log lines that hold `text`."""
        times = []
        for line in self.log_file.read_text(encoding="utf-8").splitlines():
            stamp = _STAMP.match(line) if text in line else None
            if stamp is not None:
                times.append(datetime.strptime(stamp[1], "%Y/%m/%d %H:%M:%S.%f %z").timestamp())
        return times


def stores_of(cluster: PlaygroundCluster) -> dict[int, StoreProcess]:
    """All stores of a playground by id."""
    names = [name for name in cluster.status if (Path(cluster.data_dir) / name / f"{name}.log").exists()]
    found = {}
    for name, pid in zip([name for name in names if "tikv" in name], cluster.pids["kv"], strict=True):
        status = cluster.status[name].removesuffix("/metrics")
        unknown = StoreProcess(0, pid, status, Path(cluster.data_dir) / name / f"{name}.log")
        page = unknown.page("/status")
        if page is None:
            raise TimeoutError(f"{name} does not answer on {status}")
        found[page["store_id"]] = StoreProcess(page["store_id"], pid, status, unknown.log_file)
    return found


async def region_of(client: RawClient, key: bytes, replicas: int = 3) -> Region:
    """The region of a key once PD knows it with that many voters; its leader is the one PD knows. Raises TimeoutError."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            info = await client.pd.get_region(key)
            if info is not None and info.leader is not None:
                voters = [peer for peer in info.region.peers if peer.role == metapb_pb2.Voter]
                if len(info.region.peers) == len(voters) == replicas and not info.pending_peers:
                    return Region.of(info.region, info.leader, RAW_KEYS)
            await asyncio.sleep(0.05)


def leader_first(stores: dict[int, StoreProcess], region: Region) -> list[StoreProcess]:
    """The stores of a region's peers, its leader's first."""
    ids = sorted(peer.store_id for peer in region.meta.peers if peer.store_id != region.leader.store_id)
    return [stores[store_id] for store_id in [region.leader.store_id, *ids]]


async def transfer_leader(pd_stores: dict[int, metapb_pb2.Store], region: Region, target: metapb_pb2.Peer) -> None:
    """Ask a region's leader to hand over, with the message that the transferee itself would send."""
    message = serverpb.RaftMessage(region_id=region.id, from_peer=target, to_peer=region.leader)
    message.region_epoch.CopyFrom(region.meta.region_epoch)
    message.message.msg_type = eraftpb_pb2.MsgTransferLeader
    message.message.to = region.leader.id
    setattr(message.message, "from", target.id)
    channel = GrpcTransport().connect(pd_stores[region.leader.store_id].address)
    try:
        stream = channel.stream(METHODS["Raft"])
        await stream.send(message)
        await stream.done_sending()
        await stream.receive()
    finally:
        await channel.close()


async def wait_for_leader(stores: dict[int, StoreProcess], region_id: int, store_id: int, seconds: float) -> bool:
    """Whether a store leads the region within the time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        page = await asyncio.to_thread(stores[store_id].page, f"/region/{region_id}")
        if page is not None and page["role"] == "leader":
            return True
        await asyncio.sleep(0.02)
    return False


def memory_mb(pid: int, kind: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no {kind}")


def pss_bytes(pid: int) -> int:
    """Memory of a process, shared pages counted by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")
