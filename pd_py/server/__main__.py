"""The command line of a PD member (`pd-py`)."""

from __future__ import annotations

import os
import random
from typing import Annotated, Any

import typer
from aiohttp import web
from prometheus_client import CollectorRegistry

from core_py.ports import Listener, Transport
from core_py.runtime import cli, lifecycle, log
from core_py.runtime.clock import SystemClock
from core_py.runtime.disk import DirectoryDisk
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.port_front import SharedPortTransport, serve_http
from core_py.runtime.status_server import StatusPages
from core_py.runtime.workers import ThreadWorkers
from pd_py.api.app import application
from pd_py.api.wiring import Surroundings, backend_of
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
STOP_GRACE_S = 0.5
MAX_REQUEST_BYTES = 64 << 20  # many times what any request of a client or member comes to


class PdProcess:
    """A member with its pages: the HTTP API, metrics, status."""

    def __init__(self, settings: PdConfig, stopper: lifecycle.Stopper) -> None:
        registry = CollectorRegistry()
        self._workers = ThreadWorkers(2)
        self._settings = settings
        clock = SystemClock()
        transport: Transport = GrpcTransport(settings.security.load(), max_request_bytes=MAX_REQUEST_BYTES)
        around = Surroundings(
            settings.name,
            clock,
            transport,
            own_settings=settings.public,
            set_log_level=log.set_level,
            leader_urls=lambda: self._server.leader_http_urls(),  # noqa: PLW0108 it is made below
        )
        self._backend = backend_of(around, lambda: self._server.directory, lambda: self._server.changes)
        self._pages = StatusPages(registry, status=self._page, ready=lambda: self._server.is_ready)
        self._server = PdServer(
            settings,
            transport=self._shared(transport) if settings.shared_port else transport,
            disk=DirectoryDisk(settings.directory),
            workers=self._workers,
            clock=clock,
            rng=random.Random(os.urandom(16)),
            registry=registry,
            on_failure=stopper.request,
        )
        self._http: Listener | None = None

    def _application(self) -> web.Application:
        return self._pages.add_to(application(self._backend, client_tls=self._settings.security.client_context()))

    def _shared(self, transport: Transport) -> Transport:
        security = self._settings.security
        return SharedPortTransport(
            transport, self._settings.listen_address, self._application, tls=security.server_context()
        )

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        if self._settings.status_addr:
            self._http = await serve_http(
                self._settings.status_addr, self._application(), tls=self._settings.security.server_context()
            )
        if not self._settings.shared_port and self._http is not None:
            scheme = "https" if self._settings.security.cacert_path else "http"
            self._server.publish_http(f"{scheme}://{self._settings.advertise_status_addr or self._http.address}")

    def _page(self) -> dict[str, Any]:
        cluster = self._server.cluster
        return {
            "name": self._settings.name,
            "cluster_id": self._server.directory.cluster_id,
            "is_leader": cluster is not None,
            "version": cli.RELEASE,
            "min_resolved_ts": 0 if cluster is None else cluster.min_resolved_ts(),
        }

    async def stop(self) -> None:
        """Stop."""
        await self._server.resign()
        if self._http is not None:
            await self._http.stop(STOP_GRACE_S)
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
    status_addr: Annotated[
        str | None, typer.Option("--status-addr", help="host:port of the HTTP API and /metrics")
    ] = None,
    shared_port: Annotated[bool | None, typer.Option(help="serve HTTP on the client port, too")] = None,
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
        "shared-port": shared_port,
        "log.level": log_level,
        "log.file.filename": log_file,
    }
    cli.run_server(PdConfig, config_file, overrides, PdProcess, check_only=check_config)


def main() -> None:
    """Entry point."""
    app(prog_name="pd-py")


if __name__ == "__main__":
    main()
