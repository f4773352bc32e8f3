"""`scheduler`: which ones run, adding and removing them, stopping them for a while, their settings."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote_from_bytes

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.regions import FORMAT, Format, key_of
from pd_py.ctl.session import Session, fail, part, positive, session_of, whole

app = typer.Typer(cls=ShowsByDefault, help="Show schedulers, add, remove, pause and configure them.")
OF_STORES = ("evict-leader-scheduler", "grant-leader-scheduler")
SCATTER_RANGE = ("scatter-range", "scatter-range-scheduler")


@app.command(DEFAULT, hidden=True)
@app.command()
def show(
    context: typer.Context,
    status: Annotated[str, typer.Option("--status", help="paused or disabled")] = "",
    timestamp: Annotated[bool, typer.Option("--timestamp", "-t", help="of paused ones: since and until when")] = False,
) -> None:
    """Show the schedulers that run."""
    query = f"?status={part(status)}" if status else ""
    session_of(context).show("/schedulers" + query + ("&timestamp=true" if timestamp and query else ""))


@app.command()
def add(
    context: typer.Context,
    name: str,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[<store_id>] | [<start> <end> <name>]")] = None,
    form: FORMAT = Format.HEX,
) -> None:
    """Add a scheduler; evict-leader and grant-leader take a store, scatter-range a key range and a name."""
    given = arguments or []
    body: dict[str, Any] = {"name": name}
    if name in OF_STORES:
        if len(given) != 1:
            fail(f"scheduler add {name} <store_id>")
        body["store_id"] = whole(given[0], "store_id")
    elif name in SCATTER_RANGE:
        if len(given) != 3:
            fail("scheduler add scatter-range-scheduler <start_key> <end_key> <range_name>")
        body = {"name": SCATTER_RANGE[1], "range_name": given[2]}
        for field, text in (("start_key", given[0]), ("end_key", given[1])):
            body[field] = quote_from_bytes(key_of(text, form), "")
    elif given:
        fail(f"{name} takes no arguments")
    session_of(context).post("/schedulers", body)


@app.command()
def remove(context: typer.Context, name: str) -> None:
    """Remove a scheduler; `evict-leader-scheduler-1` only takes store 1 out of it."""
    session_of(context).delete(f"/schedulers/{part(name)}")


@app.command()
def pause(context: typer.Context, name: str, delay_seconds: str) -> None:
    """Stop a scheduler, or `all`, for some seconds."""
    delay = whole(delay_seconds, "delay_seconds")
    session_of(context).post(f"/schedulers/{part(name)}", {"delay": positive(str(delay), "delay_seconds")})


@app.command()
def resume(context: typer.Context, name: str) -> None:
    """Let a paused scheduler, or `all`, go on."""
    session_of(context).post(f"/schedulers/{part(name)}", {"delay": 0})


@app.command()
def config(
    context: typer.Context,
    name: str,
    action: Annotated[str, typer.Argument(metavar="[show|set|add-store|delete-store|show-roles|set-roles]")] = "show",
    arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None,
) -> None:
    """Show or change a scheduler's settings."""
    session, given, path = session_of(context), arguments or [], f"/scheduler-config/{part(name)}"
    if action in ("show", "list", "show-roles") and not given:
        session.show(f"{path}/list")
    elif action == "set" and len(given) == 2:
        session.post(f"{path}/config", {given[0]: _setting(given[0], given[1])})
    elif action == "set-roles" and len(given) == 1:
        session.post(f"{path}/config", {"roles": [role for role in given[0].lower().split(",") if role]})
    elif action in ("add-store", "delete-store") and len(given) == 1:
        _change_store(session, name, action, whole(given[0], "store_id"))
    else:
        fail(f"scheduler config {name} show | set <key> <value> | add-store <store_id> | delete-store <store_id>")


def _change_store(session: Session, name: str, action: str, store_id: int) -> None:
    path = f"/scheduler-config/{part(name)}"
    if action == "add-store":
        session.post(f"{path}/config", {"name": name, "store_id": store_id})
    else:
        session.delete(f"{path}/delete/{store_id}")


def _setting(key: str, text: str) -> Any:
    """A value as typed: a truth value, a number, a list for priorities, a text."""
    if key.endswith("-priorities"):
        return text.split(",")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return text
