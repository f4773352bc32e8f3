"""`region`: looking at regions. Keys are given as they are, in hex, or with escapes (`--format`)."""

from __future__ import annotations

import enum
import re
from typing import Annotated
from urllib.parse import quote_from_bytes

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import fail, part, session_of, whole

app = typer.Typer(cls=ShowsByDefault, help="Show the regions, or one by its id.")
PAGE = 1024
LIMIT = Annotated[str, typer.Argument(metavar="[<limit>]")]
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|([abfnrtv\\'\"]))")
_LETTERS = dict(zip(b"abfnrtv\\'\"", b"\a\b\f\n\r\t\v\\'\"", strict=True))


class Format(enum.Enum):
    """How a key is written."""

    RAW = "raw"
    ENCODE = "encode"
    HEX = "hex"


FORMAT = Annotated[Format, typer.Option("--format", help="raw, hex, or encode: with escapes like \\x01 and \\000")]


def key_of(text: str, form: Format) -> bytes:
    """A key as typed; ends the command when it cannot be read."""
    raw = text.encode("utf-8", "surrogateescape")
    if form is Format.HEX:
        try:
            return bytes.fromhex(text)
        except ValueError:
            fail(f"key {text} is not in hex")
    if form is Format.ENCODE:
        if b"\\" in _ESCAPE.sub(b"", raw):
            fail(f"key {text} holds an unknown escape")
        return _ESCAPE.sub(_unescaped, raw)
    return raw


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return bytes([int(match[2], 8) & 0xFF]) if match[2] else bytes([_LETTERS[match[3][0]]])


@app.command(DEFAULT, hidden=True)
def show(context: typer.Context, region_id: Annotated[str | None, typer.Argument()] = None) -> None:
    """Show all regions, or one."""
    session = session_of(context)
    session.show("/regions" if region_id is None else f"/region/id/{whole(region_id, 'region_id')}")


@app.command()
def key(context: typer.Context, key: str, form: FORMAT = Format.RAW) -> None:
    """Show the region that holds a key."""
    session_of(context).show(f"/region/key/{key_of(key, form).hex()}?format=hex")


@app.command()
def keys(
    context: typer.Context,
    start_key: str,
    end_key: Annotated[str, typer.Argument()] = "",
    limit: LIMIT = "16",
    form: FORMAT = Format.RAW,
) -> None:
    """Show the regions of a key range."""
    start, end = key_of(start_key, form), key_of(end_key, form)
    query = f"key={quote_from_bytes(start, '')}&end_key={quote_from_bytes(end, '')}&limit={whole(limit, 'limit')}"
    session_of(context).show(f"/regions/key?{query}")


@app.command()
def scan(context: typer.Context) -> None:
    """Show all regions in key order, asked for piece by piece."""
    session = session_of(context)
    found: list[object] = []
    start = ""
    while True:
        page = session.ask(f"/regions/key?format=hex&key={start}&limit={PAGE}")["regions"]
        found += page
        start = page[-1]["end_key"] if page else ""
        if not start:
            break
    session.print({"count": len(found), "regions": found})


@app.command()
def store(
    context: typer.Context,
    store_id: str,
    kind: Annotated[str, typer.Option("--type", help="leader, learner...")] = "all",
) -> None:
    """Show the regions of a store."""
    session_of(context).show(f"/regions/store/{whole(store_id, 'store_id')}?type={part(kind)}")


@app.command()
def sibling(context: typer.Context, region_id: str) -> None:
    """Show the regions on both sides of one."""
    session_of(context).show(f"/regions/sibling/{whole(region_id, 'region_id')}")


@app.command()
def check(context: typer.Context, state: str, bound: Annotated[str, typer.Argument()] = "") -> None:
    """Show the regions in a state (miss-peer, down-peer, ...), or a histogram (hist-size, hist-keys)."""
    query = f"?bound={whole(bound, 'bound')}" if bound else ""
    session_of(context).show(f"/regions/check/{part(state)}{query}")


@app.command("range-holes")
def range_holes(context: typer.Context) -> None:
    """Show key ranges that no region covers."""
    session_of(context).show("/regions/range-holes")


def _top(context: typer.Context, order: str, limit: str) -> None:
    session_of(context).show(f"/regions/{order}?limit={whole(limit, 'limit')}")


@app.command()
def topread(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the regions that are read most."""
    _top(context, "readflow", limit)


@app.command()
def topwrite(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the regions that are written most."""
    _top(context, "writeflow", limit)


@app.command()
def topconfver(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the regions whose replicas changed most often."""
    _top(context, "confver", limit)


@app.command()
def topversion(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the regions that were split and merged most often."""
    _top(context, "version", limit)


@app.command()
def topsize(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the largest regions."""
    _top(context, "size", limit)


@app.command()
def topkeys(context: typer.Context, limit: LIMIT = "16") -> None:
    """Show the regions with most keys."""
    _top(context, "keys", limit)
