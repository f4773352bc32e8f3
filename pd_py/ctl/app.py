"""The command line, put together.

pd-py ctl -u http://127.0.0.1:2379 store
pd-py ctl -u http://127.0.0.1:2379 operator add transfer-leader 1 2
pd-py ctl -i
"""

from __future__ import annotations

from typing import Annotated

import typer

from core_py.runtime import cli
from pd_py.ctl import cluster, config, interactive, members, operators, regions, schedulers, stores
from pd_py.ctl.client import TlsFiles
from pd_py.ctl.session import Output, Session

DEFAULT_PD = "http://127.0.0.1:2379"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Ask and operate a cluster through PD.")
app.registered_commands += cluster.app.registered_commands
app.registered_groups += cluster.app.registered_groups
for group, name in (
    (config.app, "config"),
    (members.app, "member"),
    (operators.app, "operator"),
    (regions.app, "region"),
    (schedulers.app, "scheduler"),
    (stores.app, "store"),
):
    app.add_typer(group, name=name)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    pd: Annotated[str, typer.Option("--pd", "-u", help="URLs of PD members, with commas")] = DEFAULT_PD,
    cacert: Annotated[str, typer.Option("--cacert", envvar="CA_PATH", help="trusted certificates, PEM")] = "",
    cert: Annotated[str, typer.Option("--cert", envvar="CERT_PATH", help="own certificate, PEM")] = "",
    key: Annotated[str, typer.Option("--key", envvar="KEY_PATH", help="own key, PEM")] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="json or table")] = Output.JSON,
    interact: Annotated[bool, typer.Option("--interact", "-i", help="read commands from the terminal")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="show the version and exit")] = False,
) -> None:
    """Ask and operate a cluster through PD."""
    if version:
        typer.echo(cli.version_text("pd-py ctl"))
        raise typer.Exit
    urls = tuple(url.strip() for url in pd.split(",") if url.strip())
    context.obj = Session(urls, TlsFiles(cacert, cert, key), output)
    if interact:
        options = ["--pd", pd, "--cacert", cacert, "--cert", cert, "--key", key, "--output", output.value]
        interactive.loop(lambda arguments: app([*options, *arguments], prog_name="pd-py ctl"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
