"""pdpb.PD's calls about garbage collection: safe points, barriers, and the older interfaces to them.

The rules are in `pd_py.gc`; here requests and responses are translated. Refusals go into the header under their public names, for
which clients look in the text.
"""

from __future__ import annotations

from typing import Any

from core_py.ports import Handler
from pd_py.gc.manager import NULL_KEYSPACE, GcManager, KeyspaceGcState
from pd_py.gc.rules import Barrier
from pd_py.server.calls import Calls
from protos.kvproto import pdpb_pb2

_KEYSPACES = 1 << 24


def _scope(request: Any) -> int:
    """The keyspace a request means: none given, or one out of range, is the null keyspace."""
    scope = request.keyspace_scope
    given = scope.WhichOneof("keyspace") == "keyspace_id" and scope.keyspace_id < _KEYSPACES
    return int(scope.keyspace_id) if given else NULL_KEYSPACE


class GcCalls:
    """Handlers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def _gc(self) -> GcManager:
        session = self._calls.session
        session.cluster.require_bootstrap()
        return session.gc

    def handlers(self) -> dict[str, Handler]:
        """By method name."""
        return self._calls.serve(
            {
                "GetGCSafePoint": self.get_gc_safe_point,
                "UpdateGCSafePoint": self.update_gc_safe_point,
                "UpdateServiceGCSafePoint": self.update_service_gc_safe_point,
                "GetGCSafePointV2": self.get_gc_safe_point_v2,
                "UpdateGCSafePointV2": self.update_gc_safe_point_v2,
                "UpdateServiceSafePointV2": self.update_service_safe_point_v2,
                "GetAllGCSafePointV2": self.get_all_gc_safe_point_v2,
                "AdvanceGCSafePoint": self.advance_gc_safe_point,
                "AdvanceTxnSafePoint": self.advance_txn_safe_point,
                "SetGCBarrier": self.set_gc_barrier,
                "DeleteGCBarrier": self.delete_gc_barrier,
                "SetGlobalGCBarrier": self.set_global_gc_barrier,
                "DeleteGlobalGCBarrier": self.delete_global_gc_barrier,
                "GetGCState": self.get_gc_state,
                "GetAllKeyspacesGCStates": self.get_all_keyspaces_gc_states,
            }
        )

    # ---- today's interface ----

    async def advance_gc_safe_point(
        self, request: pdpb_pb2.AdvanceGCSafePointRequest
    ) -> pdpb_pb2.AdvanceGCSafePointResponse:
        """Below it, old versions may be deleted."""
        old, new = await self._gc.advance_gc_safe_point(_scope(request), request.target)
        return pdpb_pb2.AdvanceGCSafePointResponse(old_gc_safe_point=old, new_gc_safe_point=new)

    async def advance_txn_safe_point(
        self, request: pdpb_pb2.AdvanceTxnSafePointRequest
    ) -> pdpb_pb2.AdvanceTxnSafePointResponse:
        """Below it, nobody reads any more."""
        advance = await self._gc.advance_txn_safe_point(_scope(request), request.target)
        return pdpb_pb2.AdvanceTxnSafePointResponse(
            old_txn_safe_point=advance.old, new_txn_safe_point=advance.new, blocker_description=advance.blocker
        )

    async def set_gc_barrier(self, request: pdpb_pb2.SetGCBarrierRequest) -> pdpb_pb2.SetGCBarrierResponse:
        """Hold the txn safe point back."""
        barrier = await self._gc.set_gc_barrier(
            _scope(request), request.barrier_id, request.barrier_ts, request.ttl_seconds
        )
        return pdpb_pb2.SetGCBarrierResponse(new_barrier_info=self._barrier(barrier))

    async def delete_gc_barrier(self, request: pdpb_pb2.DeleteGCBarrierRequest) -> pdpb_pb2.DeleteGCBarrierResponse:
        """Hold it no longer."""
        barrier = await self._gc.delete_gc_barrier(_scope(request), request.barrier_id)
        deleted = None if barrier is None else self._barrier(barrier)
        return pdpb_pb2.DeleteGCBarrierResponse(deleted_barrier_info=deleted)

    async def set_global_gc_barrier(
        self, request: pdpb_pb2.SetGlobalGCBarrierRequest
    ) -> pdpb_pb2.SetGlobalGCBarrierResponse:
        """Hold the txn safe points of all keyspaces back."""
        barrier = await self._gc.set_global_gc_barrier(request.barrier_id, request.barrier_ts, request.ttl_seconds)
        return pdpb_pb2.SetGlobalGCBarrierResponse(new_barrier_info=self._global(barrier))

    async def delete_global_gc_barrier(
        self, request: pdpb_pb2.DeleteGlobalGCBarrierRequest
    ) -> pdpb_pb2.DeleteGlobalGCBarrierResponse:
        """Hold them no longer."""
        barrier = await self._gc.delete_global_gc_barrier(request.barrier_id)
        deleted = None if barrier is None else self._global(barrier)
        return pdpb_pb2.DeleteGlobalGCBarrierResponse(deleted_barrier_info=deleted)

    async def get_gc_state(self, request: pdpb_pb2.GetGCStateRequest) -> pdpb_pb2.GetGCStateResponse:
        """Everything about one keyspace."""
        state, barriers = self._gc.get_gc_state(_scope(request), exclude_barriers=request.exclude_gc_barriers)
        response = pdpb_pb2.GetGCStateResponse(gc_state=self._state(state))
        if request.include_global_gc_barriers:
            response.global_gc_barriers.barriers.extend(self._global(barrier) for barrier in barriers)
        return response

    async def get_all_keyspaces_gc_states(
        self, request: pdpb_pb2.GetAllKeyspacesGCStatesRequest
    ) -> pdpb_pb2.GetAllKeyspacesGCStatesResponse:
        """Everything about all."""
        states, barriers = self._gc.get_all_keyspaces_gc_states(exclude_barriers=request.exclude_gc_barriers)
        response = pdpb_pb2.GetAllKeyspacesGCStatesResponse(gc_states=map(self._state, states))
        if not request.exclude_global_gc_barriers:
            response.global_gc_barriers.extend(self._global(barrier) for barrier in barriers)
        return response

    def _barrier(self, barrier: Barrier) -> pdpb_pb2.GCBarrierInfo:
        return pdpb_pb2.GCBarrierInfo(
            barrier_id=barrier.barrier_id, barrier_ts=barrier.barrier_ts, ttl_seconds=barrier.ttl_s(self._gc.now_ms())
        )

    def _global(self, barrier: Barrier) -> pdpb_pb2.GlobalGCBarrierInfo:
        return pdpb_pb2.GlobalGCBarrierInfo(
            barrier_id=barrier.barrier_id, barrier_ts=barrier.barrier_ts, ttl_seconds=barrier.ttl_s(self._gc.now_ms())
        )

    def _state(self, state: KeyspaceGcState) -> pdpb_pb2.GCState:
        return pdpb_pb2.GCState(
            keyspace_scope=pdpb_pb2.KeyspaceScope(keyspace_id=state.keyspace_id),
            is_keyspace_level_gc=state.is_keyspace_level,
            txn_safe_point=state.txn_safe_point,
            gc_safe_point=state.gc_safe_point,
            gc_barriers=map(self._barrier, state.barriers),
        )

    # ---- older interfaces ----

    async def get_gc_safe_point(self, _request: pdpb_pb2.GetGCSafePointRequest) -> pdpb_pb2.GetGCSafePointResponse:
        """The timestamp below which old versions may go."""
        return pdpb_pb2.GetGCSafePointResponse(safe_point=self._gc.get_gc_safe_point())

    async def update_gc_safe_point(
        self, request: pdpb_pb2.UpdateGCSafePointRequest
    ) -> pdpb_pb2.UpdateGCSafePointResponse:
        """Advance it; a smaller target returns the present value."""
        return pdpb_pb2.UpdateGCSafePointResponse(
            new_safe_point=await self._gc.update_gc_safe_point(request.safe_point)
        )

    async def update_service_gc_safe_point(
        self, request: pdpb_pb2.UpdateServiceGCSafePointRequest
    ) -> pdpb_pb2.UpdateServiceGCSafePointResponse:
        """A service's hold, by its name."""
        lowest = await self._gc.update_service_gc_safe_point(
            request.service_id.decode("utf-8", "replace"), request.safe_point, request.TTL
        )
        return pdpb_pb2.UpdateServiceGCSafePointResponse(
            service_id=lowest.service_id.encode(), TTL=lowest.ttl_s, min_safe_point=lowest.safe_point
        )

    async def get_gc_safe_point_v2(
        self, request: pdpb_pb2.GetGCSafePointV2Request
    ) -> pdpb_pb2.GetGCSafePointV2Response:
        """As `get_gc_safe_point`, of a keyspace."""
        return pdpb_pb2.GetGCSafePointV2Response(safe_point=self._gc.get_gc_safe_point(request.keyspace_id))

    async def update_gc_safe_point_v2(
        self, request: pdpb_pb2.UpdateGCSafePointV2Request
    ) -> pdpb_pb2.UpdateGCSafePointV2Response:
        """As `update_gc_safe_point`, of a keyspace."""
        new = await self._gc.update_gc_safe_point(request.safe_point, request.keyspace_id)
        return pdpb_pb2.UpdateGCSafePointV2Response(new_safe_point=new)

    async def update_service_safe_point_v2(
        self, request: pdpb_pb2.UpdateServiceSafePointV2Request
    ) -> pdpb_pb2.UpdateServiceSafePointV2Response:
        """As `update_service_gc_safe_point`, of a keyspace."""
        lowest = await self._gc.update_service_gc_safe_point(
            request.service_id.decode("utf-8", "replace"), request.safe_point, request.ttl, request.keyspace_id
        )
        return pdpb_pb2.UpdateServiceSafePointV2Response(
            service_id=lowest.service_id.encode(), ttl=lowest.ttl_s, min_safe_point=lowest.safe_point
        )

    async def get_all_gc_safe_point_v2(
        self, _request: pdpb_pb2.GetAllGCSafePointV2Request
    ) -> pdpb_pb2.GetAllGCSafePointV2Response:
        """Keyspaces with a garbage collection of their own: there are none."""
        return pdpb_pb2.GetAllGCSafePointV2Response()
