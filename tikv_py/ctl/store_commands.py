"""Commands about the store itself: who it is, its metrics, failpoints, and repairs while it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from tikv_py.ctl import options
from tikv_py.ctl.local import LocalTarget
from tikv_py.ctl.remote import RemoteTarget
from tikv_py.ctl.session import session_of
from tikv_py.ctl.target import Target
from tikv_py.debug import recovery
from tikv_py.debug.inspect import BadQuestion
from tikv_py.failpoints import POINTS

app = typer.Typer()
fail = typer.Typer(help="Failpoints of a running store. For tests, never on data that matters.", no_args_is_help=True)
unsafe = typer.Typer(help="Last resorts on a stopped store. They lose data.", no_args_is_help=True)
app.add_typer(fail, name="fail")
app.add_typer(unsafe, name="unsafe-recover")


@app.command()
def store(context: typer.Context) -> None:
    """Show the store's id."""
    session = session_of(context)

    async def work(target: Target) -> None:
        store_id = await target.store_id()
        session.show({"store_id": store_id}, f"store id: {store_id}")

    session.run(work)


@app.command()
def cluster(context: typer.Context) -> None:
    """Show the id of the store's cluster."""
    session = session_of(context)

    async def work(target: Target) -> None:
        cluster_id = await target.cluster_id()
        session.show({"cluster_id": cluster_id}, f"cluster id: {cluster_id}")

    session.run(work)


@app.command()
def metrics(context: typer.Context) -> None:
    """Show the store's metrics in Prometheus's text form."""
    session = session_of(context)

    async def work(target: RemoteTarget) -> None:
        text = await target.metrics()
        session.show({"prometheus": text}, text.rstrip())

    session.run_remote("metrics", work)


@fail.command()
def inject(
    context: typer.Context,
    points: Annotated[list[str], typer.Argument(help="name=actions, e.g. 'raft_message_send=50%return->delay(10)'")],
) -> None:
    """Arm failpoints. The store must allow it: failpoints = true under [debug] in its configuration, or FAILPOINTS set."""
    session = session_of(context)

    async def work(target: RemoteTarget) -> None:
        parts = [one.partition("=") for one in points]
        wrong = next((name for name, equals, _ in parts if not equals), None)
        if wrong is not None:
            raise BadQuestion(f"{wrong!r} is not of the form name=actions")
        for name, _, actions in parts:
            await target.inject(name, actions)
        session.show({name: actions for name, _, actions in parts}, "\n".join(points))

    session.run_remote("fail", work)


@fail.command()
def recover(
    context: typer.Context,
    points: Annotated[list[str] | None, typer.Argument(help="names; all armed ones without")] = None,
) -> None:
    """Disarm failpoints."""
    session = session_of(context)

    async def work(target: RemoteTarget) -> None:
        wanted = points or [name for name, _ in await target.failpoints()]
        for name in wanted:
            await target.recover(name)
        session.show(wanted, "\n".join(f"{name}: off" for name in wanted) or "no failpoint is armed")

    session.run_remote("fail", work)


@fail.command(name="list")
def list_(
    context: typer.Context,
    all_points: Annotated[bool, typer.Option("--all", help="all there are, with what they do")] = False,
) -> None:
    """Show the armed failpoints."""
    session = session_of(context)
    if all_points:
        shown = {name: point.where for name, point in sorted(POINTS.items())}
        session.show(shown, "\n".join(f"{name}: {where}" for name, where in shown.items()))
        return

    async def work(target: RemoteTarget) -> None:
        armed = await target.failpoints()
        text = "\n".join(f"{name}={actions}" for name, actions in armed)
        session.show(dict(armed), text or "no failpoint is armed")

    session.run_remote("fail", work)


@app.command()
def bad_regions(context: typer.Context) -> None:
    """Find regions that would not start."""
    session = session_of(context)

    async def work(target: LocalTarget) -> None:
        bad = recovery.bad_regions(target.inspector)
        text = "\n".join(f"region {one.region_id}: {one.reason}" for one in bad)
        session.show({str(one.region_id): one.reason for one in bad}, text or "all regions are healthy")

    session.run_local("bad-regions", work)


@unsafe.command()
def remove_fail_stores(
    context: typer.Context,
    stores: Annotated[str, typer.Option("-s", "--stores", help="ids of the failed stores, with commas")],
    regions: Annotated[str | None, typer.Option("-r", "--regions", help="region ids with commas")] = None,
    all_regions: Annotated[bool, typer.Option("--all-regions", help="every region of the store")] = False,
    force: Annotated[bool, typer.Option("--force", help="also regions that still have their majority")] = False,
) -> None:
    """Give up the replicas on failed stores, where they were the majority. Run it on every store that is left."""
    session = session_of(context)

    async def work(target: LocalTarget) -> None:
        if all_regions == (regions is not None):
            raise BadQuestion("name regions with -r, or all of them with --all-regions")
        wanted = None if regions is None else options.numbers(regions, "region id")
        failed = options.numbers(stores, "store id")
        done = recovery.remove_failed_stores(target.inspector, failed, wanted, force=force)
        shown = [{"region_id": one.region_id, "changed": one.changed, "text": one.text} for one in done]
        session.show(shown, "\n".join(f"region {one.region_id}: {one.text}" for one in done) or "no region is here")
        if regions is not None and not all(one.changed for one in done):
            raise BadQuestion("not every region that was named has been changed")

    session.run_local("unsafe-recover", work)
