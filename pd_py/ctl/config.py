"""`config`: the dynamic configuration, and placement rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pd_py.ctl.groups import DEFAULT, ShowsByDefault
from pd_py.ctl.session import fail, part, session_of, whole

app = typer.Typer(help="Show and change the configuration.")
rules = typer.Typer(help="Placement rules.")
group_app = typer.Typer(help="Groups of placement rules.")
bundle_app = typer.Typer(help="Groups together with their rules.")
show_app = typer.Typer(cls=ShowsByDefault, help="Show the configuration.")
app.add_typer(show_app, name="show")
app.add_typer(rules, name="placement-rules")
rules.add_typer(group_app, name="rule-group")
rules.add_typer(bundle_app, name="rule-bundle")
IN = Annotated[Path, typer.Option("--in", help="file to read")]
OUT = Annotated[Path | None, typer.Option("--out", help="file to write")]


@show_app.command(DEFAULT, hidden=True)
def show(context: typer.Context) -> None:
    """Schedule and replication."""
    session = session_of(context)
    found = session.ask("/config")
    session.print({name: found[name] for name in ("replication", "schedule") if name in found})


@show_app.command("all")
def show_all(context: typer.Context) -> None:
    """Everything."""
    session_of(context).show("/config")


@show_app.command()
def schedule(context: typer.Context) -> None:
    """Scheduling."""
    session_of(context).show("/config/schedule")


@show_app.command()
def replication(context: typer.Context) -> None:
    """Replication."""
    session_of(context).show("/config/replicate")


@show_app.command("cluster-version")
def cluster_version(context: typer.Context) -> None:
    """The cluster's version."""
    session_of(context).show("/config/cluster-version")


@show_app.command()
def server(context: typer.Context) -> None:
    """The PD server's own part."""
    session_of(context).show("/config/pd-server")


def _value(text: str) -> Any:
    """A value as typed: a truth value, a number or a text; "8.5.0" and "30m" are texts."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


@app.command("set")
def set_item(context: typer.Context, option: str, value: str) -> None:
    """Change an item: config set leader-schedule-limit 8."""
    if option == "cluster-version":
        session_of(context).post("/config/cluster-version", {"cluster-version": value})
        return
    session_of(context).post("/config", {option: _value(value)})


@rules.command()
def enable(context: typer.Context) -> None:
    """Let placement rules decide."""
    session_of(context).post("/config", {"enable-placement-rules": "true"})


@rules.command()
def disable(context: typer.Context) -> None:
    """Let the number of replicas and location labels decide."""
    session_of(context).post("/config", {"enable-placement-rules": "false"})


def _rules_path(group: str, rule_id: str, region: str, *, detail: bool) -> str:
    if region:
        path = f"/config/rules/region/{whole(region, 'region')}"
        return f"{path}/detail" if detail else path
    if rule_id:
        if not group:
            fail("--id needs --group")
        return f"/config/rule/{part(group)}/{part(rule_id)}"
    return f"/config/rules/group/{part(group)}" if group else "/config/rules"


@rules.command("show")
def show_rules(
    context: typer.Context,
    group: Annotated[str, typer.Option("--group")] = "",
    rule_id: Annotated[str, typer.Option("--id")] = "",
    region: Annotated[str, typer.Option("--region", help="rules of a region")] = "",
    detail: Annotated[bool, typer.Option("--detail", help="how the region fits them")] = False,
) -> None:
    """Show placement rules."""
    session_of(context).show(_rules_path(group, rule_id, region, detail=detail))


@rules.command("load")
def load_rules(
    context: typer.Context,
    group: Annotated[str, typer.Option("--group")] = "",
    rule_id: Annotated[str, typer.Option("--id")] = "",
    region: Annotated[str, typer.Option("--region")] = "",
    out: Annotated[Path, typer.Option("--out", help="file to write")] = Path("rules.json"),
) -> None:
    """Write placement rules to a file."""
    found = session_of(context).ask(_rules_path(group, rule_id, region, detail=False))
    _write(out, found if isinstance(found, list) else [found])


@rules.command("save")
def save_rules(context: typer.Context, source: IN = Path("rules.json")) -> None:
    """Set placement rules from a file; a rule with count 0 is deleted."""
    values = _read(source)
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        fail(f"{source} should hold a list of rules")
    actions = [{**rule, "action": "add" if rule.get("count", 0) > 0 else "del"} for rule in values]
    session_of(context).post("/config/rules/batch", actions)


def _write(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"rules saved to file {path}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"{path} is not JSON: {error}")


@group_app.command("show")
def show_group(context: typer.Context, group_id: Annotated[str, typer.Argument()] = "") -> None:
    """Show groups, or one."""
    session_of(context).show(f"/config/rule_group/{part(group_id)}" if group_id else "/config/rule_groups")


@group_app.command("set")
def set_group(context: typer.Context, group_id: str, index: int, override: bool) -> None:
    """Set a group's place, and whether it overrides the groups before it."""
    session_of(context).post("/config/rule_group", {"id": group_id, "index": index, "override": override})


@group_app.command("delete")
def delete_group(context: typer.Context, group_id: str) -> None:
    """Forget a group's settings."""
    session_of(context).delete(f"/config/rule_group/{part(group_id)}")


@bundle_app.command("get")
def get_bundle(context: typer.Context, group_id: str, out: OUT = None) -> None:
    """Show a group with its rules, or write it to a file."""
    found = session_of(context).ask(f"/config/placement-rule/{part(group_id)}")
    session_of(context).print(found) if out is None else _write(out, found)


@bundle_app.command("set")
def set_bundle(context: typer.Context, source: IN = Path("group.json")) -> None:
    """Set a group with its rules from a file."""
    value = _read(source)
    if not isinstance(value, dict) or not isinstance(value.get("group_id"), str):
        fail(f"{source} should hold one group with its group_id")
    session_of(context).post(f"/config/placement-rule/{part(value['group_id'])}", value)


@bundle_app.command("delete")
def delete_bundle(
    context: typer.Context,
    group_id: str,
    regexp: Annotated[bool, typer.Option("--regexp", help="the id is a regular expression")] = False,
) -> None:
    """Delete groups with their rules."""
    session_of(context).delete(f"/config/placement-rule/{part(group_id)}" + ("?regexp" if regexp else ""))


@bundle_app.command("load")
def load_bundles(context: typer.Context, out: OUT = Path("rules.json")) -> None:
    """Write all groups with their rules to a file."""
    assert out is not None
    _write(out, session_of(context).ask("/config/placement-rule"))


@bundle_app.command("save")
def save_bundles(
    context: typer.Context,
    source: IN = Path("rules.json"),
    partial: Annotated[bool, typer.Option("--partial", help="keep groups that the file does not name")] = False,
) -> None:
    """Set all groups with their rules from a file."""
    session_of(context).post("/config/placement-rule" + ("?partial=true" if partial else ""), _read(source))
