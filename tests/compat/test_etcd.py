"""PD's etcd interface beside a real etcd: the same random commands to both, every answer and every watch the same.

Three differences are meant, and left out of the comparison:

- a transaction that touches a key twice in a way that only PD refuses (`pd_py.metastore.kv.checks`) is not put to etcd;
- of two faults in one transaction, versions of etcd differ in which one they name;
- leases have more time left on one side than on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from bench.processes import free_ports, wait_for_port
from core_py.errors import RpcError
from core_py.ports import Channel
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.sim.network import MemoryNetwork
from protos.etcd import rpc_pb2
from tests.support.local_kv import FakeMembers, LocalKv
from tests.unit.pd_etcd.support import METHODS, Member

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("processes"),
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed (Debian: etcd-server)"),
]

KEYS = [b"a", b"aa", b"ab", b"b", b"c", b"\xff", b"\xff\xff"]
ENDS = [b"", b"", b"\0", b"ab", b"c", b"a"]
COMPARED = ("version", "create_revision", "mod_revision", "value", "lease")
TWO_FAULTS = ("key not found", "requested lease not found", "has been compacted", "is a future revision")
COMMANDS = 400
QUIET_S, PATIENCE_S = 0.2, 10.0

Answer = tuple[str, ...] | Any


@contextlib.contextmanager
def etcd() -> Iterator[str]:
    """host:port of a single new member."""
    client, peer = free_ports(2)
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *("etcd", "--name", "m", "--data-dir", directory, "--log-level", "error"),
            *("--listen-client-urls", f"http://127.0.0.1:{client}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-cluster", f"m=http://127.0.0.1:{peer}"),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(client)
            yield f"127.0.0.1:{client}"
        finally:
            process.terminate()
            process.wait()


async def serving(address: str) -> Channel:
    """A connection to a member that answers; its port is open before it does, and the first attempts may fail."""
    channel = GrpcTransport().connect(address)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(RpcError):
                await channel.unary(METHODS["Range"], rpc_pb2.RangeRequest(key=b"k"), timeout_s=5)
                return channel
            await asyncio.sleep(0.1)


class Commands:
    """Random requests over few keys, so that they meet."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.revision = 1

    def next(self) -> tuple[str, Any]:
        rng, number = self._rng, self._rng.random()
        if number < 0.3:
            return "Put", self._put()
        if number < 0.4:
            return "DeleteRange", self._delete()
        if number < 0.65:
            return "Txn", self._txn(2)
        if number < 0.9:
            return "Range", self._range()
        if number < 0.94:
            return "LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=rng.choice([1, 2]), TTL=1000)
        if number < 0.97:
            return "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=rng.choice([1, 2]))
        if number < 0.98:
            return "Compact", rpc_pb2.CompactionRequest(revision=1 + rng.randrange(self.revision + 1))
        return "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=rng.choice([1, 2]), keys=True)

    def _some_revision(self) -> int:
        return self._rng.choice([0, 0, 0, self._rng.randrange(self.revision + 2)])

    def _range(self) -> rpc_pb2.RangeRequest:
        rng = self._rng
        return rpc_pb2.RangeRequest(
            key=rng.choice([*KEYS, b"\0"]),
            range_end=rng.choice(ENDS),
            limit=rng.choice([0, 0, 1, 2]),
            revision=self._some_revision(),
            sort_order=rng.randrange(3),  # type: ignore[arg-type]
            sort_target=rng.randrange(5),  # type: ignore[arg-type]
            keys_only=rng.random() < 0.1,
            count_only=rng.random() < 0.1,
            min_mod_revision=self._some_revision(),
            max_mod_revision=self._some_revision(),
            min_create_revision=self._some_revision(),
            max_create_revision=self._some_revision(),
        )

    def _put(self) -> rpc_pb2.PutRequest:
        rng = self._rng
        ignore_value, ignore_lease = rng.random() < 0.1, rng.random() < 0.1
        return rpc_pb2.PutRequest(
            key=b"" if rng.random() < 0.01 else rng.choice(KEYS),
            value=b"" if ignore_value and rng.random() < 0.9 else b"%d" % rng.randrange(5),
            lease=0 if ignore_lease and rng.random() < 0.9 else rng.choice([0, 0, 0, 1, 2]),
            prev_kv=rng.random() < 0.3,
            ignore_value=ignore_value,
            ignore_lease=ignore_lease,
        )

    def _delete(self) -> rpc_pb2.DeleteRangeRequest:
        rng = self._rng
        return rpc_pb2.DeleteRangeRequest(key=rng.choice(KEYS), range_end=rng.choice(ENDS), prev_kv=rng.random() < 0.3)

    def _compare(self) -> rpc_pb2.Compare:
        rng, target = self._rng, self._rng.randrange(5)
        compare = rpc_pb2.Compare(
            key=rng.choice(KEYS),
            range_end=rng.choice(ENDS),
            target=target,  # type: ignore[arg-type]
            result=rng.randrange(4),  # type: ignore[arg-type]
        )
        number = rng.randrange(8)
        setattr(compare, COMPARED[target], b"%d" % number if COMPARED[target] == "value" else number)
        return compare

    def _txn(self, depth: int) -> rpc_pb2.TxnRequest:
        rng = self._rng
        return rpc_pb2.TxnRequest(
            compare=[self._compare() for _ in range(rng.randrange(3))],
            success=[self._op(depth) for _ in range(rng.randrange(4))],
            failure=[self._op(depth) for _ in range(rng.randrange(3))],
        )

    def _op(self, depth: int) -> rpc_pb2.RequestOp:
        number = self._rng.random()
        if number < 0.4:
            return rpc_pb2.RequestOp(request_put=self._put())
        if number < 0.6:
            return rpc_pb2.RequestOp(request_delete_range=self._delete())
        if number < 0.8 or not depth:
            return rpc_pb2.RequestOp(request_range=self._range())
        return rpc_pb2.RequestOp(request_txn=self._txn(depth - 1))


