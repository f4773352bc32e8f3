"""`tikv-py ctl`: the command line, put together. Spelling follows the public tikv-ctl.

tikv-py ctl --host 127.0.0.1:20160 raft region --all-regions
tikv-py ctl --data-dir /data/tikv bad-regions
tikv-py ctl --to-escaped 7a01ff
"""

from __future__ import annotations

from typing import Annotated

import typer

from core_py.errors import DbError
from core_py.runtime import cli
from tikv_py.ctl import cluster_commands, data_commands, region_commands, store_commands
from tikv_py.ctl.session import Session
from tikv_py.debug.escape import BadKeyText, escape, unescape
from tikv_py.mvcc.keys import data_key, user_key

app = typer.Typer(help="Look into a store, or repair a stopped one.")
for part in (region_commands, data_commands, store_commands, cluster_commands):
    app.registered_commands += part.app.registered_commands
    app.registered_groups += part.app.registered_groups


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="address of a running store")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="data directory of a stopped store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="answer in JSON, one value per line")] = False,
    to_hex: Annotated[str | None, typer.Option("--to-hex", help="print an escaped key in hex")] = None,
    to_escaped: Annotated[str | None, typer.Option("--to-escaped", help="print a hex key escaped")] = None,
    encode: Annotated[str | None, typer.Option("--encode", help="print the data key of an escaped user key")] = None,
    decode: Annotated[str | None, typer.Option("--decode", help="print the user key of an escaped data key")] = None,
) -> None:
    """Look into a store, or repair a stopped one."""
    context.obj = Session(host, data_dir, as_json)
    try:
        converted = _converted(to_hex, to_escaped, encode, decode)
    except DbError as error:
        cli.fail(error)
    if converted is not None:
        typer.echo(converted)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def _converted(to_hex: str | None, to_escaped: str | None, encode: str | None, decode: str | None) -> str | None:
    """What one of the key conversions prints, None when none is asked for. Raises BadKeyText, CodecError."""
    if to_hex is not None:
        return unescape(to_hex).hex().upper()
    if to_escaped is not None:
        try:
            return escape(bytes.fromhex(to_escaped))
        except ValueError as error:
            raise BadKeyText(f"{to_escaped!r} is not in hex") from error
    if encode is not None:
        return escape(data_key(unescape(encode)))
    if decode is not None:
        return escape(user_key(unescape(decode)))
    return None
