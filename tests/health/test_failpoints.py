"""Every failpoint of the catalogue stands at one place in the code, behind the `armed` flag, and is armed by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.health.test_house_rules import files, tree
from tikv_py.failpoints import POINTS

NOT_EVIDENCE = ("tests/health/", "tests/unit/runtime/test_failpoints.py")


@dataclass(frozen=True)
class Site:
    """A call of `hit` or `reach` with a literal name."""

    place: str
    waits: bool
    guarded: bool


def asks_armed(node: ast.AST) -> bool:
    """Whether an expression reads an attribute `armed`."""
    return any(isinstance(one, ast.Attribute) and one.attr == "armed" for one in ast.walk(node))


def site_calls(node: ast.AST, *, guarded: bool) -> Iterator[tuple[ast.Call, str, bool]]:
    """Calls on an object named `fail` or an attribute `.fail`, with whether `armed` was asked for before."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("hit", "reach"):
        owner = node.func.value
        if (isinstance(owner, ast.Name) and owner.id == "fail") or (
            isinstance(owner, ast.Attribute) and owner.attr in ("fail", "_fail")
        ):
            yield node, node.func.attr, guarded
    inside = guarded or (isinstance(node, ast.If | ast.BoolOp | ast.IfExp) and asks_armed(node))
    for child in ast.iter_child_nodes(node):
        yield from site_calls(child, guarded=inside)


@cache
def sites() -> dict[str, list[Site]]:
    """Call sites by name."""
    found: dict[str, list[Site]] = {}
    for name in files():
        if not name.startswith(("tikv_py/", "core_py/")) or name == "core_py/failpoints.py":
            continue
        for call, method, guarded in site_calls(tree(name), guarded=False):
            place = f"{name}:{call.lineno}"
            argument = call.args[0]
            assert isinstance(argument, ast.Constant), f"{place}: the name of a failpoint is written out"
            found.setdefault(str(argument.value), []).append(Site(place, method == "reach", guarded))
    return found


@cache
def arming_tests() -> dict[str, list[str]]:
    """Test files by the names that stand in them as literals; also as `name=actions`, the form for several."""
    found: dict[str, set[str]] = {}
    for name in files():
        if not name.startswith("tests/") or name.startswith(NOT_EVIDENCE):
            continue
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for part in node.value.split(";"):
                    point = part.partition("=")[0]
                    if point in POINTS:
                        found.setdefault(point, set()).add(name.removeprefix("tests/"))
    return {point: sorted(names) for point, names in found.items()}


def test_every_point_stands_at_one_place() -> None:
    assert sorted(sites().keys() - POINTS.keys()) == [], "placed, but not in the catalogue"
    assert sorted(POINTS.keys() - sites().keys()) == [], "in the catalogue, but placed nowhere"
    assert {name: places for name, places in sites().items() if len(places) > 1} == {}, "placed more than once"


def test_every_place_fits_its_entry_and_costs_nothing_while_unarmed() -> None:
    for name, places in sites().items():
        for site in places:
            assert site.guarded, f"{site.place}: ask `armed` first"
            assert site.waits == POINTS[name].waits, (
                f"{site.place}: `reach` is for waiting points, `hit` for the others"
            )


def test_every_point_is_armed_by_a_test() -> None:
    width = max(map(len, POINTS), default=0)
    for name in POINTS:
        print(f"{name:<{width}}  {sites()[name][0].place:<45}  {', '.join(arming_tests().get(name, ['-']))}")
    assert sorted(POINTS.keys() - arming_tests().keys()) == []
