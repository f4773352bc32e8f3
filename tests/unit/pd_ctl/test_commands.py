"""Each command of pd-ctl does what its name says, through the HTTP API; mistakes end with one line and exit code 1."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from core_py.runtime import tls
from core_py.runtime.port_front import serve_http
from pd_py.api.app import application
from pd_py.ctl.regions import Format, key_of
from pd_py.schedule.limits import LimitType
from tests.support.certificates import certificate
from tests.unit.pd_api.member import Member
from tests.unit.pd_ctl.terminal import Terminal


@pytest.mark.parametrize(
    "command",
    [
        "cluster",
        "cluster status",
        "config show",
        "config show all",
        "config show schedule",
        "config show replication",
        "config show cluster-version",
        "config show server",
        "config placement-rules show",
        "config placement-rules show --group pd",
        "config placement-rules show --group pd --id default",
        "config placement-rules show --region 1",
        "config placement-rules show --region 1 --detail",
        "config placement-rules rule-group show",
        "config placement-rules rule-group show pd",
        "config placement-rules rule-bundle get pd",
        "health",
        "hot read",
        "hot write 1 2",
        "hot store",
        "label",
        "label store zone z1",
        "member",
        "member leader",
        "member leader show",
        "min-resolved-ts",
        "operator",
        "operator show",
        "operator show admin",
        "region",
        "region 1",
        "region key b",
        "region key --format=hex 6d",
        "region keys b",
        "region keys b c 5",
        "region scan",
        "region store 1",
        "region store 1 --type leader",
        "region sibling 2",
        "region check miss-peer",
        "region check hist-size 10",
        "region range-holes",
        "region topread",
        "region topwrite 2",
        "region topconfver",
        "region topversion",
        "region topsize",
        "region topkeys",
        "scheduler",
        "scheduler show",
        "scheduler show --status paused --timestamp",
        "scheduler config balance-leader-scheduler",
        "scheduler config balance-leader-scheduler show",
        "service-gc-safepoint",
        "gc-safepoint",
        "store",
        "store 1",
        "store --state Up,Offline",
        "store check up",
        "store limit",
    ],
)
async def test_what_only_looks_answers_in_json_and_in_tables(pd: Terminal, command: str) -> None:
    said = await pd(command)
    assert said.code == 0, said.err
    json.loads(said.out)
    table = await pd("--output table " + command)
    assert table.code == 0, table.err
    assert table.out.strip()


async def test_answers_are_those_of_the_server(pd: Terminal) -> None:
    assert (await pd("store 1")).value["store"]["address"] == "store1:20160"
    assert (await pd("region key --format=encode", "m\\xfe")).code == 2
    assert (await pd("region", "key", "--format=encode", "m\\xfe")).value["id"] == 2
    assert (await pd("region", "key", "--format=encode", "m\\377")).value["id"] == 3
    scanned = (await pd("region scan")).value
    assert [one["id"] for one in scanned["regions"]] == [1, 2, 3]
    assert (await pd("region keys --format=hex 62 6dff")).value["count"] == 1
    assert set((await pd("config show")).value) == {"schedule", "replication"}
    table = (await pd("-o table store")).out.splitlines()
    assert table[0].split()[:3] == ["id", "address", "state_name"]
    assert max(map(len, table)) < 150
    assert len(table) == 5
    assert "zone=z1" in table[1]


def test_keys_are_written_in_three_ways() -> None:
    assert key_of("a\\x00\\n\\\\\\101", Format.ENCODE) == b"a\x00\n\\A"
    assert key_of("00ff", Format.HEX) == b"\x00\xff"
    assert key_of("é", Format.RAW) == "é".encode()
    for text, form in (("0g", Format.HEX), ("\\q", Format.ENCODE), ("a\\", Format.ENCODE)):
        with pytest.raises(SystemExit):
            key_of(text, form)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("store x", "store_id should be a number"),
        ("store 9", "[404] [PD:core:ErrStoreNotFound]store 9 not found"),
        ("store --state odd", "Unknown state: odd"),
        ("store delete 1 2", "give <store_id> or addr <address>"),
        ("store delete addr nowhere:1", "address not found: nowhere:1"),
        ("store label 1 a=b=c", "invalid arguments, expect <key>=<value>"),
        ("store label 1 a b c", "invalid arguments, expect <key> <value> [key value]..."),
        ("store label 1 bad!=x", 'bad! does not match format "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"'),
        ("store label --delete 1 a b", "not allow to delete multiple labels at a time"),
        ("store weight 1 -- -1 2", "leader_weight should be a number that >= 0."),
        ("store limit 1 0", "rate should be a number that > 0."),
        ("store limit 1 zone z1 5", "Labels are an option of set all stores limit."),
        ("region x", "region_id should be a number"),
        ("region 9", "[404] [PD:region:ErrRegionNotFound]region 9 not found"),
        ("region key --format=hex 0g", "key 0g is not in hex"),
        ("operator add odd 1", "unknown operator odd"),
        ("operator add transfer-leader 1", "operator add transfer-leader <region_id> <to_store_id>"),
        ("operator add transfer-leader 1 9", "[500] region has no voter in store 9"),
        ("operator add transfer-region 1 2 3 leader", "peer role is not match with store"),
        ("operator add split-region 1 --policy odd", "unknown policy"),
        ("operator remove 1", "[500] [PD:operator:ErrOperatorNotFound]operator not found"),
        ("operator check 1", "[500] [PD:operator:ErrOperatorNotFound]operator not found"),
        ("scheduler add evict-leader-scheduler", "scheduler add evict-leader-scheduler <store_id>"),
        ("scheduler add shuffle-leader-scheduler 1", "shuffle-leader-scheduler takes no arguments"),
        ("scheduler add odd", "[400] unknown scheduler"),
        ("scheduler remove odd", "[404] [PD:scheduler:ErrSchedulerNotFound]scheduler not found"),
        ("scheduler pause balance-leader-scheduler 0", "delay_seconds should be a number that > 0."),
        ("scheduler config balance-leader-scheduler set a", "scheduler config balance-leader-scheduler show | set"),
        ("config set odd 1", "[400] config item odd not found"),
        ("config placement-rules show --id x", "--id needs --group"),
        ("config placement-rules save --in /nonexistent/x", "/nonexistent/x cannot be read: No such file or directory"),
        ("log loud", "unknown log level loud"),
        ("tso x", "timestamp should be a number"),
        ("tso 99999999999999999999", "timestamp should fit into 64 bits"),
        ("member delete name odd", "[404] not found, pd: odd"),
        ("member leader transfer odd", "[500] no valid pd to transfer etcd leader"),
        ("unsafe remove-failed-stores 1,2", "PD does not recover regions that lost their majority"),
        ("unsafe remove-failed-stores --auto-detect --timeout 5", "unsafe-recover remove-fail-stores"),
    ],
)
async def test_mistakes_end_with_one_line(pd: Terminal, command: str, text: str) -> None:
    said = await pd(command)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert text in said.err
    assert said.err.count("\n") == 1


async def done(pd: Terminal, command: str, text: str = "") -> None:
    said = await pd(command)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == (f"Success! {text}" if text else "Success!")  # the log may come before it


async def test_stores_are_changed(member: Member, pd: Terminal) -> None:
    await done(pd, "store delete 4", "The store is set as Offline.")
    await done(pd, "store cancel-delete addr store4:20160", "The store's state is updated.")
    await done(pd, "store delete addr store4:20160", "The store is set as Offline.")
    await member.cluster.store_admin.bury(4)
    await done(pd, "store remove-tombstone", "Remove tombstone successfully.")
    assert (await pd("store")).value["count"] == 3
    await done(pd, "store label 1 rack=r1 host=h1", "The store's label is updated.")
    await done(pd, "store label 1 dc d1", "The store's label is updated.")
    await done(pd, "store label --delete 1 host", "The label host is deleted for store 1.")
    labels = {label.key: label.value for label in member.cluster.stores_info.get(1).meta.labels}
    assert labels == {"zone": "z1", "rack": "r1", "dc": "d1"}
    await done(pd, "store label 1 a=b --rewrite", "The store's label is updated.")
    assert [label.key for label in member.cluster.stores_info.get(1).meta.labels] == ["a"]
    await done(pd, "store weight 1 2 0.5", "The store's weight is updated.")
    assert member.cluster.stores_info.get(1).region_weight == 0.5


async def test_limits_are_changed(member: Member, pd: Terminal) -> None:
    await done(pd, "store limit all 20", "Set store limit successfully.")
    await done(pd, "store limit 1 5 add-peer", "The store's limit is updated.")
    await done(pd, "store limit all zone z2 7 remove-peer", "Set store limit successfully.")
    limits = member.coordinator.store_limits()
    assert [limits[store].rate(LimitType.ADD_PEER) for store in (1, 2, 3)] == [5, 20, 20]
    assert [limits[store].rate(LimitType.REMOVE_PEER) for store in (1, 2, 3)] == [20, 7, 20]


async def test_operators_are_added_and_removed(member: Member, pd: Terminal) -> None:
    await done(pd, "store limit all 100000", "Set store limit successfully.")
    created = "The operator is created."
    await done(pd, "operator add transfer-leader 1 2", created)
    assert "admin-transfer-leader" in (await pd("operator show")).out
    assert (await pd("operator check 1")).value.startswith("status: RUNNING")
    await done(pd, "operator remove 1", "The pending operator is canceled.")
    assert len((await pd("operator history")).value) == 1
    await done(pd, "operator add transfer-region 1 1 2 4 leader voter voter", created)
    await done(pd, "operator add split-region 2 --policy=usekey --keys=63,64", created)
    await done(pd, "operator add transfer-peer 3 2 4", created)
    descriptions = sorted(text.split(" ")[0] for text in (await pd("operator")).value)
    assert descriptions == ["admin-move-peer", "admin-move-region", "admin-split-region"]


async def test_schedulers_are_changed(member: Member, pd: Terminal) -> None:
    name = "balance-leader-scheduler"
    await done(pd, f"scheduler pause {name} 60", "Pause or resume the scheduler successfully.")
    assert (await pd("scheduler show --status paused")).value == [name]
    await done(pd, f"scheduler resume {name}", "Pause or resume the scheduler successfully.")
    assert (await pd("scheduler show --status paused")).value == []
    await done(pd, f"scheduler config {name} set batch 3", "Config is updated.")
    assert (await pd(f"scheduler config {name}")).value["batch"] == 3
    await done(pd, f"scheduler remove {name}", "The scheduler is removed.")
    await done(pd, f"scheduler add {name}", "The scheduler is created.")


async def test_the_configuration_is_changed(member: Member, pd: Terminal, tmp_path: Path) -> None:
    await done(pd, "config set leader-schedule-limit 9", "The config is updated.")
    await done(pd, "config set max-store-down-time 45m", "The config is updated.")
    await done(pd, "config set enable-one-way-merge true", "The config is updated.")
    await done(pd, "config set location-labels zone,host", "The config is updated.")
    options = member.cluster.options
    assert (options.leader_schedule_limit, options.max_store_down_time_s) == (9, 2700)
    assert (options.enable_one_way_merge, options.location_labels) == (True, ("zone", "host"))
    await done(pd, "config set cluster-version 8.1.0", "The cluster version is updated.")
    assert (await pd("config show cluster-version")).value == "8.1.0"


async def test_rules_go_through_files(member: Member, pd: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    said = await pd("config", "placement-rules", "load", "--out", str(path))
    assert said.out == f"rules saved to file {path}\n"
    rules = json.loads(path.read_text())
    rules.append({"group_id": "pd", "id": "more", "role": "learner", "count": 1})
    path.write_text(json.dumps(rules))
    said = await pd("config", "placement-rules", "save", "--in", str(path))
    assert said.out == "Success! Batch operations successfully.\n"
    assert member.coordinator.rules.rule("pd", "more") is not None
    path.write_text(json.dumps([{"group_id": "pd", "id": "more", "count": 0}]))
    await pd("config", "placement-rules", "save", "--in", str(path))
    assert member.coordinator.rules.rule("pd", "more") is None
    await pd("config", "placement-rules", "rule-bundle", "get", "pd", "--out", str(path))
    said = await pd("config", "placement-rules", "rule-bundle", "set", "--in", str(path))
    assert said.out == "Success! Update group and rules successfully.\n"
    await done(pd, "config placement-rules rule-group set g 5 true", "Update rule group successfully.")
    await done(pd, "config placement-rules rule-group delete g", "Delete rule group successfully.")
    path.write_text("{")
    said = await pd("config", "placement-rules", "save", "--in", str(path))
    assert (said.code, "is not JSON" in said.err) == (1, True)
    await done(pd, "config placement-rules disable", "The config is updated.")
    said = await pd("config placement-rules show")
    assert (said.code, "[412]" in said.err) == (1, True)
    await done(pd, "config placement-rules enable", "The config is updated.")


async def test_members_are_changed(member: Member, pd: Terminal) -> None:
    await done(pd, "member leader resign", "The resign command is submitted.")
    await done(pd, "member leader transfer pd2", "The transfer command is submitted.")
    await done(pd, "member delete name pd3", "removed, pd: pd3")
    await done(pd, "member delete id 2", "removed, pd: 2")
    await done(pd, "member leader_priority pd2 5", "success")
    assert member.members.calls == [("resign", ""), ("resign", "pd2"), ("remove", 3), ("remove", 2), ("priority", 2, 5)]


async def test_small_commands(member: Member, pd: Terminal) -> None:
    assert (await pd("tso 443852055297916932")).out == "system:  2023-08-27T18:33:41.687Z\nlogic:   4\n"
    assert (await pd("ping")).out.startswith("time: ")
    await done(pd, "log debug", "The log level is updated.")
    assert member.levels == ["debug"]
    await done(pd, "service-gc-safepoint delete br", "Delete service GC safepoint successfully.")


async def test_a_terminal_goes_on_after_a_mistake(pd: Terminal) -> None:
    said = await pd("-i", "--output", "json", stdin="store 9\nstore 'x\n\ncluster\nexit\nstore\n")
    assert said.code == 0
    assert said.out.count("max_peer_count") == 1
    assert '"stores"' not in said.out
    assert "store 9 not found" in said.err
    assert "No closing quotation" in said.err


async def test_members_are_tried_in_turn(pd: Terminal) -> None:
    working = pd.url
    pd.url = f"http://127.0.0.1:1,{working}"
    assert (await pd("cluster")).value["max_peer_count"] == 3
    pd.url = "http://127.0.0.1:1"
    said = await pd("cluster")
    assert (said.code, said.err.startswith("error: no PD answers: http://127.0.0.1:1: ")) == (1, True)
    pd.url = "ftp://x"
    assert (await pd("cluster")).err == "error: ftp://x is not an http:// or https:// URL\n"
    pd.url = working
    said = await pd("--cacert /nonexistent/ca cluster")
    assert said.code == 0, "files of TLS are read for https only"
    pd.url = "https://127.0.0.1:1"
    said = await pd("--cacert /nonexistent/ca cluster")
    assert (said.code, "the TLS files cannot be used" in said.err) == (1, True)


async def test_tls(member: Member, pd: Terminal, tmp_path: Path) -> None:
    certificate(tmp_path)
    ca, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    listener = await serve_http("127.0.0.1:0", application(member.backend()), tls=tls.server_context(ca, ca, key))
    pd.url = f"https://localhost:{listener.address.rpartition(':')[2]}"
    try:
        assert (await pd(f"--cacert {ca} --cert {ca} --key {key} cluster")).value["max_peer_count"] == 3
        for options in ("", f"--cacert {ca}"):  # a root that is not known; no certificate of its own
            said = await pd(f"{options} cluster".strip())
            assert (said.code, "no PD answers" in said.err) == (1, True)
    finally:
        await listener.stop(0.1)


async def test_a_port_for_grpc_alone(pd: Terminal) -> None:
    async def settings_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        writer.close()

    server = await asyncio.start_server(settings_frame, "127.0.0.1", 0)
    pd.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    said = await pd("cluster")
    server.close()
    text = f"error: no PD answers: http://{pd.url}: not HTTP; give the URL of --status-addr, or start pd-py with --shared-port\n"
    assert (said.code, said.err) == (1, text)
