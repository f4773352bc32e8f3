"""The small commands: cluster, health, hot, label, log, ping, tso, safe points, resolved timestamps, unsafe."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from core_py.codec import ts as tso_codec
from pd_py.api import go_text
from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import fail, part, session_of, whole

app = typer.Typer()
cluster_app = typer.Typer(cls=ShowsByDefault, help="Show the cluster's id and number of replicas.")
hot_app = typer.Typer(help="Show where the flow goes.")
label_app = typer.Typer(cls=ShowsByDefault, help="Show the labels of stores.")
gc_app = typer.Typer(cls=ShowsByDefault, help="Show what holds garbage collection back.")
STORES = Annotated[list[str] | None, typer.Argument(metavar="[<store_id> ...]")]
app.add_typer(cluster_app, name="cluster")
app.add_typer(hot_app, name="hot")
app.add_typer(label_app, name="label")
app.add_typer(gc_app, name="service-gc-safepoint")
app.add_typer(gc_app, name="gc-safepoint", hidden=True)
LEVELS = ("fatal", "error", "warn", "info", "debug")


@cluster_app.command(DEFAULT, hidden=True)
def cluster(context: typer.Context) -> None:
    """Show the cluster."""
    session_of(context).show("/cluster")


@cluster_app.command()
def status(context: typer.Context) -> None:
    """Show since when there is a cluster, and whether its first data is replicated."""
    session_of(context).show("/cluster/status")


@app.command()
def health(context: typer.Context) -> None:
    """Show which members of PD answer."""
    session_of(context).show("/health")


def _hot(context: typer.Context, kind: str, stores: list[str] | None) -> None:
    query = "&".join(f"store_id={whole(store, 'store id')}" for store in stores or [])
    session_of(context).show(f"/hotspot/regions/{kind}" + (f"?{query}" if query else ""))


@hot_app.command()
def read(context: typer.Context, stores: STORES = None) -> None:
    """Regions that are read much."""
    _hot(context, "read", stores)


@hot_app.command()
def write(context: typer.Context, stores: STORES = None) -> None:
    """Regions that are written much."""
    _hot(context, "write", stores)


@hot_app.command()
def store(context: typer.Context) -> None:
    """The flow of stores."""
    session_of(context).show("/hotspot/stores")


@label_app.command(DEFAULT, hidden=True)
def label(context: typer.Context) -> None:
    """Show all labels."""
    session_of(context).show("/labels")


@label_app.command("store")
def label_store(context: typer.Context, name: str, value: Annotated[str, typer.Argument()] = "") -> None:
    """Show the stores with a label."""
    session_of(context).show(f"/labels/stores?name={part(name)}&value={part(value)}")


@app.command()
def log(context: typer.Context, level: str) -> None:
    """Set the level of PD's log: fatal, error, warn, info or debug."""
    if level.lower() not in LEVELS:
        fail(f"unknown log level {level}")
    session_of(context).post("/admin/log", level.lower())


@app.command()
def ping(context: typer.Context) -> None:
    """Say how long PD takes to answer."""
    began = time.perf_counter()
    session_of(context).ask("/ping")
    typer.echo(f"time: {go_text.duration(round(time.perf_counter() - began, 6))}")


@app.command()
def tso(timestamp: str) -> None:
    """Take a timestamp apart: wall time and counter."""
    value = whole(timestamp, "timestamp")
    if value >= 1 << 64:
        fail("timestamp should fit into 64 bits")
    physical_ms = tso_codec.physical_ms(value)
    if physical_ms >= 253_402_300_800_000:
        fail(f"{value} is no timestamp of this era")
    typer.echo(f"system:  {go_text.timestamp(physical_ms)}")
    typer.echo(f"logic:   {tso_codec.logical(value)}")


@gc_app.command(DEFAULT, hidden=True)
def safe_points(context: typer.Context) -> None:
    """Show the safe points of GC and of services."""
    session_of(context).show("/gc/safepoint")


@gc_app.command("delete")
def delete_safe_point(context: typer.Context, service_id: str) -> None:
    """Forget what a service holds."""
    session_of(context).delete(f"/gc/safepoint/{part(service_id)}")


@app.command("min-resolved-ts")
def min_resolved_ts(context: typer.Context) -> None:
    """Show up to which timestamp all replicas can be read."""
    session_of(context).show("/min-resolved-ts")


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def unsafe(arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """Not there: recovering without a majority is done store by store."""
    fail(
        f"unsafe {' '.join(arguments or [])}: PD does not recover regions that lost their majority. Stop the stores that are left "
        "and use `tikv-py ctl --data-dir DIRECTORY unsafe-recover remove-fail-stores -s IDS --all-regions` on each of them"
    )
