"""resource_manager.ResourceManager over the leader's `ResourceManager`.

Refusals end the call with UNKNOWN and the public text, as the public server's do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from core_py.errors import DbError
from core_py.ports import CallContext, Service, StatusError
from pd_py.metastore.errors import NotLeader, OutcomeUnknown, ProposalLost
from pd_py.resource.manager import ResourceGroupError, ResourceManager
from protos.kvproto import resource_manager_pb2 as pb

NULL_KEYSPACE = 0xFFFFFFFF
SUCCESS = "Success!"
MAX_REQUESTS = 4096


class ResourceService:
    """Handlers. `manager` gives the leader's state; it raises StatusError "not leader" at any other member."""

    def __init__(self, manager: Callable[[], ResourceManager]) -> None:
        self._manager = manager

    async def list(self, request: pb.ListResourceGroupsRequest, _context: CallContext) -> pb.ListResourceGroupsResponse:
        """All groups."""
        keyspace = _keyspace(request.keyspace_id)
        groups = self._manager().list(with_stats=request.with_ru_stats)
        for group in groups:
            group.keyspace_id.value = keyspace
        return pb.ListResourceGroupsResponse(groups=groups)

    async def get(self, request: pb.GetResourceGroupRequest, _context: CallContext) -> pb.GetResourceGroupResponse:
        """One group."""
        keyspace = _keyspace(request.keyspace_id)
        try:
            group = self._manager().get(request.resource_group_name, with_stats=request.with_ru_stats)
        except ResourceGroupError as error:
            raise _status(error) from error
        group.keyspace_id.value = keyspace
        return pb.GetResourceGroupResponse(group=group)

    async def add(self, request: pb.PutResourceGroupRequest, _context: CallContext) -> pb.PutResourceGroupResponse:
        """A new group."""
        _keyspace(request.group.keyspace_id)
        try:
            await self._manager().add(request.group)
        except DbError as error:
            raise _status(error) from error
        return pb.PutResourceGroupResponse(body=SUCCESS)

    async def modify(self, request: pb.PutResourceGroupRequest, _context: CallContext) -> pb.PutResourceGroupResponse:
        """Other settings for a group."""
        _keyspace(request.group.keyspace_id)
        try:
            await self._manager().modify(request.group)
        except DbError as error:
            raise _status(error) from error
        return pb.PutResourceGroupResponse(body=SUCCESS)

    async def delete(
        self, request: pb.DeleteResourceGroupRequest, _context: CallContext
    ) -> pb.DeleteResourceGroupResponse:
        """Remove a group."""
        _keyspace(request.keyspace_id)
        try:
            await self._manager().delete(request.resource_group_name)
        except DbError as error:
            raise _status(error) from error
        return pb.DeleteResourceGroupResponse(body=SUCCESS)

    async def acquire(
        self, requests: AsyncIterator[pb.TokenBucketsRequest], _context: CallContext
    ) -> AsyncIterator[pb.TokenBucketsResponse]:
        """Tokens; one response per request, without the groups that do not exist."""
        async for request in requests:
            if len(request.requests) > MAX_REQUESTS:
                raise StatusError("INVALID_ARGUMENT", "too many resource groups in one request")
            manager = self._manager()
            response = pb.TokenBucketsResponse()
            for item in request.requests:
                keyspace = _keyspace(item.keyspace_id)
                try:
                    granted = manager.acquire(item, request.client_unique_id, request.target_request_period_ms)
                except ResourceGroupError as error:
                    raise _status(error) from error
                if granted is not None:
                    granted.keyspace_id.value = keyspace
                    response.responses.append(granted)
            yield response


def _keyspace(wanted: pb.KeyspaceIDValue) -> int:
    """The keyspace that a request means. Raises StatusError for one that does not exist."""
    if wanted.HasField("keyspace_identity"):
        raise StatusError("UNKNOWN", "[PD:keyspace:ErrKeyspaceNotFound]keyspace does not exist")
    keyspace = wanted.value if wanted.HasField("value") else NULL_KEYSPACE
    if keyspace != 0 and keyspace < 1 << 24:
        raise StatusError(
            "UNKNOWN", f"[PD:resourcemanager:ErrKeyspaceNotExists]the keyspace does not exist with id {keyspace}"
        )
    return keyspace


def _status(error: DbError) -> DbError:
    if isinstance(error, NotLeader | ProposalLost | OutcomeUnknown):
        return StatusError("UNAVAILABLE", error.message)
    if isinstance(error, ResourceGroupError):
        return StatusError("UNKNOWN", error.message)
    return error


def service(manager: Callable[[], ResourceManager]) -> Service:
    """The service for a transport."""
    resources = ResourceService(manager)
    return Service(
        pb.DESCRIPTOR.services_by_name["ResourceManager"],
        {
            "ListResourceGroups": resources.list,
            "GetResourceGroup": resources.get,
            "AddResourceGroup": resources.add,
            "ModifyResourceGroup": resources.modify,
            "DeleteResourceGroup": resources.delete,
            "AcquireTokenBuckets": resources.acquire,
        },
    )
