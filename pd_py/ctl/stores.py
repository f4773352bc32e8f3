"""`store`: looking at stores, and what people do to them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import Session, fail, part, positive, session_of, whole

app = typer.Typer(cls=ShowsByDefault, help="Show the stores, or one by its id; change them.")
STATES = {"up": 0, "offline": 1, "tombstone": 2}
ARGUMENTS = Annotated[list[str] | None, typer.Argument()]


@app.command(DEFAULT, hidden=True)
def show(
    context: typer.Context,
    store_id: Annotated[str | None, typer.Argument()] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Up, Offline or Tombstone; may be repeated")
    ] = None,
) -> None:
    """Show all stores, or one."""
    session = session_of(context)
    if store_id is not None:
        session.show(f"/store/{whole(store_id, 'store_id')}")
        return
    wanted = [name.strip().lower() for names in state or [] for name in names.split(",")]
    for name in wanted:
        if name not in STATES:
            fail(f"Unknown state: {name}")
    query = "&".join(f"state={STATES[name]}" for name in wanted)
    session.show(f"/stores?{query}" if query else "/stores")


def _by_address(session: Session, address: str) -> int:
    stores = [one["store"] for one in session.ask("/stores?state=0&state=1&state=2")["stores"]]
    found = next((store["id"] for store in stores if store.get("address") == address), None)
    return fail(f"address not found: {address}") if found is None else int(found)


def _one(context: typer.Context, arguments: list[str]) -> int:
    """The store of `<store_id>` or `addr <address>`."""
    if len(arguments) == 2 and arguments[0] == "addr":
        return _by_address(session_of(context), arguments[1])
    if len(arguments) != 1:
        fail("give <store_id> or addr <address>")
    return whole(arguments[0], "store_id")


@app.command()
def delete(
    context: typer.Context,
    store: Annotated[list[str], typer.Argument(metavar="<store_id> | addr <address>")],
    force: Annotated[bool, typer.Option("--force", help="its disk is gone: it cannot help to move its data")] = False,
) -> None:
    """Take a store out of service: its data moves elsewhere first."""
    store_id = _one(context, store)
    session_of(context).delete(f"/store/{store_id}" + ("?force" if force else ""))


@app.command("cancel-delete")
def cancel_delete(
    context: typer.Context, store: Annotated[list[str], typer.Argument(metavar="<store_id> | addr <address>")]
) -> None:
    """Keep a store that is being taken out of service."""
    session_of(context).post_nothing(f"/store/{_one(context, store)}/state?state=Up")


@app.command()
def label(
    context: typer.Context,
    store_id: str,
    labels: Annotated[list[str], typer.Argument(metavar="<key>=<value> ...")],
    rewrite: Annotated[bool, typer.Option("--rewrite", "-r", "--force", "-f", help="take others away")] = False,
    delete: Annotated[bool, typer.Option("--delete", "-d", help="take this label away")] = False,
) -> None:
    """Set a store's labels."""
    path = f"/store/{whole(store_id, 'store_id')}/label"
    if delete:
        if len(labels) != 1:
            fail("not allow to delete multiple labels at a time")
        session_of(context).delete(path, labels[0], has_body=True)
        return
    values: dict[str, str] = {}
    if "=" not in labels[0]:
        if len(labels) % 2:
            fail("invalid arguments, expect <key> <value> [key value]...")
        values = dict(zip(labels[::2], labels[1::2], strict=True))
    else:
        for one in labels:
            if one.count("=") != 1:
                fail("invalid arguments, expect <key>=<value>")
            key, value = one.split("=")
            values[key.strip()] = value.strip()
    session_of(context).post(path + ("?force=true" if rewrite else ""), values)


def _weight(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        fail(f"{what} should be a number that >= 0.")
    return value


@app.command()
def weight(context: typer.Context, store_id: str, leader_weight: str, region_weight: str) -> None:
    """Set how large a store's share of leaders and data is."""
    values = {"leader": _weight(leader_weight, "leader_weight"), "region": _weight(region_weight, "region_weight")}
    session_of(context).post(f"/store/{whole(store_id, 'store_id')}/weight", values)


@app.command()
def limit(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[<store_id>|all [<label key> <value>]... <rate> [<type>]]")
    ] = None,
) -> None:
    """Show how many replicas stores may gain and lose in a minute, or set it."""
    given = arguments or []
    session = session_of(context)
    if len(given) <= 1:
        session.show("/stores/limit" + (f"?type={part(given[0])}" if given else ""))
        return
    path = "/stores/limit" if given[0] == "all" else f"/store/{whole(given[0], 'store_id')}/limit"
    body: dict[str, Any] = {}
    rest = given[1:]
    if len(rest) % 2 == 0:
        body["type"] = rest.pop()
    body["rate"] = positive(rest.pop(), "rate")
    if rest:
        if given[0] != "all":
            fail("Labels are an option of set all stores limit.")
        body["labels"] = dict(zip(rest[::2], rest[1::2], strict=True))
    session.post(path, body)


@app.command()
def check(context: typer.Context, state: str) -> None:
    """Show the stores in a state: up, offline, tombstone, disconnected or down."""
    session_of(context).show(f"/stores/check?state={part(state)}")


@app.command("remove-tombstone")
def remove_tombstone(context: typer.Context) -> None:
    """Forget the stores that are out of service for good."""
    session_of(context).delete("/stores/remove-tombstone")
