"""Options that several commands share, and the texts they take: keys in the escaped form, lists with commas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from protos.kvproto import debugpb_pb2 as debugpb
from tikv_py.debug.escape import unescape
from tikv_py.debug.inspect import BadQuestion

FROM_KEY = Annotated[str, typer.Option("--from", "-f", help="first key, escaped")]
TO_KEY = Annotated[str, typer.Option("--to", "-t", help="key to stop before, escaped")]
SHOW_CF = Annotated[str, typer.Option("--show-cf", help="families to show: default,lock,write")]
START_TS = Annotated[int | None, typer.Option("--start-ts", help="only what the transaction of this timestamp did")]
COMMIT_TS = Annotated[int | None, typer.Option("--commit-ts", help="only what was committed at this timestamp")]
DB = Annotated[str, typer.Option("-d", "--db", help="kv or raft")]
CF = Annotated[str, typer.Option("-c", "--cf", help="column family")]
REGION = Annotated[int, typer.Option("-r", "--region", help="region id")]
KEY = Annotated[str, typer.Option("-k", "--key", help="key, escaped")]

_DATABASES = {"kv": debugpb.KV, "raft": debugpb.RAFT}


def database(name: str) -> int:
    """The number of a database. Raises BadQuestion."""
    number = _DATABASES.get(name)
    if number is None:
        raise BadQuestion(f"database {name!r} is neither kv nor raft")
    return int(number)


def names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, what: str) -> list[int]:
    """The ids of a comma-separated list, each once, in the order given. Raises BadQuestion."""
    parts = names(text)
    wrong = next((part for part in parts if not part.isdecimal()), None)
    if wrong is not None or not parts:
        raise BadQuestion(f"{wrong or text!r} is no {what}: give numbers with commas")
    return list(dict.fromkeys(int(part) for part in parts))


def engine_range(start: str, end: str) -> tuple[bytes, bytes]:
    """Two escaped keys. Raises BadKeyText."""
    return unescape(start), unescape(end)


def families(text: str, known: Sequence[str]) -> list[str]:
    """Column families by name; all known ones when the list is empty. Raises BadQuestion."""
    wanted = names(text) or list(known)
    unknown = next((one for one in wanted if one not in known), None)
    if unknown is not None:
        raise BadQuestion(f"column family {unknown!r} is none of {', '.join(known)}")
    return wanted
