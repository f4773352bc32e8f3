"""etcdserverpb.Watch: one stream, many watches.

A stream's loop alone writes to its client: it answers requests in order, then gives each watcher that is behind a batch in turn,
then sleeps. Requests wait in a short queue, events in the store's history; so whatever a client does or leaves undone, a stream
takes a bounded amount of memory.

Kept to etcd's letter, because clients resume by it: `created` comes before any event of a watch; events come in the order of
revisions, never part of one revision without the rest (but for fragments, which are asked for and marked); a start before the
kept history ends the watch with `compact_revision`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from core_py.errors import RpcError
from core_py.ports import CallContext, Clock, Service
from core_py.runtime.tasks import TaskScope
from pd_py.etcd.limits import MAX_REQUEST_BYTES
from pd_py.etcd.member import EtcdMember
from pd_py.etcd.watch_hub import Watcher, WatchHub
from pd_py.metastore.kv.errors import Compacted
from pd_py.metastore.kv.record import KvEvent, event_pb, span_of
from protos.etcd import kv_pb2, rpc_pb2

BATCH_EVENTS = 1000
RESPONSE_BYTES = 1 << 20  # about; a revision that is larger goes whole
REQUESTS_MAX = 64
MAX_WATCHERS_PER_STREAM = 10_000
MAX_WATCHERS = 200_000
PROGRESS_INTERVAL_S = 600.0
MIN_SLEEP_S = 0.001  # a sleep may end a rounding error too early
LEADER_CHECK_S = 1.0
LEADERLESS_CHECKS = 3
NO_WATCH = -1

_Create = rpc_pb2.WatchCreateRequest


class WatchService:
    """All streams of one member."""

    def __init__(self, member: EtcdMember, clock: Clock) -> None:
        self.member = member
        self.clock = clock
        self.hub = WatchHub(lambda: member.kv)
        self._unsubscribe = member.store.subscribe(self.hub.changed)

    async def watch(
        self, requests: AsyncIterator[rpc_pb2.WatchRequest], context: CallContext
    ) -> AsyncGenerator[rpc_pb2.WatchResponse, None]:
        """The handler of one stream."""
        needs_leader = self.member.requires_leader(context)
        stream = WatchStream(self, needs_leader=needs_leader)
        scope = TaskScope("etcd watch", on_failure=stream.fail)
        scope.spawn(stream.take(requests))
        try:
            async with aclosing(stream.run()) as responses:
                async for response in responses:
                    yield response
        finally:
            stream.close()
            await scope.close()

    async def follow(
        self, request: rpc_pb2.WatchCreateRequest, context: CallContext
    ) -> AsyncGenerator[rpc_pb2.WatchResponse, None]:
        """One watch for as long as its reader likes: for services that show the store in another form."""

        async def requests() -> AsyncIterator[rpc_pb2.WatchRequest]:
            yield rpc_pb2.WatchRequest(create_request=request)
            await asyncio.Event().wait()  # cancelled with the stream

        async with aclosing(self.watch(requests(), context)) as responses:
            async for response in responses:
                yield response
                if response.canceled:
                    return

    def close(self) -> None:
        """Listen to the store no more."""
        self._unsubscribe()


class WatchStream:
    """One stream. `take` reads its requests, `run` gives its responses."""

    def __init__(self, owner: WatchService, *, needs_leader: bool) -> None:
        self._member, self._hub, self._clock = owner.member, owner.hub, owner.clock
        self._needs_leader = needs_leader
        self._leaderless = 0
        self._requests: asyncio.Queue[rpc_pb2.WatchRequest | None] = asyncio.Queue(REQUESTS_MAX)
        self._watchers: dict[int, Watcher] = {}
        self._behind: dict[Watcher, None] = {}
        self._next_id = 0
        self._progress_asked = False
        self._progress_due = self._clock.monotonic() + PROGRESS_INTERVAL_S
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None

    # ---- requests in ----

    async def take(self, requests: AsyncIterator[rpc_pb2.WatchRequest]) -> None:
        """Queue requests until the client sends no more."""
        try:
            async for request in requests:
                await self._requests.put(request)
                self._wake.set()
        except RpcError:
            pass  # the client went away: it gets no answer any more
        await self._requests.put(None)
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """End the stream with an error."""
        self._failure = error
        self._wake.set()

    # ---- responses out ----

    async def run(self) -> AsyncGenerator[rpc_pb2.WatchResponse, None]:
        """Everything the client is told, until it sends no more requests. Raises StatusError."""
        while True:
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            if not self._requests.empty():
                request = self._requests.get_nowait()
                if request is None:
                    return
                for response in self._answer(request):
                    yield response
            elif self._behind:
                watcher = next(iter(self._behind))
                del self._behind[watcher]
                for response in self._catch_up(watcher):
                    yield response
                if watcher.behind:
                    self._behind[watcher] = None  # the others first
            elif (progress := self._progress()) is not None:
                yield progress
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        """Until there is something to do. Raises StatusError when there was no leader for too long."""
        wait_s = max(self._progress_due - self._clock.monotonic(), MIN_SLEEP_S)
        if self._needs_leader:
            wait_s = min(wait_s, LEADER_CHECK_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            if self._needs_leader:
                self._leaderless = 0 if self._member.members.leader_id() else self._leaderless + 1
                if self._leaderless >= LEADERLESS_CHECKS:
                    self._member.require_leader()

    # ---- requests ----

    def _answer(self, request: rpc_pb2.WatchRequest) -> Iterator[rpc_pb2.WatchResponse]:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            yield self._create(request.create_request)
        elif kind == "cancel_request":
            watcher = self._watchers.get(request.cancel_request.watch_id)
            if watcher is not None:
                self._drop(watcher)
                yield self._response(watcher.id, canceled=True)
        elif kind == "progress_request":
            self._progress_asked = True

    def _create(self, request: rpc_pb2.WatchCreateRequest) -> rpc_pb2.WatchResponse:
        span = span_of(request.key or b"\0", request.range_end)
        reason = ""
        if request.start_revision < 0:
            reason = Compacted.text
        elif span.is_empty:
            reason = "mvcc: watcher range is empty"
        elif request.watch_id < 0 or (request.watch_id and request.watch_id in self._watchers):
            reason = "mvcc: duplicate watch ID provided on the WatchStream"
        elif len(self._watchers) >= MAX_WATCHERS_PER_STREAM or len(self._hub) >= MAX_WATCHERS:
            reason = "etcdserver: too many requests"
        if reason:
            return self._response(NO_WATCH, created=True, canceled=True, cancel_reason=reason)
        watcher = Watcher(
            request.watch_id or self._free_id(),
            span,
            lambda: self._fell_behind(watcher),
            request.start_revision,
            prev_kv=request.prev_kv,
            no_puts=_Create.NOPUT in request.filters,
            no_deletes=_Create.NODELETE in request.filters,
            progress_notify=request.progress_notify,
            fragment=request.fragment,
        )
        self._watchers[watcher.id] = watcher
        self._hub.add(watcher)
        if watcher.behind:
            self._behind[watcher] = None
        return self._response(watcher.id, created=True)

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _fell_behind(self, watcher: Watcher) -> None:
        self._behind[watcher] = None
        self._wake.set()

    def _drop(self, watcher: Watcher) -> None:
        del self._watchers[watcher.id]
        self._behind.pop(watcher, None)
        self._hub.remove(watcher)

    # ---- events ----

    def _catch_up(self, watcher: Watcher) -> Iterator[rpc_pb2.WatchResponse]:
        """One batch of a watcher that is behind."""
        try:
            events = self._hub.read(watcher, BATCH_EVENTS)
        except Compacted:
            self._drop(watcher)
            watcher.behind = False
            yield self._response(
                watcher.id,
                canceled=True,
                compact_revision=self._member.kv.compacted,
                cancel_reason=Compacted.text,
            )
            return
        if events:
            watcher.quiet = False
        for part in _whole_revisions(events):
            converted = [event_pb(event, with_prev=watcher.prev_kv) for event in part]
            if watcher.fragment:
                yield from self._fragments(watcher, converted)
            else:
                yield self._response(watcher.id, events=converted)

    def _fragments(self, watcher: Watcher, events: list[kv_pb2.Event]) -> Iterator[rpc_pb2.WatchResponse]:
        """Responses below the size that a client takes, all but the last marked."""
        first, size = 0, 0
        for index, event in enumerate(events):
            event_bytes = event.ByteSize()
            if index > first and size + event_bytes > MAX_REQUEST_BYTES:
                yield self._response(watcher.id, events=events[first:index], fragment=True)
                first, size = index, 0
            size += event_bytes
        yield self._response(watcher.id, events=events[first:])

    def _progress(self) -> rpc_pb2.WatchResponse | None:
        """A notification that is due; everything that concerns this stream up to its revision was sent."""
        if self._progress_asked:
            self._progress_asked = False
            return self._response(NO_WATCH)
        if self._clock.monotonic() < self._progress_due:
            return None
        for watcher in self._watchers.values():
            if watcher.progress_notify and watcher.quiet:
                watcher.quiet = False
                return self._response(watcher.id)
        for watcher in self._watchers.values():
            watcher.quiet = True
        self._progress_due = self._clock.monotonic() + PROGRESS_INTERVAL_S
        return None

    def _response(
        self,
        watch_id: int,
        *,
        created: bool = False,
        canceled: bool = False,
        compact_revision: int = 0,
        cancel_reason: str = "",
        fragment: bool = False,
        events: list[kv_pb2.Event] | None = None,
    ) -> rpc_pb2.WatchResponse:
        return rpc_pb2.WatchResponse(
            header=self._member.header(self._hub.seen),
            watch_id=watch_id,
            created=created,
            canceled=canceled,
            compact_revision=compact_revision,
            cancel_reason=cancel_reason,
            fragment=fragment,
            events=events or (),
        )

    def close(self) -> None:
        """End all watches of the stream."""
        for watcher in list(self._watchers.values()):
            self._drop(watcher)


def _whole_revisions(events: list[KvEvent]) -> Iterator[list[KvEvent]]:
    """Parts of about `RESPONSE_BYTES`, none of which ends within a revision."""
    first, size = 0, 0
    for index, event in enumerate(events):
        new_revision = index > 0 and event.kv.mod_revision != events[index - 1].kv.mod_revision
        if new_revision and size >= RESPONSE_BYTES:
            yield events[first:index]
            first, size = index, 0
        size += event.kv.size_bytes
    if first < len(events):
        yield events[first:]


def service(watches: WatchService) -> Service:
    """The service for a transport."""
    return Service(rpc_pb2.DESCRIPTOR.services_by_name["Watch"], {"Watch": watches.watch})
