"""Commands about data: versions of keys, raw pairs, single values, compaction."""

from __future__ import annotations

from typing import Annotated

import typer

from tikv_py.ctl import options, render
from tikv_py.ctl.local import LocalTarget
from tikv_py.ctl.session import session_of
from tikv_py.ctl.target import Target
from tikv_py.debug.escape import escape, unescape
from tikv_py.engine.port import DATA_CFS
from tikv_py.mvcc.keys import TS_SIZE

app = typer.Typer()


@app.command()
def scan(
    context: typer.Context,
    start: options.FROM_KEY,
    end: options.TO_KEY = "",
    limit: Annotated[int, typer.Option("--limit", help="so many keys; 0 for all")] = 0,
    show_cf: options.SHOW_CF = "",
    start_ts: options.START_TS = None,
    commit_ts: options.COMMIT_TS = None,
) -> None:
    """Show keys of a range with all their versions. Data keys begin with z."""
    session = session_of(context)

    async def work(target: Target) -> None:
        cfs = options.families(show_cf, DATA_CFS)
        low, high = options.engine_range(start, end)
        async for item in target.scan_mvcc(low, high, limit):
            info = render.filtered(item.info, cfs, start_ts, commit_ts)
            if info.ByteSize():
                session.show(render.mvcc(item.key, info), render.mvcc_text(item.key, info))

    session.run(work)


@app.command()
def mvcc(
    context: typer.Context,
    key: Annotated[str, typer.Option("-k", "--key", help="data key, escaped, beginning with z")],
    show_cf: options.SHOW_CF = "",
    start_ts: options.START_TS = None,
    commit_ts: options.COMMIT_TS = None,
) -> None:
    """Show all versions of one key."""
    session = session_of(context)

    async def work(target: Target) -> None:
        cfs = options.families(show_cf, DATA_CFS)
        wanted = unescape(key)
        found = [item async for item in target.scan_mvcc(wanted, wanted + b"\xff" * (TS_SIZE + 1), 1)]
        shown = [render.filtered(item.info, cfs, start_ts, commit_ts) for item in found if item.key == wanted]
        if shown and shown[0].ByteSize():
            session.show(render.mvcc(wanted, shown[0]), render.mvcc_text(wanted, shown[0]))
        else:
            session.show({"key": escape(wanted)}, f"key: {escape(wanted)}\n\tno versions")

    session.run(work)


@app.command()
def raw_scan(
    context: typer.Context,
    start: options.FROM_KEY = "",
    end: options.TO_KEY = "",
    limit: Annotated[int, typer.Option("--limit", help="so many keys")] = 30,
    cf: options.CF = "default",
) -> None:
    """Show the engine's pairs as they are."""
    session = session_of(context)

    async def work(target: LocalTarget) -> None:
        low, high = options.engine_range(start, end)
        pairs = target.raw_scan(cf, low, high, limit)
        shown = [{"key": escape(key), "value": escape(value)} for key, value in pairs]
        lines = [f'key: "{one["key"]}", value: "{one["value"]}"' for one in shown]
        session.show(shown, "\n".join([*lines, f"total scanned keys: {len(shown)}"]))

    session.run_local("raw-scan", work)


@app.command(name="print")
def print_(context: typer.Context, key: options.KEY, cf: options.CF = "default", db: options.DB = "kv") -> None:
    """Show the value of one engine key."""
    session = session_of(context)

    async def work(target: Target) -> None:
        value = await target.get(options.database(db), cf, unescape(key))
        session.show({"key": key, "value": escape(value)}, f"value: {escape(value)}")

    session.run(work)


@app.command()
def compact(
    context: typer.Context,
    db: options.DB = "kv",
    cf: options.CF = "default",
    start: options.FROM_KEY = "",
    end: options.TO_KEY = "",
) -> None:
    """Rewrite a range of a database without what was deleted or overwritten."""
    session = session_of(context)

    async def work(target: Target) -> None:
        low, high = options.engine_range(start, end)
        await target.compact(options.database(db), cf, low, high)
        text = f'compacted {db}, family {cf}, range ["{escape(low)}", "{escape(high)}")'
        session.show({"db": db, "cf": cf, "from": escape(low), "to": escape(high)}, text)

    session.run(work)