def comparable(response: Any) -> Any:
    """Without what names the server, and without the headers inside of transactions."""
    for field in ("cluster_id", "member_id", "raft_term"):
        response.header.ClearField(field)
    if isinstance(response, rpc_pb2.LeaseTimeToLiveResponse):
        keys = sorted(response.keys)
        del response.keys[:]
        response.keys.extend(keys)
        response.TTL = min(max(response.TTL, -1), 0)
    without_inner_headers(response)
    return response


def without_inner_headers(response: Any) -> None:
    for op in getattr(response, "responses", ()):
        inner = getattr(op, op.WhichOneof("response"))
        inner.ClearField("header")
        without_inner_headers(inner)


async def ask(channel: Channel, name: str, request: Any) -> Answer:
    try:
        return comparable(await channel.unary(METHODS[name], request, timeout_s=10))
    except RpcError as error:
        return error.status, str(error).rpartition("etcdserver: ")[2].split('"')[0].strip()


def is_refusal(answer: Answer, *texts: str) -> bool:
    return isinstance(answer, tuple) and any(text in answer[1] for text in texts)


async def watched(channel: Channel, key: bytes, end: bytes, revision: int, expected: int = 0) -> list[bytes]:
    """All events from a revision on: those expected, however long they take, and what comes soon after."""
    stream = channel.stream(METHODS["Watch"])
    create = rpc_pb2.WatchCreateRequest(key=key, range_end=end, start_revision=revision, prev_kv=True)
    await stream.send(rpc_pb2.WatchRequest(create_request=create))
    events: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(PATIENCE_S if len(events) < expected else QUIET_S):
                response = await stream.receive()
            events += [event.SerializeToString(deterministic=True) for event in response.events]
    stream.cancel()
    return events


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_commands_get_the_same_answers(seed: int) -> None:
    network = MemoryNetwork()
    pd = Member(network, "pd", LocalKv(), FakeMembers())
    await pd.serve()
    pd.lead()
    ours = network.transport("client").connect(pd.address)
    commands = Commands(random.Random(seed))
    with etcd() as address:
        real = await serving(address)
        compared = 0
        for number in range(COMMANDS):
            name, request = commands.next()
            mine = await ask(ours, name, request)
            if is_refusal(mine, "duplicate key"):
                continue
            theirs = await ask(real, name, request)
            if not (name == "Txn" and is_refusal(mine, *TWO_FAULTS) and is_refusal(theirs, *TWO_FAULTS)):
                assert mine == theirs, f"command {number}: {name} {request}"
            compared += 1
            commands.revision = pd.store.kv.revision
        assert compared > COMMANDS * 3 // 4
        begin = pd.store.kv.compacted + 1
        for key, end in ((b"\0", b"\0"), (b"a", b""), (b"a", b"b")):
            events = await watched(ours, key, end, begin)
            assert events == await watched(real, key, end, begin, len(events))
        await real.close()
    await ours.close()
    await pd.stop()
