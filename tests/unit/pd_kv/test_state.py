"""The rules of etcd's key-value store, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from pd_py.metastore.kv import record, versions
from pd_py.metastore.kv.errors import Compacted, FutureRevision, KvError
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

Range = rpc_pb2.RangeRequest


def done(state: KvState, command: metastore_pb2.Command) -> metastore_pb2.Result:
    result = state.apply(command)
    assert result.error == ""
    assert result.error_code == ""
    return result


def refused(state: KvState, command: metastore_pb2.Command) -> str:
    before = state.image()
    result = state.apply(command)
    assert result.error_code
    assert result.WhichOneof("result") is None
    assert result.revision == state.revision
    assert state.image() == before, "a refused command changed something"
    return result.error


def keys(response: rpc_pb2.RangeResponse) -> list[bytes]:
    return [kv.key for kv in response.kvs]


def filled() -> KvState:
    state = KvState()
    for key, value in ((b"a", b"3"), (b"b", b"2"), (b"c", b"1"), (b"b", b"9")):
        done(state, put(key, value))
    return state


def test_revisions_count_writes_and_versions_count_since_the_creation() -> None:
    state = KvState()
    assert state.revision == 1
    assert done(state, put(b"k", b"1")).put.header.revision == 2
    done(state, put(b"k", b"2"))
    kv = state.range(Range(key=b"k")).kvs[0]
    assert (kv.create_revision, kv.mod_revision, kv.version, kv.value) == (2, 3, 2, b"2")
    done(state, delete(b"k"))
    done(state, put(b"k", b"3"))
    kv = state.range(Range(key=b"k")).kvs[0]
    assert (kv.create_revision, kv.mod_revision, kv.version) == (5, 5, 1)


def test_what_changes_nothing_takes_no_revision() -> None:
    state = filled()
    revision = state.revision
    assert done(state, delete(b"nothing")).delete_range.deleted == 0
    response = done(state, txn([], [range_op(b"a"), delete_op(b"x")])).txn
    assert response.header.revision == state.revision == revision


def test_all_of_a_transaction_shares_one_revision_and_sees_what_came_before_in_it() -> None:
    state = filled()
    revision = state.revision + 1
    command = txn([], [put_op(b"n"), delete_op(b"a"), range_op(b"\0", b"\0"), put_op(b"m", prev_kv=True)])
    response = done(state, command).txn
    assert state.revision == revision
    assert keys(response.responses[2].response_range) == [b"b", b"c", b"n"]
    assert not response.responses[3].response_put.HasField("prev_kv")
    assert [(e.kv.key, e.kv.mod_revision) for e in state.events_since(revision)] == [
        (b"n", revision),
        (b"a", revision),
        (b"m", revision),
    ]


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({"key": b"b"}, [b"b"]),
        ({"key": b"a", "range_end": b"c"}, [b"a", b"b"]),
        ({"key": b"b", "range_end": b"\0"}, [b"b", b"c"]),
        ({"key": b"\0", "range_end": b"\0"}, [b"a", b"b", b"c"]),
        ({"key": b"c", "range_end": b"a"}, []),
        ({"key": b"\0", "range_end": b"\0", "sort_order": Range.DESCEND}, [b"c", b"b", b"a"]),
        ({"key": b"\0", "range_end": b"\0", "sort_target": Range.VALUE}, [b"c", b"a", b"b"]),
        ({"key": b"\0", "range_end": b"\0", "sort_target": Range.MOD, "sort_order": Range.DESCEND, "limit": 1}, [b"b"]),
        ({"key": b"\0", "range_end": b"\0", "sort_target": Range.CREATE, "limit": 2}, [b"a", b"b"]),
        ({"key": b"\0", "range_end": b"\0", "sort_target": Range.VALUE, "limit": 1}, [b"a"]),  # etcd 3.4 answers so
        ({"key": b"\0", "range_end": b"\0", "sort_target": Range.VALUE, "limit": 1, "min_mod_revision": 1}, [b"c"]),
        (
            {"key": b"\0", "range_end": b"\0", "sort_target": Range.VERSION, "sort_order": Range.DESCEND},
            [b"b", b"a", b"c"],
        ),
        ({"key": b"\0", "range_end": b"\0", "min_mod_revision": 4}, [b"b", b"c"]),
        ({"key": b"\0", "range_end": b"\0", "max_mod_revision": 4}, [b"a", b"c"]),
        ({"key": b"\0", "range_end": b"\0", "min_create_revision": 3, "max_create_revision": 3}, [b"b"]),
    ],
)
def test_ranges(request_fields: dict[str, Any], expected: list[bytes]) -> None:
    assert keys(filled().range(Range(**request_fields))) == expected


def test_limits_counts_and_keys_only() -> None:
    state = filled()
    response = state.range(Range(key=b"a", range_end=b"\0", limit=2, keys_only=True))
    assert (keys(response), response.more, response.count) == ([b"a", b"b"], True, 3)
    assert {kv.value for kv in response.kvs} == {b""}
    response = state.range(Range(key=b"a", range_end=b"\0", count_only=True))
    assert (response.count, len(response.kvs)) == (3, 0)
    assert not state.range(Range(key=b"a", range_end=b"\0", limit=3)).more


def test_old_revisions_read_as_they_were_and_not_beyond_what_is_kept() -> None:
    state = filled()
    done(state, delete(b"a"))
    assert state.range(Range(key=b"b", revision=4)).kvs[0].value == b"2"
    assert keys(state.range(Range(key=b"\0", range_end=b"\0", revision=3))) == [b"a", b"b"]
    with pytest.raises(FutureRevision, match="etcdserver: mvcc: required revision is a future revision"):
        state.range(Range(key=b"a", revision=state.revision + 1))
    done(state, compact(5))
    assert state.range(Range(key=b"b", revision=5)).kvs[0].value == b"9"
    with pytest.raises(Compacted, match="etcdserver: mvcc: required revision has been compacted"):
        state.range(Range(key=b"a", revision=4))
    assert "compacted" in refused(state, compact(5))
    assert "future" in refused(state, compact(state.revision + 1))


def test_compaction_keeps_reads_and_events_from_its_revision_on() -> None:
    state = filled()
    done(state, delete(b"a"))
    done(state, compact(state.revision))
    event = state.events_since(state.revision)[0]
    assert (event.kv.key, event.kv.is_deleted, event.prev) == (b"a", True, None)
    with pytest.raises(Compacted):
        state.events_since(state.revision - 1)
    done(state, put(b"z"))
    done(state, compact(state.revision))
    assert b"a" not in state.image(), "a deleted key is kept for ever"


def test_ignore_value_and_ignore_lease_keep_what_is_there() -> None:
    state = KvState()
    done(state, grant(7))
    done(state, put(b"k", b"1", lease=7))
    done(state, put(b"k", b"", ignore_value=True, ignore_lease=True))
    kv = state.range(Range(key=b"k")).kvs[0]
    assert (kv.value, kv.lease, kv.version) == (b"1", 7, 2)
    done(state, put(b"k", b"2", prev_kv=True))
    assert state.range(Range(key=b"k")).kvs[0].lease == 0
    assert refused(state, put(b"none", b"", ignore_value=True)) == "etcdserver: key not found"
    assert refused(state, put(b"k", b"x", ignore_value=True)) == "etcdserver: value is provided"
    assert refused(state, put(b"k", b"x", lease=7, ignore_lease=True)) == "etcdserver: lease is provided"


def test_prev_kv() -> None:
    state = filled()
    assert done(state, put(b"a", b"n", prev_kv=True)).put.prev_kv.value == b"3"
    response = done(state, delete(b"a", b"c", prev_kv=True)).delete_range
    assert [kv.value for kv in response.prev_kvs] == [b"n", b"9"]
    assert [e.prev.value for e in state.events_since(state.revision) if e.prev] == [b"n", b"9"]


def test_leases_take_their_keys_with_them_in_one_revision() -> None:
    state = KvState()
    assert done(state, grant(7, 60)).lease_grant.TTL == 60
    assert done(state, grant(8, 0)).lease_grant.TTL == 2
    for key in (b"x", b"y", b"moved", b"freed"):
        done(state, put(key, lease=7))
    done(state, put(b"moved", lease=8))
    done(state, put(b"freed"))
    revision = state.revision
    assert done(state, revoke(7)).lease_revoke.header.revision == revision + 1
    assert [e.kv.key for e in state.events_since(revision + 1)] == [b"x", b"y"]
    assert state.prefix(b"") == [(b"freed", b"v"), (b"moved", b"v")]
    assert done(state, revoke(8)).revision == revision + 2
    assert state.prefix(b"") == [(b"freed", b"v")]


def test_a_deleted_key_leaves_its_lease() -> None:
    state = KvState()
    done(state, grant(7))
    done(state, put(b"k", lease=7))
    done(state, delete(b"k"))
    done(state, put(b"k"))
    done(state, revoke(7))
    assert state.get(b"k") == b"v"


def test_refused_leases() -> None:
    state = KvState()
    done(state, grant(7))
    assert refused(state, grant(7)) == "etcdserver: lease already exists"
    assert refused(state, grant(9, 9_000_000_001)) == "etcdserver: too large lease TTL"
    assert refused(state, grant(0)) == "etcdserver: requested lease not found"
    assert refused(state, revoke(1)) == "etcdserver: requested lease not found"
    assert refused(state, put(b"k", lease=1)) == "etcdserver: requested lease not found"
    assert refused(state, txn([], [put_op(b"a"), put_op(b"k", lease=1)])) == "etcdserver: requested lease not found"


A: dict[str, Any] = {"key": b"a", "result": Compare.EQUAL}


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(target=Compare.VERSION, version=1, **A), True),
        (Compare(target=Compare.CREATE, create_revision=2, **A), True),
        (Compare(target=Compare.MOD, mod_revision=3, **A), False),
        (Compare(target=Compare.VALUE, value=b"3", **A), True),
        (Compare(target=Compare.LEASE, lease=0, **A), True),
        (Compare(target=Compare.VALUE, value=b"2", key=b"a", result=Compare.GREATER), True),
        (Compare(target=Compare.VALUE, value=b"4", key=b"a", result=Compare.LESS), True),
        (Compare(target=Compare.VALUE, value=b"3", key=b"a", result=Compare.NOT_EQUAL), False),
        (Compare(target=Compare.CREATE, create_revision=0, key=b"none"), True),
        (Compare(target=Compare.VALUE, value=b"", key=b"none"), False),
        (Compare(target=Compare.VALUE, value=b"x", key=b"none", result=Compare.NOT_EQUAL), False),
        (Compare(target=Compare.MOD, mod_revision=1, key=b"a", range_end=b"\0", result=Compare.GREATER), True),
        (Compare(target=Compare.MOD, mod_revision=3, key=b"a", range_end=b"\0", result=Compare.GREATER), False),
        (Compare(target=Compare.CREATE, create_revision=0, key=b"x", range_end=b"z"), True),
    ],
)
def test_compares(compare: rpc_pb2.Compare, holds: bool) -> None:
    response = done(filled(), txn([compare], [range_op(b"a")], [])).txn
    assert response.succeeded is holds
    assert len(response.responses) == (1 if holds else 0)


def test_compares_of_nested_transactions_see_the_state_before_all_of_it() -> None:
    state = KvState()
    absent = Compare(key=b"k", target=Compare.CREATE, create_revision=0)
    inner = txn_request([absent], [put_op(b"was", b"absent")], [put_op(b"was", b"present")])
    response = done(state, txn([], [put_op(b"k"), txn_op(inner)])).txn
    assert response.responses[1].response_txn.succeeded
    assert state.get(b"was") == b"absent"


@pytest.mark.parametrize(
    "ops",
    [
        [put_op(b"k"), put_op(b"k")],
        [put_op(b"k"), delete_op(b"k")],
        [delete_op(b"a", b"z"), put_op(b"k")],
        [put_op(b"k"), txn_op(txn_request([], [], [put_op(b"k")]))],
        [txn_op(txn_request([], [put_op(b"k")])), txn_op(txn_request([], [delete_op(b"a", b"\0")]))],
    ],
)
def test_no_key_changes_twice_in_a_transaction(ops: list[rpc_pb2.RequestOp]) -> None:
    text = "etcdserver: duplicate key given in txn request"
    assert refused(filled(), txn([], ops)) == text
    assert refused(filled(), txn([], [], ops)) == text


def test_branches_exclude_each_other() -> None:
    inner = txn_request([], [put_op(b"k")], [put_op(b"k", b"w"), delete_op(b"x")])
    done(KvState(), txn([], [txn_op(inner)], [put_op(b"k")]))


def test_refused_requests() -> None:
    state = filled()
    for command in (put(b""), delete(b""), txn([Compare()], []), txn([], [put_op(b"")]), txn([], [range_op(b"")])):
        assert refused(state, command) == "etcdserver: key is not provided"
    assert "future" in refused(state, txn([], [put_op(b"n"), range_op(b"a", revision=99)]))
    assert refused(state, metastore_pb2.Command()) == "etcdserver: unknown command"
    deep = txn_request([], [put_op(b"k")])
    for _ in range(16):
        deep = txn_request([], [txn_op(deep)])
    assert refused(state, metastore_pb2.Command(txn=deep)) == "etcdserver: too many operations in txn request"
    with pytest.raises(KvError, match="etcdserver: invalid sort option"):
        state.range(Range(key=b"a", sort_order=9))  # type: ignore[arg-type]


def test_history_is_bounded_by_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "HISTORY_REVISIONS", 10)
    state = KvState()
    for number in range(100):
        done(state, put(b"k%d" % (number % 3)))
        assert state.revision - state.compacted <= 11
        assert len(state.events_since(state.compacted)) <= 11
    assert len(state.prefix(b"k")) == 3


def test_history_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "HISTORY_BYTES", 10_000)
    state = KvState()
    for _ in range(50):
        done(state, put(b"k", b"x" * 1000))
        assert state.size_bytes < 13_000
    done(state, put(b"k", b"x" * 20_000))  # larger than all that may be kept: it stays, being the newest
    done(state, put(b"l"))
    assert state.get(b"k") == b"x" * 20_000


def test_events_come_in_whole_revisions() -> None:
    state = KvState()
    done(state, txn([], [put_op(b"a"), put_op(b"b"), put_op(b"c")]))
    done(state, put(b"d"))
    assert [e.kv.key for e in state.events_since(2, max_events=1)] == [b"a", b"b", b"c"]
    assert [e.kv.key for e in state.events_since(2, max_events=4)] == [b"a", b"b", b"c", b"d"]
    assert [e.kv.key for e in state.events_since(3, max_events=9)] == [b"d"]
    assert state.events_since(9) == []


def test_prefixes_end_where_they_should() -> None:
    state = KvState()
    for key in (b"a\xfe", b"a\xff", b"a\xff\xff", b"a\xff\xff1", b"b", b"\xff", b"\xff\xff"):
        done(state, put(key))
    assert [k for k, _ in state.prefix(b"a\xff")] == [b"a\xff", b"a\xff\xff", b"a\xff\xff1"]
    assert [k for k, _ in state.prefix(b"\xff")] == [b"\xff", b"\xff\xff"]
    assert len(state.prefix(b"")) == 7
    assert record.span_of(b"k", b"").single_key == b"k"
