"""`tikv-py`: the command line of a storage node; `tikv-py ctl` looks into one."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import web
from prometheus_client import CollectorRegistry

from core_py.errors import DbError, StorageError
from core_py.runtime import cli, lifecycle
from core_py.runtime.clock import SystemClock, block
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.imports import refuse_unused
from core_py.runtime.log import get_logger
from core_py.runtime.status_server import StatusServer
from core_py.runtime.workers import ThreadWorkers
from tikv_py.ctl.app import app as ctl
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.engine.rocks import RocksEngine
from tikv_py.server.app import NodePorts, TikvServer
from tikv_py.server.config import TikvConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(ctl, name="ctl")
RAFT_CACHE_BYTES = 8 << 20
RAFT_MEMTABLES_BYTES = 48 << 20  # log entries live in memory anyway until they are applied


class TikvProcess:
    """A storage node on RocksDB with its status port."""

    def __init__(self, settings: TikvConfig, stopper: lifecycle.Stopper) -> None:
        self._failpoints = os.environ.get("FAILPOINTS", "")
        if self._failpoints:
            settings = replace(settings, debug=replace(settings.debug, failpoints=True))
        self._settings = settings
        self._registry = CollectorRegistry()
        self._workers = ThreadWorkers(settings.coprocessor.threads)
        directory = Path(settings.storage.data_dir)
        loop = asyncio.get_running_loop()

        def on_fault(error: StorageError) -> None:
            """A database failed somewhere, perhaps in a thread, perhaps for a caller that goes on: the process must not."""
            if not loop.is_closed():
                loop.call_soon_threadsafe(stopper.request, error)

        self._kv_db = RocksEngine(
            str(directory / "db"), cache_bytes=settings.storage.block_cache.capacity, on_fault=on_fault
        )
        self._raft_db = RocksEngine(
            str(directory / "raft"),
            (CF_DEFAULT,),
            cache_bytes=RAFT_CACHE_BYTES,
            memtables_bytes=RAFT_MEMTABLES_BYTES,
            on_fault=on_fault,
        )
        ports = NodePorts(
            transport=GrpcTransport(),
            raft_db=self._raft_db,
            kv_db=self._kv_db,
            workers=self._workers,
            clock=SystemClock(),
            rng=random.Random(os.urandom(16)),
            disk_use=lambda: _disk_use(directory),
            block=block,
        )
        self._server = TikvServer(settings, ports, registry=self._registry, on_failure=stopper.request)
        self._status: StatusServer | None = None

    async def start(self) -> None:
        """Serve."""
        try:
            self._server.fail.configure_all(self._failpoints)
            if self._settings.debug.failpoints:
                get_logger().warn("anybody on the network may arm failpoints", armed=str(self._server.fail.list()))
            await self._server.start()
            address = self._settings.server.status_addr
            if address:
                self._status = StatusServer(
                    self._registry, status=self._page, ready=lambda: self._server.store is not None
                )
                self._status.add_route("GET", "/region/{id}", self._region)
                await self._status.start(address)
        except DbError:
            await self.stop()
            raise

    def _page(self) -> dict[str, Any]:
        store = self._server.store
        peers = [] if store is None else list(store.peers.values())
        return {
            "version": cli.RELEASE,
            "store_id": 0 if store is None else store.store_id,
            "address": self._server.address,
            "regions": len(peers),
            "awake": 0 if store is None else len(store.hibernation.awake),
            "leaders": sum(peer.is_leader for peer in peers),
        }

    async def _region(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        store = self._server.store
        peer = store.peers.get(int(text)) if store is not None and text.isdigit() else None
        if peer is None:
            return web.json_response({"error": f"region {text} is not on this store"}, status=404)
        region, status = peer.region, peer.node.status()
        page = {
            "id": region.id,
            "start_key": region.start_key.hex(),
            "end_key": region.end_key.hex(),
            "epoch": {"conf_ver": region.region_epoch.conf_ver, "version": region.region_epoch.version},
            "peers": [{"id": one.id, "store_id": one.store_id, "role": one.role} for one in region.peers],
            "role": status.role.value,
            "term": status.hard_state.term,
            "leader": status.leader_id,
            "applied": status.applied,
            "last_index": status.last_index,
            "progress": dict(status.progress),
        }
        return web.json_response(page)

    async def stop(self) -> None:
        """Stop, then close the databases."""
        if self._status is not None:
            await self._status.stop()
        await self._server.stop()
        self._workers.close()
        self._raft_db.close()
        self._kv_db.close()


def _disk_use(directory: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(directory)
    return usage.total, usage.free


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    config_file: Annotated[str | None, typer.Option("--config", "-C", help="TOML configuration file")] = None,
    pd_endpoints: Annotated[
        str | None, typer.Option("--pd-endpoints", "--pd", help="PD addresses, comma-separated")
    ] = None,
    addr: Annotated[str | None, typer.Option("--addr", "-A", help="host:port to listen on")] = None,
    advertise_addr: Annotated[str | None, typer.Option("--advertise-addr", help="host:port others connect to")] = None,
    status_addr: Annotated[str | None, typer.Option("--status-addr", help="host:port of the status pages")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", "-s", help="where data is kept")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="key=value,... for placement")] = None,
    log_level: Annotated[str | None, typer.Option("-L", "--log-level")] = None,
    log_file: Annotated[str | None, typer.Option("--log-file", "-f")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="check the configuration and exit")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="show the version and exit")] = False,
) -> None:
    """Run a storage node: replicated regions on RocksDB, transactions, push-down."""
    if context.invoked_subcommand is not None:
        return
    if version:
        typer.echo(cli.version_text("tikv-py"))
        return
    overrides = {
        "pd.endpoints": pd_endpoints,
        "server.addr": addr,
        "server.advertise-addr": advertise_addr,
        "server.status-addr": status_addr,
        "server.labels": labels,
        "storage.data-dir": data_dir,
        "log.level": log_level,
        "log.file.filename": log_file,
    }
    cli.run_server(TikvConfig, config_file, overrides, TikvProcess, check_only=check_config)


def main() -> None:
    """Entry point."""
    refuse_unused()
    app(prog_name="tikv-py")


if __name__ == "__main__":
    main()
