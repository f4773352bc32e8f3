"""What every call of pdpb.PD goes through: forwarding, leadership, the cluster's id, and how refusals look (wire facts 2.1).

    pd-forwarded-host names another member    the call is made there, and its answer given
    this member does not lead                 UNAVAILABLE "not leader", unless followers may answer and the caller allows it
    another cluster's id                      FAILED_PRECONDITION "mismatch cluster id, need ... but got ..."
    a refusal that clients understand         OK, with the error in the response's header
    NotLeader, ProposalLost, OutcomeUnknown   UNAVAILABLE: clients ask the other members, or again

On success a header carries no error at all, because clients take any error message, even one that says OK, for a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from core_py.errors import DbError, NotBootstrapped, PdError
from core_py.ports import CallContext, Clock, Handler, StatusError
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import AlreadyBootstrapped
from pd_py.cluster.queries import RegionNotFound, RegionsNotContainAllKeyRange
from pd_py.cluster.stores import StoreTombstone
from pd_py.metastore.errors import NotLeader, OutcomeUnknown, ProposalLost
from pd_py.server.directory import MemberDirectory
from pd_py.server.forwarding import Forwarder
from pd_py.server.metrics import PdMetrics
from pd_py.server.session import LeaderSession
from protos.kvproto import pdpb_pb2

FOLLOWER_KEY = "pd-allow-follower-handle"


class NoOperator(PdError):
    """Nothing is, or lately was, under way for the region."""

    code = "PD:Operator:NotFound"


NOT_LEADER = "not leader"

Unary = Callable[[Any], Awaitable[Any]]
Check = Callable[[Any, CallContext], None]


class Calls:
    """The way into a member for calls of pdpb.PD."""

    def __init__(self, members: MemberDirectory, forwarder: Forwarder, metrics: PdMetrics, clock: Clock) -> None:
        self.members = members
        self.metrics = metrics
        self._forwarder = forwarder
        self._clock = clock
        self._running = TaskScope("pd calls", on_failure=lambda _error: None)  # the caller gets it as a status

    async def close(self) -> None:
        """End the calls that still run."""
        await self._running.close()

    @property
    def session(self) -> LeaderSession:
        """What the leader has. Raises StatusError: clients look for this text and ask the other members."""
        session = self.members.session
        if session is None or not session.store.is_valid:
            raise StatusError("UNAVAILABLE", NOT_LEADER)
        return session

    def check_cluster(self, cluster_id: int) -> None:
        """Raise StatusError for another cluster's id."""
        own = self.members.cluster_id
        if cluster_id != own:
            raise StatusError("FAILED_PRECONDITION", f"mismatch cluster id, need {own} but got {cluster_id}")

    def serve(self, handlers: Mapping[str, Unary], *, anywhere: bool = False) -> dict[str, Handler]:
        """Handlers as a service takes them; `anywhere` for calls that every member answers without looking at the header."""
        check = _nothing if anywhere else self._require_leader
        return {name: self._unary(name, handler, check) for name, handler in handlers.items()}

    def serve_reads(self, name: str, handler: Unary) -> Handler:
        """A call that a follower may answer from its copy of the regions when the caller allows it."""

        def check(request: Any, context: CallContext) -> None:
            self.require_reader(context)
            self.check_cluster(request.header.cluster_id)

        return self._unary(name, handler, check)

    def require_reader(self, context: CallContext) -> None:
        """Raise StatusError unless this member leads, or follows with a whole copy and the caller takes that."""
        if context.metadata.get(FOLLOWER_KEY) is None or not self.members.follows():
            _ = self.session

    def _require_leader(self, request: Any, _context: CallContext) -> None:
        _ = self.session
        self.check_cluster(request.header.cluster_id)

    def _unary(self, name: str, handler: Unary, check: Check) -> Handler:
        response_type = pdpb_pb2.DESCRIPTOR.services_by_name["PD"].methods_by_name[name].output_type
        make = getattr(pdpb_pb2, response_type.name)
        counter = self.metrics.requests.labels(name)
        duration = self.metrics.handling.labels(name)

        async def call(request: Any, context: CallContext) -> Any:
            counter.inc()
            host = self._forwarder.target(context)
            if host is not None:
                return await self._forwarder.unary(host, name, request)
            began = self._clock.monotonic()
            try:
                check(request, context)
                return await self._answer(name, handler, make, request)
            finally:
                duration.observe(self._clock.monotonic() - began)

        return call

    async def _answer(self, name: str, handler: Unary, make: Callable[[], Any], request: Any) -> Any:
        """A handler runs to its end also when its caller goes away: half of a decision would leave memory and disk apart."""
        response = await asyncio.shield(self._running.spawn(_outcome(handler(request)), name=name))
        if isinstance(response, NotLeader | ProposalLost | OutcomeUnknown):
            raise StatusError("UNAVAILABLE", str(response))
        if isinstance(response, PdError):
            error, response = response, make()
            self.refuse(response, error)
        elif isinstance(response, DbError):
            raise response
        response.header.cluster_id = self.members.cluster_id
        return response

    @staticmethod
    def refuse(response: Any, error: PdError) -> None:
        """Put a refusal into a response's header."""
        response.header.error.type = error_type(error)
        response.header.error.message = error.message

    def stream(self, name: str, handler: Callable[[Any, CallContext], AsyncIterator[Any]]) -> Handler:
        """A stream's handler, with forwarding; it checks leadership and headers itself."""
        counter = self.metrics.requests.labels(name)

        async def call(requests: Any, context: CallContext) -> AsyncIterator[Any]:
            counter.inc()
            host = self._forwarder.target(context)
            answers = handler(requests, context) if host is None else self._forwarder.stream(host, name, requests)
            async for response in answers:
                yield response

        return call


def _nothing(_request: Any, _context: CallContext) -> None:
    """Nothing to check."""


async def _outcome(call: Awaitable[Any]) -> Any:
    """The response, or the expected failure as a value."""
    try:
        return await call
    except DbError as error:
        return error


def error_type(error: PdError) -> pdpb_pb2.ErrorType:
    """pdpb.ErrorType of a refusal."""
    if isinstance(error, NotBootstrapped):
        return pdpb_pb2.NOT_BOOTSTRAPPED
    if isinstance(error, AlreadyBootstrapped):
        return pdpb_pb2.ALREADY_BOOTSTRAPPED
    if isinstance(error, StoreTombstone):
        return pdpb_pb2.STORE_TOMBSTONE
    if isinstance(error, RegionNotFound | NoOperator):
        return pdpb_pb2.REGION_NOT_FOUND
    if isinstance(error, RegionsNotContainAllKeyRange):
        return pdpb_pb2.REGIONS_NOT_CONTAIN_ALL_KEY_RANGE
    return pdpb_pb2.UNKNOWN
