"""`member` and `health`: the members of PD."""

from __future__ import annotations

from typing import Annotated

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import fail, part, session_of, whole

app = typer.Typer(cls=ShowsByDefault, help="Show the members of PD; remove one, move the leadership.")
leader_app = typer.Typer(cls=ShowsByDefault, help="The leader.")
delete_app = typer.Typer(help="Remove a member.")
app.add_typer(leader_app, name="leader")
app.add_typer(delete_app, name="delete")


@app.command(DEFAULT, hidden=True)
def show(context: typer.Context) -> None:
    """Show all members."""
    session_of(context).show("/members")


@app.command("leader_priority")
def priority(context: typer.Context, name: str, priority: Annotated[str, typer.Argument()]) -> None:
    """Prefer a member as leader: the highest priority wins."""
    sign, digits = (-1, priority[1:]) if priority.startswith("-") else (1, priority)
    session_of(context).post(
        f"/members/name/{part(name)}", {"leader-priority": sign * whole(digits, "leader_priority")}
    )


@leader_app.command(DEFAULT, hidden=True)
@leader_app.command("show")
def leader(context: typer.Context) -> None:
    """Show the leader."""
    found = session_of(context).ask("/leader")
    if found is None:
        fail("there is no leader")
    session_of(context).print(found)


@leader_app.command()
def resign(context: typer.Context) -> None:
    """Let another member lead."""
    session_of(context).post_nothing("/leader/resign")


@leader_app.command()
def transfer(context: typer.Context, name: str) -> None:
    """Let a certain member lead."""
    session_of(context).post_nothing(f"/leader/transfer/{part(name)}")


@delete_app.command("name")
def delete_by_name(context: typer.Context, name: str) -> None:
    """By name."""
    session_of(context).delete(f"/members/name/{part(name)}")


@delete_app.command("id")
def delete_by_id(context: typer.Context, member_id: str) -> None:
    """By id."""
    session_of(context).delete(f"/members/id/{whole(member_id, 'id')}")
