"""PD's key-value state against a model that keeps a whole dictionary for every revision."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.metastore.kv import versions
from pd_py.metastore.kv.errors import Compacted
from pd_py.metastore.kv.state import KvState
from protos.etcd import rpc_pb2
from protos.private import metastore_pb2
from tests.unit.pd_kv.commands import (
    Compare,
    compact,
    delete,
    delete_op,
    grant,
    put,
    put_op,
    range_op,
    revoke,
    txn,
    txn_op,
    txn_request,
)

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"\xff", b"\xff\xff"])
ENDS = st.sampled_from([b"", b"", b"\0", b"ab", b"c"])
VALUES = st.sampled_from([b"", b"1", b"2"])
LEASES = st.integers(1, 3)

Model = dict[bytes, tuple[bytes, int, int, int, int]]
"""key -> (value, create revision, mod revision, version, lease)."""


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


class Oracle:
    """What the state should be, by copying everything all the time."""

    def __init__(self) -> None:
        self.at: dict[int, Model] = {1: {}}
        self.revision = 1
        self.leases: set[int] = set()

    @property
    def now(self) -> Model:
        return self.at[self.revision]

    def commit(self, new: Model) -> None:
        if new != self.now:
            self.revision += 1
            self.at[self.revision] = new

    def put(self, model: Model, request: rpc_pb2.PutRequest) -> None:
        old = model.get(request.key)
        value = old[0] if old and request.ignore_value else request.value
        lease = old[4] if old and request.ignore_lease else request.lease
        created, version = (old[1], old[3] + 1) if old else (self.revision + 1, 1)
        model[request.key] = (value, created, self.revision + 1, version, lease)

    def run(self, model: Model, request: rpc_pb2.TxnRequest, before: Model) -> None:
        held = all(self.holds(before, compare) for compare in request.compare)
        for op in request.success if held else request.failure:
            if op.HasField("request_put"):
                self.put(model, op.request_put)
            elif op.HasField("request_delete_range"):
                self.delete(model, op.request_delete_range)
            elif op.HasField("request_txn"):
                self.run(model, op.request_txn, before)

    def delete(self, model: Model, request: rpc_pb2.DeleteRangeRequest) -> None:
        for key in [key for key in model if in_range(key, request.key, request.range_end)]:
            del model[key]

    def holds(self, model: Model, compare: rpc_pb2.Compare) -> bool:
        field = {
            Compare.VALUE: (0, compare.value),
            Compare.CREATE: (1, compare.create_revision),
            Compare.MOD: (2, compare.mod_revision),
            Compare.VERSION: (3, compare.version),
            Compare.LEASE: (4, compare.lease),
        }[compare.target]
        found = [kv[field[0]] for key, kv in model.items() if in_range(key, compare.key, compare.range_end)]
        if not found:
            if compare.target == Compare.VALUE:
                return False
            found = [0]
        test: Callable[[object, object], bool] = {
            Compare.EQUAL: lambda x, y: x == y,
            Compare.NOT_EQUAL: lambda x, y: x != y,
            Compare.GREATER: lambda x, y: x > y,
            Compare.LESS: lambda x, y: x < y,
        }[compare.result]
        return all(test(value, field[1]) for value in found)

    def apply(self, command: metastore_pb2.Command) -> None:
        """A command that was not refused."""
        new = dict(self.now)
        if command.HasField("put"):
            self.put(new, command.put)
        elif command.HasField("delete_range"):
            self.delete(new, command.delete_range)
        elif command.HasField("txn"):
            self.run(new, command.txn, self.now)
        elif command.HasField("lease_grant"):
            self.leases.add(command.lease_grant.ID)
        elif command.HasField("lease_revoke"):
            self.leases.remove(command.lease_revoke.ID)
            new = {key: kv for key, kv in new.items() if kv[4] != command.lease_revoke.ID}
        self.commit(new)


FLAGS = st.sampled_from([{}, {}, {"ignore_lease": True}, {"prev_kv": True}])
LEASE = st.sampled_from([0, 0, 1, 2])
PUT_OPS = st.builds(put_op, KEYS, VALUES, lease=LEASE) | st.builds(lambda k: put_op(k, b"", ignore_value=True), KEYS)
DELETE_OPS = st.builds(delete_op, KEYS, ENDS)
RANGE_OPS = st.builds(range_op, KEYS, ENDS)
COMPARED = ("version", "create_revision", "mod_revision", "value", "lease")


def compare_of(key: bytes, end: bytes, target: int, result: int, number: int) -> rpc_pb2.Compare:
    compare = Compare(key=key, range_end=end, target=target, result=result)  # type: ignore[arg-type]
    setattr(compare, COMPARED[target], b"%d" % number if target == Compare.VALUE else number)
    return compare


COMPARES = st.builds(compare_of, KEYS, ENDS, st.integers(0, 4), st.integers(0, 3), st.integers(0, 6))
SIMPLE_OPS = st.lists(PUT_OPS | DELETE_OPS | RANGE_OPS, max_size=3)
INNER = st.builds(txn_request, st.lists(COMPARES, max_size=2), SIMPLE_OPS, SIMPLE_OPS)
OPS = st.lists(PUT_OPS | DELETE_OPS | RANGE_OPS | st.builds(txn_op, INNER), max_size=3)
COMMANDS = st.one_of(
    st.builds(lambda k, v, lease, flags: put(k, v, **({"lease": lease} | flags)), KEYS, VALUES, LEASE, FLAGS),
    st.builds(delete, KEYS, ENDS),
    st.builds(txn, st.lists(COMPARES, max_size=2), OPS, OPS),
    st.builds(grant, LEASES),
    st.builds(revoke, LEASES),
    st.builds(compact, st.integers(0, 30)),
)


def model_of(response: rpc_pb2.RangeResponse) -> Model:
    return {kv.key: (kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease) for kv in response.kvs}


def everything(revision: int) -> rpc_pb2.RangeRequest:
    return rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)


def replay(start: Model, state: KvState, revision: int) -> Model:
    """What a watcher knows that had read `start` and takes in all events from `revision` on."""
    known = dict(start)
    for event in state.events_since(revision):
        kv = event.kv
        before = known.pop(kv.key, None)
        if event.prev is not None:
            assert before is not None
            assert before[0] == event.prev.value
        if not kv.is_deleted:
            known[kv.key] = (kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
    return known


def check(state: KvState, oracle: Oracle) -> None:
    assert state.revision == oracle.revision
    assert {lease.id for lease in state.leases.all()} == oracle.leases
    for revision in range(1, oracle.revision + 1):
        if revision < state.compacted:
            with pytest.raises(Compacted):
                state.range(everything(revision))
            continue
        assert model_of(state.range(everything(revision))) == oracle.at[revision]
        assert replay(oracle.at[revision], state, revision + 1) == oracle.now
    for lease in state.leases.all():
        assert lease.keys == {key for key, kv in oracle.now.items() if kv[4] == lease.id}


@settings(max_examples=300, deadline=None)
@given(st.lists(COMMANDS, max_size=30), st.integers(4, 12))
def test_the_state_is_what_the_model_says(commands: list[metastore_pb2.Command], history: int) -> None:
    with mock.patch.object(versions, "HISTORY_REVISIONS", history):
        state, oracle = KvState(), Oracle()
        for command in commands:
            before = state.image()
            if state.apply(command).error_code:
                assert state.image() == before
            else:
                oracle.apply(command)
        check(state, oracle)


@settings(max_examples=200, deadline=None)
@given(st.lists(COMMANDS, max_size=25), st.lists(COMMANDS, max_size=25), st.integers(4, 12))
def test_a_restored_image_goes_on_as_its_original(
    before: list[metastore_pb2.Command], after: list[metastore_pb2.Command], history: int
) -> None:
    """Both get the same commands from then on, and stay equal in every answer and in the image."""
    with mock.patch.object(versions, "HISTORY_REVISIONS", history):
        original, restored = KvState(), KvState()
        for command in before:
            original.apply(command)
        restored.restore(original.image())
        for command in after:
            again = metastore_pb2.Command.FromString(command.SerializeToString())
            assert original.apply(command) == restored.apply(again)
            assert original.size_bytes == restored.size_bytes
        assert original.image() == restored.image()
        assert original.events_since(original.compacted) == restored.events_since(restored.compacted)
