"""`operator`: what is being done to regions, and doing something to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import fail, part, session_of, whole

app = typer.Typer(cls=ShowsByDefault, help="Show operators, add one, remove one.")
ROLES = ("leader", "voter", "follower", "learner")
POLICIES = ("scan", "approximate", "usekey")
_TWO_IDS: dict[str, tuple[str, ...]] = {
    "transfer-leader": ("region_id", "to_store_id"),
    "transfer-peer": ("region_id", "from_store_id", "to_store_id"),
    "add-peer": ("region_id", "store_id"),
    "add-learner": ("region_id", "store_id"),
    "remove-peer": ("region_id", "store_id"),
    "merge-region": ("source_region_id", "target_region_id"),
    "scatter-region": ("region_id",),
}


@app.command(DEFAULT, hidden=True)
@app.command()
def show(context: typer.Context, kind: Annotated[str, typer.Argument()] = "") -> None:
    """Show operators that run, all or of a kind: admin, leader, region, waiting."""
    session_of(context).show("/operators" + (f"?kind={part(kind)}" if kind else ""))


@app.command()
def check(context: typer.Context, region_id: str) -> None:
    """Show the operator of a region, or its last one."""
    session_of(context).show(f"/operators/{whole(region_id, 'region_id')}")


@app.command()
def remove(context: typer.Context, region_id: str) -> None:
    """Cancel the operator of a region."""
    session_of(context).delete(f"/operators/{whole(region_id, 'region_id')}")


@app.command()
def history(context: typer.Context, start: Annotated[str, typer.Argument(metavar="[<unix seconds>]")] = "0") -> None:
    """Show operators that ended since a time."""
    session_of(context).show(f"/operators/records?from={whole(start, 'start')}")


def _ids(name: str, arguments: list[str]) -> dict[str, Any]:
    names = _TWO_IDS[name]
    if len(arguments) != len(names):
        fail(f"operator add {name} {' '.join(f'<{one}>' for one in names)}")
    return {one: whole(text, one) for one, text in zip(names, arguments, strict=True)}


def _transfer_region(arguments: list[str]) -> dict[str, Any]:
    if len(arguments) < 2:
        fail("operator add transfer-region <region_id> <to_store_id> [leader|voter|follower|learner] ...")
    stores: list[int] = []
    roles: list[str] = []
    for text in arguments[1:]:
        if text.lower() in ROLES:
            roles.append(text.lower())
        else:
            stores.append(whole(text, "to_store_id"))
    if roles and len(roles) != len(stores):
        fail("peer role is not match with store")
    body: dict[str, Any] = {"region_id": whole(arguments[0], "region_id"), "to_store_ids": stores}
    return body | ({"peer_roles": roles} if roles else {})


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="<operator>")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="<ids> ...")] = None,
    policy: Annotated[str, typer.Option("--policy", help="of split-region: scan, approximate or usekey")] = "scan",
    keys: Annotated[str, typer.Option("--keys", help="of split-region: keys in hex, with commas")] = "",
) -> None:
    """Do something to a region: transfer-leader, transfer-region, transfer-peer, add-peer, add-learner, remove-peer,
    merge-region, split-region, scatter-region.
    """
    given = arguments or []
    special: dict[str, Callable[[list[str]], dict[str, Any]]] = {
        "transfer-region": _transfer_region,
        "split-region": lambda texts: _split(texts, policy, keys),
    }
    if name in special:
        body = special[name](given)
    elif name in _TWO_IDS:
        body = _ids(name, given)
    else:
        fail(f"unknown operator {name}")
    session_of(context).post("/operators", {"name": name, **body})


def _split(arguments: list[str], policy: str, keys: str) -> dict[str, Any]:
    if len(arguments) != 1:
        fail("operator add split-region <region_id> [--policy=scan|approximate|usekey] [--keys]")
    if policy not in POLICIES:
        fail("unknown policy")
    body: dict[str, Any] = {"region_id": whole(arguments[0], "region_id"), "policy": policy}
    return body | ({"keys": [key.strip() for key in keys.split(",")]} if keys else {})
