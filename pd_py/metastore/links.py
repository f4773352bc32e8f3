"""The connections between members: Raft messages over one stream to each, proposals handed to the leader, and who is who.

Messages to a member wait in a short queue; what does not fit is dropped, because Raft repeats what matters and old messages are
worth nothing. A snapshot is sent in parts on the same stream. The other side learns nothing from a message of another
group, to another member, or without the group's token.

Authentication: mutual TLS where `[security]` gives certificates (then only holders of the cluster's certificates get here at all),
and the token derived from `initial-cluster-token` in every stream, compared in constant time.
Does not interpret messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Sequence

from core_py.codec import eraft
from core_py.errors import CodecError, DbError, RpcError
from core_py.ports import CallContext, Channel, Service, StatusError, StreamCall, Transport, methods_of
from core_py.raft.messages import Message, MsgType
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.metastore import journal
from protos.kvproto import eraftpb_pb2
from protos.private import metaraft_pb2, metastore_pb2

SERVICE = metaraft_pb2.DESCRIPTOR.services_by_name["MetaRaft"]
METHODS = methods_of(SERVICE)
QUEUE_MAX = 512
PART_BYTES = 1 << 20
BATCH_BYTES = 4 << 20  # of entries in one batch; the last message may go over it
RETRY_S = 0.1
TOKEN_KEY = "pd-group-token"  # noqa: S105 a name
CALL_TIMEOUT_S = 3.0

AddressOf = Callable[[int], str]


def group_token(secret: str, group_id: int) -> str:
    """What members of a group show each other."""
    return hmac.new(secret.encode(), b"%d" % group_id, hashlib.sha256).hexdigest()


def _size(message: Message) -> int:
    return sum([len(entry.data) for entry in message.entries])


class Outbound:
    """The way to one member."""

    def __init__(self, links: Links, member_id: int) -> None:
        self._links = links
        self._member_id = member_id
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)
        self._stream: StreamCall | None = None

    def put(self, message: Message) -> bool:
        """Queue a message; False when the queue is full."""
        if self._queue.full():
            return False
        self._queue.put_nowait(message)
        return True

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            messages = [await self._queue.get()]
            size = _size(messages[0])
            while not self._queue.empty() and size < BATCH_BYTES:
                messages.append(self._queue.get_nowait())
                size += _size(messages[-1])
            try:
                await self._send(messages)
            except RpcError as error:
                if self._stream is not None:
                    self._stream.cancel()
                    self._stream = None
                self._links.lost(self._member_id, messages, error)
                await asyncio.sleep(RETRY_S)

    async def _send(self, messages: list[Message]) -> None:
        if self._stream is None:
            self._stream = self._links.open(self._member_id)
        batch = self._links.envelope(self._member_id)
        for message in messages:
            if message.snapshot is None:
                batch.messages.append(eraft.message_to_pb(message))
        if batch.messages:
            await self._stream.send(batch)
        for message in messages:
            if message.snapshot is not None:
                await self._send_snapshot(self._stream, message)

    async def _send_snapshot(self, stream: StreamCall, message: Message) -> None:
        data = message.snapshot.data if message.snapshot is not None else b""
        head = eraft.message_to_pb(message)
        head.snapshot.ClearField("data")
        for offset in range(0, max(len(data), 1), PART_BYTES):
            batch = self._links.envelope(self._member_id)
            batch.part.total_bytes = len(data)
            batch.part.data = data[offset : offset + PART_BYTES]
            if offset == 0:
                batch.part.message.CopyFrom(head)
            await stream.send(batch)
        self._links.on_snapshot(self._member_id, True)  # noqa: FBT003


class Links:
    """All connections of one member, outward and inward."""

    def __init__(
        self,
        transport: Transport,
        member_id: int,
        group_id: int,
        secret: str,
        address_of: AddressOf,
        receive: Callable[[Message], None],
    ) -> None:
        self._transport = transport
        self._member_id = member_id
        self._group_id = group_id
        self._token = group_token(secret, group_id)
        self._address_of = address_of
        self._receive = receive
        self._outbound: dict[int, Outbound] = {}
        self._channels: dict[str, Channel] = {}
        self._scope = TaskScope("pd peers")
        self.on_unreachable: Callable[[int], None] = lambda _member: None
        self.on_snapshot: Callable[[int, bool], None] = lambda _member, _ok: None

    # ---- outward ----

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages to their members."""
        for message in messages:
            outbound = self._outbound.get(message.to)
            if outbound is None:
                outbound = self._outbound[message.to] = Outbound(self, message.to)
                self._scope.spawn(outbound.run(), name=f"pd peer {message.to}")
            if not outbound.put(message):
                self.lost(message.to, [message], None)

    def envelope(self, member_id: int) -> metaraft_pb2.PeerBatch:
        """An empty batch to a member."""
        return metaraft_pb2.PeerBatch(group_id=self._group_id, from_member=self._member_id, to_member=member_id)

    def channel(self, address: str) -> Channel:
        """The connection to an address."""
        found = self._channels.get(address)
        if found is None:
            found = self._channels[address] = self._transport.connect(address)
        return found

    def open(self, member_id: int) -> StreamCall:
        """A new stream to a member. Raises RpcError."""
        address = self._address_of(member_id)
        if not address:
            raise RpcError(f"the address of PD member {member_id} is not known", sent=False)
        return self.channel(address).stream(METHODS["Exchange"], metadata=((TOKEN_KEY, self._token),))

    def lost(self, member_id: int, messages: Sequence[Message], error: RpcError | None) -> None:
        """Messages did not get through."""
        get_logger().debug("pd peer not reached", member=member_id, error=str(error))
        self.on_unreachable(member_id)
        if any(message.snapshot is not None for message in messages):
            self.on_snapshot(member_id, False)  # noqa: FBT003

    async def propose(
        self, member_id: int, request: metaraft_pb2.ProposeRequest, timeout_s: float
    ) -> metastore_pb2.Result:
        """Hand a change to the leader. Raises RpcError."""
        request.group_id = self._group_id
        response: metaraft_pb2.ProposeResponse = await self.channel(self._address_of(member_id)).unary(
            METHODS["Propose"], request, timeout_s=timeout_s, metadata=((TOKEN_KEY, self._token),)
        )
        return response.result

    # ---- inward ----

    def service(
        self,
        propose: Callable[[metaraft_pb2.ProposeRequest], object],
        describe: Callable[[], metaraft_pb2.DescribeResponse],
    ) -> Service:
        """What this member serves to the others. `propose` is an async function that returns a metastore_pb2.Result."""

        async def on_propose(
            request: metaraft_pb2.ProposeRequest, context: CallContext
        ) -> metaraft_pb2.ProposeResponse:
            self._check(request.group_id, context)
            return metaraft_pb2.ProposeResponse(result=await propose(request))  # type: ignore[misc]

        async def on_describe(
            _request: metaraft_pb2.DescribeRequest, _context: CallContext
        ) -> metaraft_pb2.DescribeResponse:
            return describe()

        return Service(SERVICE, {"Exchange": self._exchange, "Propose": on_propose, "Describe": on_describe})

    def _check(self, group_id: int, context: CallContext) -> None:
        if group_id != self._group_id:
            raise StatusError("FAILED_PRECONDITION", f"group {group_id} asked member of group {self._group_id}")
        if not hmac.compare_digest(context.metadata.get(TOKEN_KEY, "").encode(), self._token.encode()):
            raise StatusError("UNAUTHENTICATED", "the initial-cluster-token of the members differs")

    async def _exchange(
        self, batches: AsyncIterator[metaraft_pb2.PeerBatch], context: CallContext
    ) -> metaraft_pb2.PeerDone:
        parts = SnapshotParts()
        async for batch in batches:
            self._check(batch.group_id, context)
            if batch.to_member != self._member_id:
                raise StatusError("NOT_FOUND", f"member {batch.to_member} is not here, member {self._member_id} is")
            for message in batch.messages:
                self._deliver(message, batch.from_member)
            if batch.HasField("part"):
                whole = parts.add(batch.part)
                if whole is not None:
                    self._deliver(whole, batch.from_member)
        return metaraft_pb2.PeerDone()

    def _deliver(self, message: eraftpb_pb2.Message, sender: int) -> None:
        value = eraft.message_from_pb(message)
        if value is not None and value.from_ == sender and value.to == self._member_id:
            self._receive(value)

    async def close(self) -> None:
        """End all streams and connections."""
        await self._scope.close()
        for channel in self._channels.values():
            await channel.close()


