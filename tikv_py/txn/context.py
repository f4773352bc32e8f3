"""Which peer a request meant, and whether it may be answered here: the checks before every command.

Order of checks as in TiKV: store, region, peer, epoch, term. A read needs a barrier: the leader's lease, or an index confirmed by a
quorum and applied here. After every wait the checks are made again, because a region may have split or moved meanwhile. A stale
read at a timestamp needs none: below its safe ts a replica's data is complete (docs/architecture/reads.md).

A reader that names its timestamp is refused below the store's GC safe point, because versions it needs may be gone; a region in
flashback is open only to that flashback, and to reads of what was before it.
"""

from __future__ import annotations

import asyncio

from core_py.region_errors import (
    DataIsNotReady,
    EpochNotMatch,
    MaxTimestampNotSynced,
    MismatchPeerId,
    ProposalInMergingMode,
    ReadIndexNotReady,
    RegionError,
    RegionNotInitialized,
    StaleCommand,
    StoreNotMatch,
)
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.gc.errors import GcTooEarly
from tikv_py.mvcc.errors import KeyIsLocked, MaxTsRefused
from tikv_py.mvcc.lock import Lock
from tikv_py.raftstore import flashback
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.read_context import ReadQuestion
from tikv_py.raftstore.region import same_epoch
from tikv_py.raftstore.store import Store
from tikv_py.txn.concurrency import ConcurrencyManager
from tikv_py.txn.deadline import Deadline

READ_INDEX_TIMEOUT_S = 2.0
SUCCESSORS_MAX = 64
API_V3 = 3


