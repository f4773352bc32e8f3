"""Commands about regions: their states, log and size, splitting and comparing them."""

from __future__ import annotations

from typing import Annotated

import typer

from core_py.errors import CodecError
from tikv_py.ctl import options, render
from tikv_py.ctl.remote import RemoteTarget
from tikv_py.ctl.session import session_of
from tikv_py.ctl.target import Target
from tikv_py.debug.escape import escape, unescape
from tikv_py.debug.inspect import BadQuestion
from tikv_py.engine.port import DATA_CFS
from tikv_py.raftstore import keys

app = typer.Typer()
raft = typer.Typer(help="What the store holds for raft.", no_args_is_help=True)
app.add_typer(raft, name="raft")


async def _wanted(target: Target, regions: str | None, *, everything: bool) -> list[int]:
    if everything == (regions is not None):
        raise BadQuestion("name regions with -r, or all of them with --all-regions")
    return list(await target.region_ids()) if regions is None else options.numbers(regions, "region id")


@raft.command()
def log(
    context: typer.Context,
    region: Annotated[int | None, typer.Option("-r", "--region", help="region id")] = None,
    index: Annotated[int | None, typer.Option("-i", "--index", help="index in the region's log")] = None,
    key: Annotated[
        str | None, typer.Option("-k", "--key", help="the entry's key in the raft database, escaped")
    ] = None,
) -> None:
    """Show a log entry."""
    session = session_of(context)

    async def work(target: Target) -> None:
        if key is not None and region is None and index is None:
            try:
                region_id, at = keys.decode_log_key(unescape(key))
            except CodecError as error:
                raise BadQuestion(error.message) from error
        elif key is None and region is not None and index is not None:
            region_id, at = region, index
        else:
            raise BadQuestion("name an entry with -r and -i, or with -k")
        entry = await target.raft_log(region_id, at)
        session.show(render.raft_entry(region_id, entry), render.raft_entry_text(region_id, entry))

    session.run(work)


@raft.command(name="region")
def region_(
    context: typer.Context,
    regions: Annotated[str | None, typer.Option("-r", "--regions", help="region ids with commas")] = None,
    all_regions: Annotated[bool, typer.Option("--all-regions", help="every region of the store")] = False,
    skip_tombstone: Annotated[bool, typer.Option("--skip-tombstone", help="not those that are gone")] = False,
) -> None:
    """Show the states of regions."""
    session = session_of(context)

    async def work(target: Target) -> None:
        found = []
        for region_id in await _wanted(target, regions, everything=all_regions):
            info = await target.region_info(region_id)
            if not (skip_tombstone and info.region_local_state.state == render.TOMBSTONE):
                found.append((region_id, info))
        session.show(
            [render.region(region_id, info) for region_id, info in found],
            "\n".join(render.region_text(region_id, info) for region_id, info in found),
        )

    session.run(work)


@app.command()
def size(
    context: typer.Context,
    regions: Annotated[str | None, typer.Option("-r", "--region", help="region ids with commas; all without")] = None,
    cfs: Annotated[str, typer.Option("-c", "--cf", help="column families with commas")] = "",
) -> None:
    """Count the bytes of regions. Reads all of their data."""
    session = session_of(context)

    async def work(target: Target) -> None:
        wanted = options.families(cfs, DATA_CFS)
        shown, lines = [], []
        for region_id in await _wanted(target, regions, everything=regions is None):
            entries = (await target.region_size(region_id, wanted)).entries
            shown.append({"region_id": region_id, "sizes": {entry.cf: entry.size for entry in entries}})
            lines.append(f"region id: {region_id}")
            lines += [f"cf {entry.cf} region size: {render.size_text(entry.size)}" for entry in entries]
        session.show(shown, "\n".join(lines))

    session.run(work)


@app.command()
def region_properties(context: typer.Context, region: options.REGION) -> None:
    """Count the rows and versions of a region. Reads all of its write records."""
    session = session_of(context)

    async def work(target: Target) -> None:
        found = {one.name: one.value for one in await target.region_properties(region)}
        session.show(found, "\n".join(f"{name}: {value}" for name, value in found.items()))

    session.run(work)


@app.command()
def split_region(
    context: typer.Context,
    region: options.REGION,
    key: Annotated[str, typer.Option("-k", "--key", help="user key where the right part begins, escaped")],
    raw: Annotated[bool, typer.Option("--raw", help="the key is one of raw data, not of transactions")] = False,
) -> None:
    """Split a region that this store leads."""
    session = session_of(context)

    async def work(target: RemoteTarget) -> None:
        parts = await target.split_region(region, unescape(key), is_raw=raw)
        shown = [
            {"region_id": part.id, "start_key": escape(part.start_key), "end_key": escape(part.end_key)}
            for part in parts
        ]
        text = [f'region {one["region_id"]}: ["{one["start_key"]}", "{one["end_key"]}")' for one in shown]
        session.show(shown, "\n".join(text))

    session.run_remote("split-region", work)


@app.command()
def consistency_check(context: typer.Context, region: options.REGION) -> None:
    """Compare the data of a region's replicas; this store must lead it. A replica that differs stops its process."""
    session = session_of(context)

    async def work(target: RemoteTarget) -> None:
        await target.check_consistency(region)
        text = f"the check of region {region} has begun; the stores' logs tell how it ends"
        session.show({"region_id": region, "begun": True}, text)

    session.run_remote("consistency-check", work)
