"""What a store answers about leaders and safe timestamps: CheckLeader, GetStoreSafeTS, GetRegionReadProgress.

Answers come from memory and wake no sleeping peer. A peer agrees to a leader when it is in that leader's very term and knows
it as leader: having been asked, it was in no later term before, which is all that the asker concludes.
"""

from __future__ import annotations

from protos.kvproto import debugpb_pb2, kvrpcpb_pb2
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.store import Store
from tikv_py.resolved_ts.progress import Claim


class SafeTsService:
    """Handlers over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check_leader(self, request: kvrpcpb_pb2.CheckLeaderRequest) -> kvrpcpb_pb2.CheckLeaderResponse:
        """Which of these leaders are followed here; takes in what they have published."""
        peers = self._store.peers
        agreed = []
        for info in request.regions:
            region_id = info.region_id
            peer = peers.get(region_id)
            if peer is None:
                continue
            node = peer.node
            if node.term == info.term and node.leader_id == info.peer_id:
                agreed.append(region_id)
            state = info.read_state
            if state.safe_ts and info.region_epoch.version == peer.region.region_epoch.version:
                peer.read_progress.offer(Claim(state.applied_index, state.safe_ts))
        return kvrpcpb_pb2.CheckLeaderResponse(regions=agreed, ts=request.ts)

    async def store_safe_ts(self, request: kvrpcpb_pb2.StoreSafeTSRequest) -> kvrpcpb_pb2.StoreSafeTSResponse:
        """The least safe timestamp of the replicas here that overlap the range of (encoded) keys; 0 when there are none."""
        low, high = data_range(request.key_range.start_key, request.key_range.end_key)
        least: int | None = None
        for peer in self._store.peers.values():
            if not peer.storage.is_initialized:
                continue
            start, end = data_range(peer.region.start_key, peer.region.end_key)
            if start < high and low < end:
                safe_ts = peer.safe_ts()
                least = safe_ts if least is None else min(least, safe_ts)
        return kvrpcpb_pb2.StoreSafeTSResponse(safe_ts=least or 0)

    async def region_read_progress(
        self, request: debugpb_pb2.GetRegionReadProgressRequest
    ) -> debugpb_pb2.GetRegionReadProgressResponse:
        """debugpb: why a replica is as far as it is."""
        peer = self._store.peers.get(request.region_id)
        if peer is None:
            return debugpb_pb2.GetRegionReadProgressResponse()
        progress, resolver = peer.read_progress, peer.applier.locks
        answer = debugpb_pb2.GetRegionReadProgressResponse(
            safe_ts=peer.safe_ts(),
            applied_index=peer.storage.apply_state.applied_index,
            region_read_progress_exist=True,
            region_read_progress_paused=peer.snapshot is not None or peer.storage.merge is not None,
            read_state_ts=progress.reached.ts,
            read_state_apply_index=progress.reached.applied_index,
            resolver_exist=resolver is not None,
        )
        if progress.front is not None:
            answer.pending_front_applied_index, answer.pending_front_ts = progress.front
        if progress.back is not None:
            answer.pending_back_applied_index, answer.pending_back_ts = progress.back
        if resolver is not None:
            answer.resolver_stopped = not resolver.is_current()
            answer.num_locks, answer.num_transactions = resolver.held()
            answer.resolver_tracked_index = peer.storage.apply_state.applied_index
            if not answer.resolver_stopped:
                answer.resolved_ts = resolver.resolve(progress.reached.ts)
        return answer
