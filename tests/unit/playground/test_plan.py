"""What a playground consists of, without starting one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from core_py.errors import ConfigError
from core_py.runtime.config import from_table
from pd_py.server.config import PdConfig
from tidb_py.playground.plan import Options, make_plan, merge, to_toml
from tidb_py.server.config import TidbConfig
from tikv_py.server.config import TikvConfig


def test_ports_are_the_public_ones_plus_the_offset() -> None:
    plan = make_plan(Options(db=2, kv=3, port_offset=100, data_dir=Path("d")))
    assert [i.address for i in plan.by_role("db")] == ["127.0.0.1:4100", "127.0.0.1:4101"]
    assert [i.status_address for i in plan.by_role("db")] == ["127.0.0.1:10180", "127.0.0.1:10181"]
    assert plan.pd_address == "127.0.0.1:2479"
    assert [i.address for i in plan.by_role("kv")] == ["127.0.0.1:20260", "127.0.0.1:20261", "127.0.0.1:20262"]
    ports = [port for instance in plan.instances for port in instance.ports]
    assert len(ports) == len(set(ports))


def test_pd_members_know_each_other_and_servers_know_them_all() -> None:
    plan = make_plan(Options(pd=3, data_dir=Path("d")))
    assert plan.pd_address == "127.0.0.1:2379,127.0.0.1:2382,127.0.0.1:2385"
    clusters = {i.arguments[i.arguments.index("--initial-cluster") + 1] for i in plan.by_role("pd")}
    assert clusters == {"pd-0=http://127.0.0.1:2380,pd-1=http://127.0.0.1:2383,pd-2=http://127.0.0.1:2386"}
    assert plan.pd_address in plan.by_role("kv")[0].arguments
    ports = [port for instance in plan.instances for port in instance.ports]
    assert len(ports) == len(set(ports))


def test_generated_configurations_are_valid_for_their_servers() -> None:
    plan = make_plan(Options(data_dir=Path("d"), kv_config={"raftstore": {"raft-log-gc-threshold": 7}}))
    kinds = {"pd": PdConfig, "kv": TikvConfig, "db": TidbConfig}
    for instance in plan.instances:
        table = tomllib.loads(to_toml(instance.config))
        assert table == instance.config
        settings: object = from_table(kinds[instance.role], table)
        if isinstance(settings, TikvConfig):
            assert settings.raftstore.raft_log_gc_threshold == 7
            assert settings.raftstore.raft_base_tick_interval == 0.1, "the user's table is laid over the defaults"


def test_few_stores_mean_one_replica_unless_the_user_says_otherwise() -> None:
    assert make_plan(Options(kv=1, data_dir=Path("d"))).by_role("pd")[0].config["replication"] == {"max-replicas": 1}
    wanted = {"replication": {"max-replicas": 3}}
    assert (
        make_plan(Options(kv=1, data_dir=Path("d"), pd_config=wanted)).by_role("pd")[0].config["replication"]
        == wanted["replication"]
    )


@pytest.mark.parametrize(
    "options", [Options(pd=2), Options(kv=0), Options(kv=99), Options(db=-1), Options(port_offset=-5)]
)
def test_impossible_wishes_are_refused(options: Options) -> None:
    with pytest.raises(ConfigError):
        make_plan(options)


def test_toml_keeps_every_kind_of_value() -> None:
    table = {"a": 1, "b": True, "c": 1.5, "d": 'quo"te\\', "e": ["x", "y"], "t": {"u": {"v": "w"}}}
    assert tomllib.loads(to_toml(table)) == table
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
