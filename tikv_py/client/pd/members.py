"""PD's members: who leads, the connections to them, and unary calls that follow the leader.

A call goes to the member believed to lead. When that one is not there or says it does not lead, all known members are asked
again (GetMembers), with growing pauses, until the call's budget is spent.

Invariants: the cluster id is learnt once and never changes; a member of another cluster is refused. One search for the
leader runs at a time; concurrent callers wait for its result. Does not know what the calls mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from core_py.errors import ClusterIdMismatch, RpcError
from core_py.ids import ClusterId
from core_py.ports import Channel, Clock, StreamCall, Transport, methods_of
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import pdpb_pb2
from tikv_py.client.pd.errors import (
    CLUSTER_MISMATCH_TEXT,
    PdUnavailable,
    from_header,
    is_worth_another_member,
    means_not_leader,
)

METHODS = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])
MEMBERS_TIMEOUT_S = 3.0
SECOND_BEST_S = 0.3  # how much longer to wait for a better answer
CALL_TIMEOUT_S = 3.0
CALL_BUDGET_S = 15.0
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 0.25  # an election takes a second or two: whoever waits for its end should not wait much longer

log = get_logger()


def bare_address(url: str) -> str:
    """host:port of a URL or address."""
    return url.split("://", 1)[-1].rstrip("/")


class PdMembers:
    """The members and their leader."""

    def __init__(self, transport: Transport, endpoints: Sequence[str], clock: Clock) -> None:
        self._transport, self._clock = transport, clock
        self._seeds = tuple(bare_address(url) for url in endpoints)
        self._known: list[str] = list(self._seeds)
        self._channels: dict[str, Channel] = {}
        self._leader: str | None = None
        self._doubted = ""
        self._search = asyncio.Lock()
        self.cluster_id = ClusterId(0)
        self.last_response: pdpb_pb2.GetMembersResponse | None = None

    @property
    def leader(self) -> str | None:
        """The address believed to lead, or None after it was doubted."""
        return self._leader

    def channel(self, address: str) -> Channel:
        """The connection to a member."""
        found = self._channels.get(address)
        if found is None:
            found = self._channels[address] = self._transport.connect(address)
        return found

    def doubt(self, address: str) -> None:
        """Forget that this member leads, so that the next call asks again."""
        if self._leader == address:
            self._leader = None
            self._doubted = address

    async def find_leader(self, budget_s: float = CALL_BUDGET_S) -> str:
        """The leader's address. Raises PdUnavailable, ClusterIdMismatch."""
        if self._leader is not None:
            return self._leader
        deadline = self._clock.monotonic() + budget_s
        async with self._search:
            pause, last = FIRST_PAUSE_S, "no member answered"
            while self._leader is None:
                last = await self._ask_all(max(0.05, deadline - self._clock.monotonic())) or last
                if self._leader is not None:
                    break
                if self._clock.monotonic() + pause >= deadline:
                    raise PdUnavailable(f"no leader among PD members {', '.join(self._known)}: {last}")
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE_S)
            return self._leader

    async def _ask_all(self, left_s: float) -> str:
        """Ask all known members at once until one names a leader; returns the last failure's text.

        A member that stands still must not hold up the others' answers, and one that names the leader just doubted may not
        have noticed yet: another answer is better.
        """
        last = ""
        second_best: pdpb_pb2.GetMembersResponse | None = None
        addresses = list(dict.fromkeys((*self._known, *self._seeds)))
        scope = TaskScope("pd members", on_failure=lambda _error: None)  # each task's outcome is looked at here
        try:
            timeout_s = min(MEMBERS_TIMEOUT_S, left_s)
            asked = {scope.spawn(self.members_of(address, timeout_s)): address for address in addresses}
            pending = set(asked)
            while pending:
                patience_s = None if second_best is None else SECOND_BEST_S
                done, pending = await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in sorted(done, key=lambda task: addresses.index(asked[task])):
                    try:
                        response = task.result()
                    except RpcError as error:
                        last = str(error)
                        continue
                    urls = [bare_address(url) for url in response.leader.client_urls]
                    if not urls:
                        last = f"{asked[task]} knows no leader"
                    elif self._doubted in urls and len(addresses) > 1:
                        second_best = response
                    elif self._take(response):
                        return ""
            return "" if second_best is not None and self._take(second_best) else last
        finally:
            await scope.close()

    async def members_of(self, address: str, timeout_s: float = MEMBERS_TIMEOUT_S) -> pdpb_pb2.GetMembersResponse:
        """One member's view of all members. Raises RpcError, PdError, ClusterIdMismatch."""
        request = pdpb_pb2.GetMembersRequest()
        request.header.cluster_id = self.cluster_id
        method = METHODS["GetMembers"]
        response: pdpb_pb2.GetMembersResponse = await self.channel(address).unary(method, request, timeout_s=timeout_s)
        error = from_header(response.header)
        if error is not None:
            raise RpcError(f"{method.path}: {error}")  # an electing member; another may know
        theirs = response.header.cluster_id
        if self.cluster_id and theirs and theirs != self.cluster_id:
            raise ClusterIdMismatch(f"PD {address} is of cluster {theirs}, this client of {self.cluster_id}")
        return response

    def _take(self, response: pdpb_pb2.GetMembersResponse) -> bool:
        urls = [bare_address(url) for url in response.leader.client_urls]
        known = [bare_address(url) for member in response.members for url in member.client_urls]
        if known:
            self._known = known
        if not urls or not response.header.cluster_id:
            return False
        self.cluster_id = ClusterId(response.header.cluster_id)
        self.last_response = response
        if self._leader != urls[0]:
            log.info("PD leader found", leader=urls[0], cluster_id=self.cluster_id)
        self._leader = urls[0]
        return True

    async def call(self, name: str, request: Any, *, budget_s: float = CALL_BUDGET_S) -> Any:
        """A unary call to the leader. Raises a typed PdError, PdUnavailable, or RpcError when PD refuses the call itself."""
        method = METHODS[name]
        deadline = self._clock.monotonic() + budget_s
        pause = FIRST_PAUSE_S
        while True:
            left = deadline - self._clock.monotonic()
            address = await self.find_leader(max(left, 0.05))
            request.header.cluster_id = self.cluster_id
            try:
                response = await self.channel(address).unary(
                    method, request, timeout_s=max(0.05, min(CALL_TIMEOUT_S, left))
                )
                failure = from_header(response.header)
                if failure is None:
                    return response
                if not means_not_leader(str(failure)):
                    raise failure
                last = str(failure)
            except RpcError as error:
                self.check(error)
                last = str(error)
            self.doubt(address)
            if self._clock.monotonic() + pause >= deadline:
                raise PdUnavailable(f"PD {name} failed on {address} for {budget_s} s: {last}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)

    @staticmethod
    def check(error: RpcError) -> None:
        """Raise unless the call may be repeated elsewhere."""
        if CLUSTER_MISMATCH_TEXT in str(error).lower():
            raise ClusterIdMismatch(str(error)) from error
        if not is_worth_another_member(error):
            raise error

    def open_stream(self, name: str, address: str) -> StreamCall:
        """A stream to a member. Raises RpcError."""
        return self.channel(address).stream(METHODS[name])

    def fill_header(self, request: Message) -> None:
        """Put the cluster id into a request's header."""
        request.header.cluster_id = self.cluster_id  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Close all connections."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()
