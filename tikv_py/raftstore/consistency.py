"""The consistency check: whether all replicas of a region hold the same data.

The leader proposes ComputeHash. Every replica that applies it freezes its data right there, at that index of the log, and computes
a checksum over it in a worker thread. When the leader has its own, it proposes VerifyHash with the index and the checksum;
a replica whose checksum for that index is another one holds data that nobody can trust, and stops its process: going on
would spread it. A replica that has no checksum for the index (it was restarted meanwhile) says nothing.

Invariants: the view holds every entry up to the index and none behind it; nothing but the region's description and its data
goes into the checksum, and that in a form that is the same everywhere. One check per region and `CHECKS_MAX` per store run
at once; a check that finds no room is left out on that replica. Does not repair.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from core_py.errors import invariant
from core_py.raft.errors import RaftError
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from tikv_py.engine.port import DATA_CFS, Pair, Range
from tikv_py.raftstore import commands, keys
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.peer import Peer

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

CHECKS_MAX = 4
SLICE_PAIRS = 2048


@dataclass(slots=True)
class _Check:
    """What is known of a region's newest check."""

    index: int
    own: bytes | None = None
    """This replica's checksum at `index`, once it is computed."""
    expected: bytes | None = None
    """The leader's, once it has come."""


async def start_check(store: Store, region_id: int) -> None:
    """Propose a check on the leader; returns when it has begun here. Raises region errors."""
    request = cmdpb.AdminRequest(cmd_type=cmdpb.ComputeHash, compute_hash=cmdpb.ComputeHashRequest())

    def propose(peer: Peer) -> asyncio.Future[Applied]:
        return peer.propose_admin(commands.admin_command(peer.region, request).SerializeToString())

    await store.admin(region_id, propose)


class ConsistencyChecks:
    """The checks of one store's replicas. Called by the store loop as entries are applied."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checks: dict[int, _Check] = {}
        self._running: set[int] = set()
        self.passed = 0
        """Comparisons that found the same data."""

    def on_compute_hash(self, peer: Peer, index: int) -> None:
        """ComputeHash was applied at `index`; the kv database holds exactly the region's state there."""
        region = peer.region
        if region.id in self._running or len(self._running) >= CHECKS_MAX:
            get_logger().info("consistency check left out", region=region.id, index=index)
            return
        check = self._checks[region.id] = _Check(index)
        start, end = keys.data_range(region.start_key, region.end_key)
        view = self._store.kv_db.snapshot([Range(cf, start, end) for cf in DATA_CFS])
        self._running.add(region.id)
        description = describe(region)

        async def compute() -> None:
            try:
                checksum = zlib.crc32(description)
                for family, stream in enumerate(view.streams):
                    checksum = zlib.crc32(bytes((family,)), checksum)
                    more = True
                    while more:
                        checksum, more = await self._store.workers.run(_add_slice, checksum, stream)
            finally:
                view.release()
                self._running.discard(region.id)
            check.own = checksum.to_bytes(4, "big")
            self._computed(peer, check)

        self._store.scope.spawn(compute(), name=f"consistency check of region {region.id}")

    def on_verify_hash(self, peer: Peer, index: int, expected: bytes) -> None:
        """VerifyHash was applied. Raises InvariantViolation when this replica's checksum at `index` is another one."""
        check = self._checks.get(peer.region.id)
        if check is None or check.index != index:
            get_logger().info("consistency check has nothing to compare", region=peer.region.id, index=index)
            return
        check.expected = expected
        if check.own is not None:
            self._compare(peer.region.id, check)

    def forget(self, region_id: int) -> None:
        """The region's peer is gone."""
        self._checks.pop(region_id, None)

    def _computed(self, peer: Peer, check: _Check) -> None:
        if peer.destroyed or self._checks.get(peer.region.id) is not check:
            return
        if check.expected is not None:
            self._compare(peer.region.id, check)
        elif peer.is_leader and check.own is not None:
            self._propose_verification(peer, check.index, check.own)

    def _propose_verification(self, peer: Peer, index: int, checksum: bytes) -> None:
        request = cmdpb.AdminRequest(
            cmd_type=cmdpb.VerifyHash, verify_hash=cmdpb.VerifyHashRequest(index=index, hash=checksum)
        )
        try:
            peer.node.propose(commands.admin_command(peer.region, request).SerializeToString())
        except RaftError as error:  # leadership moves; somebody may ask again
            get_logger().info("consistency check given up", region=peer.region.id, index=index, error=str(error))
            return
        self._store.activate(peer.region.id)

    def _compare(self, region_id: int, check: _Check) -> None:
        own, expected = check.own or b"", check.expected or b""
        invariant(
            own == expected,
            f"region {region_id}: data differs from the leader's at index {check.index}: checksum {own.hex()} here,"
            f" {expected.hex()} there; take this store out of service and let its replicas be made anew from the others",
        )
        self.passed += 1
        get_logger().info("consistency check passed", region=region_id, index=check.index, checksum=own.hex())
        self._checks.pop(region_id, None)


def describe(region: metapb_pb2.Region) -> bytes:
    """A region in a form that does not depend on the order of its peers or on who encoded it."""
    epoch = region.region_epoch
    peers = ",".join(
        f"{peer.id}/{peer.store_id}/{peer.role}" for peer in sorted(region.peers, key=lambda peer: peer.id)
    )
    head = f"{region.id} {epoch.conf_ver} {epoch.version} {region.start_key.hex()} {region.end_key.hex()} {peers}"
    return head.encode()


def _add_slice(checksum: int, stream: Iterator[Pair]) -> tuple[int, bool]:
    """The checksum with the next pairs, and whether there were any."""
    parts: list[bytes] = []
    for key, value in islice(stream, SLICE_PAIRS):
        parts += [len(key).to_bytes(4, "big"), key, len(value).to_bytes(4, "big"), value]
    return zlib.crc32(b"".join(parts), checksum), bool(parts)
