"""What `tikv-py ctl` reads and prints, on values: keys, regions, log entries, versions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.codec import eraft
from core_py.errors import CodecError, DbError
from core_py.raft.messages import ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import kvrpcpb_pb2 as kvpb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.ctl import options, render
from tikv_py.debug.escape import BadKeyText, escape, unescape
from tikv_py.mvcc.keys import data_key
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands, keys


@given(st.binary(max_size=40))
def test_escaped_keys_are_ascii_and_come_back(data: bytes) -> None:
    text = escape(data)
    assert text.isascii()
    assert text.isprintable()
    assert unescape(text) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("z\\000\\001", b"z\x00\x01"),
        ("\\x7a\\xFF", b"z\xff"),
        ("a\\nb\\\\c\\\"d\\'", b"a\nb\\c\"d'"),
        ("zt\\200\\000r", b"zt\x80\x00r"),
        ("ключ", "ключ".encode()),
        ("", b""),
    ],
)
def test_escaped_forms_that_are_understood(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize("text", ["\\", "\\0", "\\00", "\\999", "\\400", "\\q00", "\\xg0", "\\x1", "a\\"])
def test_escapes_that_are_cut_or_unknown_are_refused(text: str) -> None:
    with pytest.raises(BadKeyText, match="position"):
        unescape(text)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_log_keys_come_back(region_id: int, index: int) -> None:
    assert keys.decode_log_key(keys.log_key(region_id, index)) == (region_id, index)


@pytest.mark.parametrize(
    "key", [b"", b"z" * 19, keys.raft_state_key(1), keys.region_state_key(1), keys.log_key(1, 2)[:-1]]
)
def test_other_keys_are_no_log_keys(key: bytes) -> None:
    with pytest.raises(CodecError):
        keys.decode_log_key(key)


def test_lists_are_numbers_each_once() -> None:
    assert options.numbers("3, 1,3", "store id") == [3, 1]
    for text in ("", "1,x", "-1", "1;2"):
        with pytest.raises(DbError, match="store id"):
            options.numbers(text, "store id")


def test_families_and_databases_are_the_known_ones() -> None:
    known = ("default", "lock", "write")
    assert options.families("", known) == ["default", "lock", "write"]
    assert options.families("write, lock", known) == ["write", "lock"]
    with pytest.raises(DbError, match="'raft' is none of"):
        options.families("raft", known)
    assert options.database("raft") == debugpb.RAFT
    with pytest.raises(DbError, match="neither kv nor raft"):
        options.database("sql")


def some_region() -> metapb_pb2.Region:
    region = metapb_pb2.Region(id=7, start_key=b"a\x00", end_key=b"")
    region.region_epoch.conf_ver, region.region_epoch.version = 3, 4
    region.peers.add(id=71, store_id=1)
    region.peers.add(id=72, store_id=2, role=metapb_pb2.Learner)
    return region


def some_info() -> debugpb.RegionInfoResponse:
    info = debugpb.RegionInfoResponse()
    info.region_local_state.region.CopyFrom(some_region())
    info.region_local_state.state = serverpb.Tombstone
    info.raft_local_state.last_index = 12
    info.raft_local_state.hard_state.term = 6
    info.raft_apply_state.applied_index = 11
    return info


def test_a_region_as_text_and_as_json() -> None:
    text = render.region_text(7, some_info())
    assert "region 7: Tombstone" in text
    assert '["a\\000", "")' in text
    assert "72 on store 2, Learner" in text
    assert "term 6, vote 0, commit 0, last index 12" in text
    assert "applied 11" in text
    shown = json.loads(render.as_json(render.region(7, some_info())))
    assert shown["region_local_state"]["state"] == "Tombstone"
    assert shown["region_local_state"]["region"]["start_key"] == "a\\000"
    assert shown["region_local_state"]["region"]["peers"][1] == {"id": 72, "store_id": 2, "role": "Learner"}
    assert unescape(shown["raft_state_key"]) == keys.raft_state_key(7)
    bare = debugpb.RegionInfoResponse()
    bare.region_local_state.region.id = 7
    assert "raft " not in render.region_text(7, bare)


def test_log_entries_show_their_commands() -> None:
    data = commands.write_command(some_region(), [Modify("write", b"zkey", b"\x00v"), Modify("lock", b"zkey", None)])
    entry = eraftpb_pb2.Entry(term=6, index=12, data=data)
    shown = json.loads(render.as_json(render.raft_entry(7, entry)))
    assert (shown["index"], shown["term"], shown["entry_type"], shown["bytes"]) == (12, 6, "EntryNormal", len(data))
    assert unescape(shown["key"]) == keys.log_key(7, 12)
    put, delete = shown["command"]["requests"]
    assert (put["cmd_type"], put["put"]) == ("Put", {"cf": "write", "key": "key", "value": "\\000v"})
    assert delete["cmd_type"] == "Delete"
    assert '"value": "\\\\000v"' in render.raft_entry_text(7, entry)

    change = ConfChange((ConfChangeSingle(ConfChangeType.ADD_NODE, 9),), b"", ConfChangeTransition.AUTO)
    command = commands.admin_command(some_region(), commands.change_peers([(0, some_region().peers[0])]))
    data = eraft.conf_change_to_bytes(change, command.SerializeToString())
    conf = eraftpb_pb2.Entry(entry_type=eraftpb_pb2.EntryConfChangeV2, data=data)
    assert render.raft_entry(7, conf)["command"]["admin_request"]["cmd_type"] == "ChangePeerV2"

    assert "empty" in render.raft_entry_text(7, eraftpb_pb2.Entry(index=1))
    broken = eraftpb_pb2.Entry(data=b"\xff\xff")
    assert render.raft_entry(7, broken)["command"] == {"unreadable": "\\377\\377"}


def some_versions() -> kvpb.MvccInfo:
    info = kvpb.MvccInfo()
    info.lock.start_ts, info.lock.primary, info.lock.ttl = 30, b"p", 3000
    info.writes.add(type=kvpb.Put, start_ts=10, commit_ts=15, short_value=b"one")
    info.writes.add(type=kvpb.Del, start_ts=20, commit_ts=25)
    info.values.add(start_ts=20, value=b"\x01large")
    return info


@pytest.mark.parametrize(
    ("cfs", "start_ts", "commit_ts", "left"),
    [
        (["lock", "write", "default"], None, None, (True, [10, 20], [20])),
        (["lock"], None, None, (True, [], [])),
        (["write", "default"], 20, None, (False, [20], [20])),
        (["lock", "write", "default"], 30, None, (True, [], [])),
        (["lock", "write", "default"], None, 15, (False, [10], [])),
        (["lock", "write", "default"], 10, 25, (False, [], [])),
    ],
)
def test_versions_are_filtered_by_family_and_timestamps(
    cfs: list[str], start_ts: int | None, commit_ts: int | None, left: tuple[bool, list[int], list[int]]
) -> None:
    found = render.filtered(some_versions(), cfs, start_ts, commit_ts)
    writes, values = [write.start_ts for write in found.writes], [value.start_ts for value in found.values]
    assert (found.HasField("lock"), writes, values) == left


def test_versions_as_text_and_as_json() -> None:
    lines = render.mvcc_text(data_key(b"k"), some_versions()).splitlines()
    assert lines[0].startswith("key: zk\\000")
    assert lines[0].endswith("(user key: k)")
    assert lines[1:] == [
        "\tlock cf value: Put, start_ts: 30, primary: p, ttl: 3000 ms",
        "\twrite cf value: Put, start_ts: 10, commit_ts: 15, short_value: one",
        "\twrite cf value: Del, start_ts: 20, commit_ts: 25",
        "\tdefault cf value: start_ts: 20, value: \\001large",
    ]
    assert "no transactional key" in render.mvcc_text(b"zraw", kvpb.MvccInfo())
    assert render.mvcc(b"z", some_versions())["values"] == [{"start_ts": 20, "value": "\\001large"}]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB (1536 B)"), (5 << 30, "5.0 GiB (5368709120 B)")]
)
def test_sizes(count: int, text: str) -> None:
    assert render.size_text(count) == text
