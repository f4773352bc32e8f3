"""Commands about a whole cluster: they ask PD where its regions are."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from core_py.errors import DbError
from core_py.runtime import cli, log
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from tikv_py.client.pd.client import PdClient
from tikv_py.ctl import options
from tikv_py.ctl.cluster_flashback import FlashbackRange, flash_back
from tikv_py.ctl.session import session_of
from tikv_py.debug.escape import unescape
from tikv_py.gc.region_calls import RegionCalls
from tikv_py.raftstore.router import StoreCalls

app = typer.Typer()


@app.command()
def flashback(
    context: typer.Context,
    version: Annotated[int, typer.Option("-v", "--version", help="timestamp to go back to")],
    pd: Annotated[str, typer.Option("--pd", help="PD's addresses, with commas")],
    start: Annotated[str, typer.Option("--start", help="first user key, escaped")] = "",
    end: Annotated[str, typer.Option("--end", help="user key to stop before, escaped; none for all that follow")] = "",
    start_ts: Annotated[int | None, typer.Option("--start-ts", help="of a run that was broken off")] = None,
) -> None:
    """Set a range of the cluster back to what it was. It takes no reads and writes meanwhile."""
    session = session_of(context)

    log.setup(log.LogConfig(level="warn"))

    async def main() -> None:
        wanted = FlashbackRange(unescape(start), unescape(end), version)
        transport, clock = GrpcTransport(), SystemClock()
        client = await PdClient.open(transport, options.names(pd), clock)

        async def address_of(store_id: int) -> str:
            return (await client.get_store(store_id)).address

        calls = RegionCalls(client, StoreCalls(transport, address_of), clock)
        try:
            regions = await flash_back(client, calls, wanted, start_ts, lambda text: typer.echo(text, err=True))
        finally:
            await calls.close()
            await client.close()
        session.show({"regions": regions}, f"{regions} regions are as they were at {version}")

    try:
        asyncio.run(main())
    except DbError as error:
        cli.fail(error)
