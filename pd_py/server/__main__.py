"""`pd-py`: the command line of a PD member."""

from __future__ import annotations

import os
import random
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry

from core_py.runtime import cli, lifecycle
from core_py.runtime.clock import SystemClock
from core_py.runtime.disk import DirectoryDisk
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.status_server import StatusServer
from core_py.runtime.workers import ThreadWorkers
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class PdProcess:
    """A member with its status port."""

    def __init__(self, settings: PdConfig, stopper: lifecycle.Stopper) -> None:
        self._registry = CollectorRegistry()
        self._workers = ThreadWorkers(1)
        self._settings = settings
        self._server = PdServer(
            settings,
            transport=GrpcTransport(settings.security.load()),
            disk=DirectoryDisk(settings.directory),
            workers=self._workers,
            clock=SystemClock(),
            rng=random.Random(os.urandom(16)),
            registry=self._registry,
            on_failure=stopper.request,
        )
        self._status: StatusServer | None = None

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        if self._settings.status_addr:
            self._status = StatusServer(self._registry, status=self._page, ready=lambda: True)
            await self._status.start(self._settings.status_addr)

    def _page(self) -> dict[str, Any]:
        cluster = self._server.cluster
        return {
            "name": self._settings.name,
            "cluster_id": 0 if cluster is None else cluster.cluster_id,
            "version": cli.RELEASE,
            "min_resolved_ts": 0 if cluster is None else cluster.min_resolved_ts(),
        }

    async def stop(self) -> None:
        """Stop."""
        if self._status is not None:
            await self._status.stop()
        await self._server.stop()
        self._workers.close()


@app.command()
def run(
    config_file: Annotated[str | None, typer.Option("--config", help="TOML configuration file")] = None,
    name: Annotated[str | None, typer.Option(help="name of this member")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="where metadata is kept")] = None,
    client_urls: Annotated[str | None, typer.Option("--client-urls", help="URL for clients")] = None,
    peer_urls: Annotated[str | None, typer.Option("--peer-urls", help="URL for other members")] = None,
    advertise_client_urls: Annotated[str | None, typer.Option("--advertise-client-urls")] = None,
    advertise_peer_urls: Annotated[str | None, typer.Option("--advertise-peer-urls")] = None,
    initial_cluster: Annotated[str | None, typer.Option("--initial-cluster", help="name=peer-url,...")] = None,
    initial_cluster_token: Annotated[str | None, typer.Option("--initial-cluster-token")] = None,
    join: Annotated[str | None, typer.Option(help="client URLs of a running cluster to join")] = None,
    status_addr: Annotated[str | None, typer.Option("--status-addr", help="host:port of /metrics and /status")] = None,
    log_level: Annotated[str | None, typer.Option("-L", "--log-level")] = None,
    log_file: Annotated[str | None, typer.Option("--log-file")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="check the configuration and exit")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="show the version and exit")] = False,
) -> None:
    """Run a PD member: timestamps, cluster metadata, scheduling."""
    if version:
        typer.echo(cli.version_text("pd-py"))
        return
    overrides = {
        "name": name,
        "data-dir": data_dir,
        "client-urls": client_urls,
        "peer-urls": peer_urls,
        "advertise-client-urls": advertise_client_urls,
        "advertise-peer-urls": advertise_peer_urls,
        "initial-cluster": initial_cluster,
        "initial-cluster-token": initial_cluster_token,
        "join": join,
        "status-addr": status_addr,
        "log.level": log_level,
        "log.file.filename": log_file,
    }
    cli.run_server(PdConfig, config_file, overrides, PdProcess, check_only=check_config)


def main() -> None:
    """Entry point."""
    app(prog_name="pd-py")


if __name__ == "__main__":
    main()