class SnapshotParts:
    """Puts a snapshot message together again. What does not fit what was announced is refused."""

    def __init__(self) -> None:
        self._head: eraftpb_pb2.Message | None = None
        self._total = 0
        self._data = bytearray()

    def add(self, part: metaraft_pb2.SnapshotPart) -> eraftpb_pb2.Message | None:
        """Take one part in; the whole message with the last. Raises CodecError."""
        if part.HasField("message"):
            if part.total_bytes > journal.MAX_RECORD or part.message.msg_type != int(MsgType.SNAPSHOT):
                raise CodecError(f"a snapshot of {part.total_bytes} bytes is refused")
            self._head, self._total = part.message, part.total_bytes
            self._data.clear()
        if self._head is None or len(self._data) + len(part.data) > self._total:
            raise CodecError("a part of a snapshot does not fit what was announced")
        self._data += part.data
        if len(self._data) < self._total:
            return None
        head, self._head = self._head, None
        head.snapshot.data = bytes(self._data)
        self._data.clear()
        return head


async def describe(channel: Channel, timeout_s: float = CALL_TIMEOUT_S) -> metaraft_pb2.DescribeResponse | None:
    """Who answers there; None when nobody does."""
    try:
        response: metaraft_pb2.DescribeResponse = await channel.unary(
            METHODS["Describe"], metaraft_pb2.DescribeRequest(), timeout_s=timeout_s
        )
    except DbError:
        return None
    return response