class RegionAccess:
    """Finds the peer for a request's context and brings it to a state that may be read."""

    def __init__(self, store: Store, concurrency: ConcurrencyManager | None = None) -> None:
        self.store = store
        self.concurrency = ConcurrencyManager(store.clock) if concurrency is None else concurrency
        self._fail = store.fail
        store.before_replica_read = self._before_replica_read

    def _before_replica_read(self, question: ReadQuestion) -> tuple[bytes, Lock] | None:
        try:
            self.concurrency.read_at(question.read_ts)
            self.concurrency.check_range(question.start, question.end, question.read_ts)
        except KeyIsLocked as error:
            return error.user_key, error.lock
        except MaxTsRefused as error:
            get_logger().warn("a replica asked for a read in the future", error=str(error))
        return None

    def check(self, context: kvrpcpb_pb2.Context) -> Peer:
        """The peer the context names. Raises region errors; leadership is not asked for."""
        if context.api_version == API_V3:
            raise RegionError("API V3 is not supported by this TiKV build")
        if context.peer.store_id and context.peer.store_id != self.store.store_id:
            raise StoreNotMatch(context.peer.store_id, self.store.store_id)
        peer = self.store.find(context.region_id)
        if not peer.storage.is_initialized:
            raise RegionNotInitialized(context.region_id)
        if peer.snapshot is not None:
            raise ReadIndexNotReady(context.region_id, "a snapshot is being brought in")
        if peer.storage.merge is not None:
            raise ProposalInMergingMode(context.region_id)
        if context.peer.id and context.peer.id != peer.peer_id:
            raise MismatchPeerId(context.peer.id, peer.peer_id)
        epoch, current = context.region_epoch, peer.region.region_epoch
        if epoch.version != current.version or epoch.conf_ver > current.conf_ver:
            raise EpochNotMatch(
                f"region {peer.region.id} is at epoch {current.conf_ver},{current.version},"
                f" the request is of {epoch.conf_ver},{epoch.version}",
                self._successors(peer, epoch.version),
            )
        if context.term and context.term + 1 < peer.node.term:
            raise StaleCommand(context.region_id)
        return peer

    def _successors(self, peer: Peer, version: int) -> tuple[metapb_pb2.Region, ...]:
        """The region and its neighbours on this store that a split since `version` made, so that the client learns all parts.

        A split into n + 1 parts raises the version of all of them by n.
        """
        current = peer.region.region_epoch.version
        siblings = [region for region in self.store.regions() if region.region_epoch.version == current]
        by_end = {region.end_key: region for region in siblings if region.end_key}
        by_start = {region.start_key: region for region in siblings}
        parts = [peer.region]
        for _ in range(min(current - version, SUCCESSORS_MAX)):
            left, right = by_end.get(parts[0].start_key), by_start.get(parts[-1].end_key)
            if left is not None:
                parts.insert(0, left)
            if right is not None and parts[-1].end_key:
                parts.append(right)
        return tuple(parts)

    def lease_peer(self, context: kvrpcpb_pb2.Context, read_ts: int | None = None) -> Peer | None:
        """The peer when it can be read at once; None when a barrier is needed. Raises region errors.

        A reader that names its timestamp may be let in for a stale read, which `context` asks for; it must not look at locks then.
        """
        peer = self.check(context)
        self._check_timestamp(peer, read_ts)
        if context.stale_read and read_ts is not None:
            safe_ts = peer.safe_ts()
            if read_ts > safe_ts:
                raise DataIsNotReady(context.region_id, peer.peer_id, safe_ts)
            return peer
        if read_ts is not None:
            try:
                self.concurrency.read_at(read_ts)
            except MaxTsRefused as error:
                get_logger().warn("a read in the future is put off", region=peer.region.id, error=str(error))
                raise MaxTimestampNotSynced(context.region_id) from error
        self.store.catch_up()
        lease_ignored = self._fail.armed and self._fail.hit("lease_read") is not None
        if peer.can_read_locally() and not lease_ignored:
            peer.used = True
            return peer
        if not peer.is_leader and not context.replica_read:
            raise peer.not_leader()
        return None

    async def readable(
        self, context: kvrpcpb_pb2.Context, read_ts: int | None = None, bounds: tuple[bytes, bytes] | None = None
    ) -> Peer:
        """The peer, in a state at least as new as when this was called (see `lease_peer` for stale reads).

        `bounds` are the data keys that a read at `read_ts` is about (None = the whole region); a replica tells them to its leader.
        Raises region errors, KeyIsLocked.
        """
        peer = self.lease_peer(context, read_ts)
        if peer is not None:
            return peer
        deadline = Deadline(context, self.store.clock)
        if self._fail.armed and (reason := await self._fail.reach("read_index_wait")) is not None:
            raise ReadIndexNotReady(context.region_id, f"failpoint: {reason}")
        peer = self.check(context)
        epoch = peer.region.region_epoch
        question = None
        if read_ts is not None:
            question = ReadQuestion(read_ts, *(bounds or data_range(peer.region.start_key, peer.region.end_key)))
        future = peer.read_barrier(question)
        self.store.activate(peer.region.id)
        try:
            async with asyncio.timeout(READ_INDEX_TIMEOUT_S):
                await future
        except TimeoutError:
            raise ReadIndexNotReady(
                context.region_id, f"no quorum confirmed it within {READ_INDEX_TIMEOUT_S} s"
            ) from None
        deadline.check()
        peer = self.check(context)
        if not same_epoch(epoch, peer.region.region_epoch):
            raise EpochNotMatch(f"region {peer.region.id} changed while the read waited", (peer.region,))
        self._check_timestamp(peer, read_ts)
        return peer

    def _check_timestamp(self, peer: Peer, read_ts: int | None) -> None:
        """Whether the peer may be read at `read_ts`, None for its newest state. Raises GcTooEarly, FlashbackInProgress."""
        if read_ts is not None and read_ts < self.store.gc_safe_point:
            raise GcTooEarly(read_ts, self.store.gc_safe_point)
        if peer.region.is_in_flashback:
            flashback.check_read(peer.region, read_ts)

    def leader(self, context: kvrpcpb_pb2.Context) -> Peer:
        """The peer, which must lead. Raises region errors."""
        peer = self.check(context)
        if not peer.is_leader:
            raise peer.not_leader()
        return peer
