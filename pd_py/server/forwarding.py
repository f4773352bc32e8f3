"""Makes a call at another member for a client that cannot reach that one (`pd-forwarded-host`, wire facts 1.2).

Only members of this cluster are called: the header names a host, and PD is not a way into other networks. The answer of the other
member is given as it is, its refusals too. A call that was forwarded is not forwarded again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from core_py.errors import RpcError
from core_py.ports import CallContext, Channel, StatusError, StreamCall, methods_of
from core_py.runtime.tasks import TaskScope
from pd_py.metastore.members import Member, bare_address
from protos.kvproto import pdpb_pb2

HOST_KEY = "pd-forwarded-host"
METHODS = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])
TIMEOUT_S = 3.0


class Forwarder:
    """Calls other members. `channel` gives a connection to an address."""

    def __init__(
        self,
        own: Callable[[], Member | None],
        members: Callable[[], Sequence[Member]],
        channel: Callable[[str], Channel],
    ) -> None:
        self._own = own
        self._members = members
        self._channel = channel

    def target(self, context: CallContext) -> str | None:
        """The address to call instead of this member; None to answer here. Raises StatusError for a host that is no member."""
        host = context.metadata.get(HOST_KEY)
        if not host:
            return None
        address = bare_address(host)
        own = self._own()
        if own is not None and address in map(bare_address, own.client_urls):
            return None
        if all(address not in map(bare_address, member.client_urls) for member in self._members()):
            raise StatusError("INVALID_ARGUMENT", f"forwarded host {address} is no member of this cluster")
        return address

    async def unary(self, address: str, name: str, request: Any) -> Any:
        """Make a unary call there. Raises StatusError with the other member's status."""
        try:
            return await self._channel(address).unary(METHODS[name], request, timeout_s=TIMEOUT_S)
        except RpcError as error:
            raise StatusError(error.status, str(error)) from error

    async def stream(self, address: str, name: str, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Carry a stream there and back. Raises StatusError with the other member's status."""
        call = self._channel(address).stream(METHODS[name])
        scope = TaskScope("forwarded stream", on_failure=lambda _error: call.cancel())
        try:
            scope.spawn(_carry(requests, call))
            while (response := await call.receive()) is not None:
                yield response
        except RpcError as error:
            raise StatusError(error.status, str(error)) from error
        finally:
            call.cancel()
            await scope.close()


async def _carry(requests: AsyncIterator[Any], call: StreamCall) -> None:
    async for request in requests:
        try:
            await call.send(request)
        except RpcError:
            return  # the receiving side hears of it
    await call.done_sending()
