"""keyspacepb.Keyspace: the DEFAULT keyspace, which is always there and always enabled. Others cannot be made.

Clients of API V1 never call this; clients of V2 ask for their keyspace by name and get DEFAULT or a clear refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from core_py.ports import CallContext, Service, StatusError
from protos.kvproto import keyspacepb_pb2 as pb
from protos.kvproto import pdpb_pb2

DEFAULT_ID = 0
DEFAULT_NAME = "DEFAULT"
NOT_FOUND = "[PD:keyspace:ErrKeyspaceNotFound]keyspace does not exist"
CANNOT_MODIFY = "[PD:keyspace:ErrModifyDefaultKeyspace]cannot modify default keyspace's state"


class KeyspaceService:
    """Handlers. `cluster_id` is that of the cluster of stores; it raises StatusError where nothing may be answered."""

    def __init__(self, cluster_id: Callable[[], int]) -> None:
        self._cluster_id = cluster_id

    async def load(self, request: pb.LoadKeyspaceRequest, _context: CallContext) -> pb.LoadKeyspaceResponse:
        """A keyspace by name."""
        return self._one(request, known=request.name == DEFAULT_NAME)

    async def load_by_id(self, request: pb.LoadKeyspaceByIDRequest, _context: CallContext) -> pb.LoadKeyspaceResponse:
        """A keyspace by id."""
        known = not request.HasField("keyspace_identity") and request.id == DEFAULT_ID
        return self._one(request, known=known)

    def _one(self, request: Any, *, known: bool) -> pb.LoadKeyspaceResponse:
        header = self._header(request)
        if not known:
            return pb.LoadKeyspaceResponse(header=_refusal(header, pdpb_pb2.ENTRY_NOT_FOUND, NOT_FOUND))
        return pb.LoadKeyspaceResponse(header=header, keyspace=default_keyspace())

    async def lookup(self, request: pb.LookupKeyspaceRequest, _context: CallContext) -> pb.LookupKeyspaceResponse:
        """All keyspaces of a name."""
        header = self._header(request)
        if request.name != DEFAULT_NAME:
            return pb.LookupKeyspaceResponse(header=_refusal(header, pdpb_pb2.ENTRY_NOT_FOUND, NOT_FOUND))
        return pb.LookupKeyspaceResponse(header=header, keyspaces=[default_keyspace()])

    async def get_all(self, request: pb.GetAllKeyspacesRequest, _context: CallContext) -> pb.GetAllKeyspacesResponse:
        """Keyspaces from an id on."""
        header = self._header(request)
        keyspaces = [default_keyspace()] if request.start_id <= DEFAULT_ID else []
        return pb.GetAllKeyspacesResponse(header=header, keyspaces=keyspaces)

    async def update_state(
        self, request: pb.UpdateKeyspaceStateRequest, _context: CallContext
    ) -> pb.UpdateKeyspaceStateResponse:
        """Refused: DEFAULT stays as it is."""
        header = self._header(request)
        if request.HasField("keyspace_identity") or request.id != DEFAULT_ID:
            return pb.UpdateKeyspaceStateResponse(header=_refusal(header, pdpb_pb2.ENTRY_NOT_FOUND, NOT_FOUND))
        return pb.UpdateKeyspaceStateResponse(header=_refusal(header, pdpb_pb2.UNKNOWN, CANNOT_MODIFY))

    async def watch(
        self, request: pb.WatchKeyspacesRequest, _context: CallContext
    ) -> AsyncIterator[pb.WatchKeyspacesResponse]:
        """All keyspaces first; there is never a change."""
        yield pb.WatchKeyspacesResponse(header=self._header(request), keyspaces=[default_keyspace()])
        await asyncio.Event().wait()  # until the caller goes away

    def _header(self, request: Any) -> pdpb_pb2.ResponseHeader:
        """Raises StatusError for a caller of another cluster."""
        cluster_id = self._cluster_id()
        if request.header.cluster_id != cluster_id:
            raise StatusError(
                "FAILED_PRECONDITION", f"mismatch cluster id, need {cluster_id} but got {request.header.cluster_id}"
            )
        return pdpb_pb2.ResponseHeader(cluster_id=cluster_id)


def default_keyspace() -> pb.KeyspaceMeta:
    """What clients are told."""
    return pb.KeyspaceMeta(
        id=DEFAULT_ID, name=DEFAULT_NAME, state=pb.ENABLED, config={"tso_keyspace_group_id": "0", "user_kind": "basic"}
    )


def _refusal(header: pdpb_pb2.ResponseHeader, kind: pdpb_pb2.ErrorType, text: str) -> pdpb_pb2.ResponseHeader:
    header.error.type, header.error.message = kind, text
    return header


def service(cluster_id: Callable[[], int]) -> Service:
    """The service for a transport."""
    keyspaces = KeyspaceService(cluster_id)
    return Service(
        pb.DESCRIPTOR.services_by_name["Keyspace"],
        {
            "LoadKeyspace": keyspaces.load,
            "LookupKeyspace": keyspaces.lookup,
            "LoadKeyspaceByID": keyspaces.load_by_id,
            "WatchKeyspaces": keyspaces.watch,
            "UpdateKeyspaceState": keyspaces.update_state,
            "GetAllKeyspaces": keyspaces.get_all,
        },
    )
