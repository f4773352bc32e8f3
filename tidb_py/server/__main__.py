"""`tidb-py`: the command line of the SQL front and of the playground.

Each command imports what it needs when it runs: a playground does not carry the SQL server's libraries.
"""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from core_py.runtime import cli
from core_py.runtime.imports import refuse_unused

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(cli.version_text("tidb-py"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", "-V", help="show the version and exit", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """tidb-py: a distributed SQL database."""


@app.command()
def server(
    config_file: Annotated[str | None, typer.Option("--config", help="TOML configuration file")] = None,
    path: Annotated[str | None, typer.Option("--path", help="PD addresses, comma-separated")] = None,
    host: Annotated[str | None, typer.Option("--host", help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option("--port", "-P", help="port to listen on")] = None,
    status: Annotated[int | None, typer.Option("--status", help="port of the status pages")] = None,
    log_level: Annotated[str | None, typer.Option("-L", "--log-level")] = None,
    log_file: Annotated[str | None, typer.Option("--log-file")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="check the configuration and exit")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="show the version and exit")] = False,
) -> None:
    """Run a SQL server: MySQL protocol in front, PD and stores behind."""
    if version:
        typer.echo(cli.version_text("tidb-py"))
        return
    overrides = {
        "path": path,
        "host": host,
        "port": port,
        "status.status-port": status,
        "log.level": log_level,
        "log.file.filename": log_file,
    }
    refuse_unused()
    process = importlib.import_module("tidb_py.server.process")
    process.run(config_file, overrides, check_only=check_config)


@app.command()
def playground(
    db: Annotated[int, typer.Option("--db", help="number of SQL servers")] = 1,
    kv: Annotated[int, typer.Option("--kv", help="number of stores")] = 3,
    pd: Annotated[int, typer.Option("--pd", help="number of PD members")] = 1,
    host: Annotated[str, typer.Option("--host", help="address everything listens on")] = "127.0.0.1",
    port_offset: Annotated[int, typer.Option("--port-offset", help="added to every port")] = 0,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="keep the data in this directory")] = None,
    tag: Annotated[str | None, typer.Option("--tag", "-T", help="keep the data under this name")] = None,
    db_config: Annotated[str | None, typer.Option("--db.config", help="TOML file for the SQL servers")] = None,
    kv_config: Annotated[str | None, typer.Option("--kv.config", help="TOML file for the stores")] = None,
    pd_config: Annotated[str | None, typer.Option("--pd.config", help="TOML file for PD")] = None,
    without_monitor: Annotated[bool, typer.Option("--without-monitor", help="do not start Prometheus")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the ready block as one line of JSON")] = False,
) -> None:
    """Run a whole cluster on this machine; Ctrl-C stops it."""
    command = importlib.import_module("tidb_py.playground.command")
    request = command.PlaygroundRequest(
        db=db,
        kv=kv,
        pd=pd,
        host=host,
        port_offset=port_offset,
        data_dir=data_dir,
        tag=tag,
        db_config=db_config,
        kv_config=kv_config,
        pd_config=pd_config,
        without_monitor=without_monitor,
        json=as_json,
    )
    raise SystemExit(command.run(request))


def main() -> None:
    """Entry point."""
    app(prog_name="tidb-py")


if __name__ == "__main__":
    main()
