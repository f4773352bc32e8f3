"""What a playground consists of: instances with their ports, directories and command lines. Pure.

Ports are those of the public servers plus the offset: SQL 4000 and status 10080, PD 2379/2380 and status 2381 (more members
follow: 2382, 2385, ...), stores
20160+ and status 20180+. Settings that suit one machine (fast ticks, short heartbeats) are defaults under the user's
own configuration files.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core_py.errors import ConfigError

MAX_INSTANCES = 16
PD_COUNTS = (1, 3, 5)
PD_PORTS = 3  # ports a PD member takes: clients, other members, status

KV_DEFAULTS: dict[str, Any] = {
    "raftstore": {
        "raft-base-tick-interval": "100ms",
        "pd-heartbeat-tick-interval": "10s",
        "pd-store-heartbeat-tick-interval": "5s",
    },
    "storage": {"block-cache": {"capacity": "64MB"}},
}
PD_DEFAULTS: dict[str, Any] = {
    "tick-interval": "60ms",
    "election-interval": "600ms",
    "shared-port": True,  # curl and pd-ctl habits count more here than a TSO call's last tenth
    "schedule": {"patrol-region-interval": "100ms", "max-store-down-time": "10m"},
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    db: int = 1
    kv: int = 3
    pd: int = 1
    host: str = "127.0.0.1"
    port_offset: int = 0
    data_dir: Path = Path()
    db_config: dict[str, Any] = field(default_factory=dict)
    kv_config: dict[str, Any] = field(default_factory=dict)
    pd_config: dict[str, Any] = field(default_factory=dict)

    def validate(self) -> None:
        """Raises ConfigError for numbers out of range."""
        if self.pd not in PD_COUNTS:
            raise ConfigError(f"--pd {self.pd}: a playground has 1, 3 or 5 PD members")
        if not 1 <= self.kv <= MAX_INSTANCES:
            raise ConfigError(f"--kv {self.kv}: between 1 and {MAX_INSTANCES} stores can run in a playground")
        if not 0 <= self.db <= MAX_INSTANCES:
            raise ConfigError(f"--db {self.db}: between 0 and {MAX_INSTANCES} SQL servers can run in a playground")
        if not 0 <= self.port_offset <= 40_000:
            raise ConfigError(f"--port-offset {self.port_offset}: it must be between 0 and 40000")


@dataclass(frozen=True, slots=True)
class Instance:
    """One process to run."""

    role: str
    name: str
    address: str
    status_address: str
    ports: tuple[int, ...]
    config: dict[str, Any]
    arguments: tuple[str, ...]
    directory: Path

    def command(self, config_path: Path) -> list[str]:
        """The command line."""
        module = {"pd": "pd_py.server", "kv": "tikv_py.server", "db": "tidb_py.server"}[self.role]
        head = [sys.executable, "-m", module]
        if self.role == "db":
            head.append("server")
        return [*head, "--config", str(config_path), *self.arguments, "--log-file", str(self.log_file)]

    @property
    def log_file(self) -> Path:
        """Where its log goes."""
        return self.directory / f"{self.name}.log"


@dataclass(frozen=True, slots=True)
class Plan:
    """All instances, in the order they start."""

    host: str
    instances: tuple[Instance, ...]

    def by_role(self, role: str) -> list[Instance]:
        """The instances of one role."""
        return [instance for instance in self.instances if instance.role == role]

    @property
    def pd_address(self) -> str:
        """The client addresses of all PD members, as servers and clients take them."""
        return ",".join(instance.address for instance in self.by_role("pd"))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, table by table."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def make_plan(options: Options) -> Plan:
    """The playground for these options. Raises ConfigError."""
    options.validate()
    members = [_pd(options, number) for number in range(options.pd)]
    addresses = ",".join(member.address for member in members)
    stores = [_store(options, number, addresses) for number in range(options.kv)]
    servers = [_server(options, number, addresses) for number in range(options.db)]
    return Plan(options.host, (*members, *stores, *servers))


def _pd_ports(options: Options, number: int) -> tuple[int, int, int]:
    first = 2379 + PD_PORTS * number + options.port_offset
    return first, first + 1, first + 2


def _pd(options: Options, number: int) -> Instance:
    client, peer, status = _pd_ports(options, number)
    name, host = f"pd-{number}", options.host
    directory = options.data_dir / name
    cluster = ",".join(f"pd-{other}=http://{host}:{_pd_ports(options, other)[1]}" for other in range(options.pd))
    arguments = (
        *("--name", name, "--data-dir", str(directory / "data"), "--initial-cluster", cluster),
        *("--client-urls", f"http://{host}:{client}", "--peer-urls", f"http://{host}:{peer}"),
        *("--status-addr", f"{host}:{status}"),
    )
    config = merge(PD_DEFAULTS, options.pd_config)
    if options.kv < 3 and "replication" not in options.pd_config:
        config = merge(config, {"replication": {"max-replicas": 1}})
    ports = (client, peer, status)
    return Instance("pd", name, f"{host}:{client}", f"{host}:{status}", ports, config, arguments, directory)


def _store(options: Options, number: int, pd_address: str) -> Instance:
    port, status = 20160 + number + options.port_offset, 20180 + number + options.port_offset
    name = f"tikv-{number}"
    directory = options.data_dir / name
    host = options.host
    arguments = (
        *("--pd-endpoints", pd_address, "--addr", f"{host}:{port}", "--status-addr", f"{host}:{status}"),
        *("--data-dir", str(directory / "data")),
    )
    config = merge(KV_DEFAULTS, options.kv_config)
    return Instance("kv", name, f"{host}:{port}", f"{host}:{status}", (port, status), config, arguments, directory)


def _server(options: Options, number: int, pd_address: str) -> Instance:
    port, status = 4000 + number + options.port_offset, 10080 + number + options.port_offset
    name = f"tidb-{number}"
    host = options.host
    arguments = ("--path", pd_address, "--host", host, "-P", str(port), "--status", str(status))
    config = merge({"status": {"status-host": host}}, options.db_config)
    directory = options.data_dir / name
    return Instance("db", name, f"{host}:{port}", f"{host}:{status}", (port, status), config, arguments, directory)


def to_toml(table: dict[str, Any], prefix: str = "") -> str:
    """A table of plain values as TOML."""
    scalars = [f"{key} = {_literal(value)}\n" for key, value in table.items() if not isinstance(value, dict)]
    parts = ["".join(scalars)]
    for key, value in table.items():
        if isinstance(value, dict):
            path = f"{prefix}{key}"
            parts.append(f"\n[{path}]\n{to_toml(value, path + '.')}")
    return "".join(parts)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
