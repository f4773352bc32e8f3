"""House rules over every tracked Python file: sizes, docstrings, boundaries, bounded queues, purity.

An exception is an entry in `exceptions.toml` with its reason; one that is not needed any more must go.
"""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULE, MAX_CLASS, MAX_FUNCTION = 600, 400, 60
PURE = (
    "core_py/raft/",
    "tikv_py/mvcc/",
    "tikv_py/resolved_ts/",
    "core_py/codec/",
    "pd_py/schedule/",
    "tidb_py/mysql/",
    "tidb_py/planner/",
)
QUEUES = ("Queue", "LifoQueue", "PriorityQueue")
SERVERS = ("core_py/", "tikv_py/", "pd_py/", "tidb_py/")


@cache
def files() -> tuple[str, ...]:
    """Tracked Python files but generated ones."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(
        name for name in listed.split("\n") if name and not name.endswith("_pb2.py") and (ROOT / name).exists()
    )


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(), name)


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Classes, functions and methods with their dotted names; functions inside functions belong to those."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node


def module_sizes(name: str) -> Iterator[str]:
    if len((ROOT / name).read_text().splitlines()) > MAX_MODULE:
        yield name


def definition_sizes(name: str) -> Iterator[str]:
    for what, node in definitions(tree(name).body):
        limit = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
        if length(node) > limit:
            yield f"{name}:{what}"


def missing_docstrings(name: str) -> Iterator[str]:
    if not ast.get_docstring(tree(name)):
        yield name


def filled_inits(name: str) -> Iterator[str]:
    """Importing a submodule runs every `__init__` above it."""
    body = tree(name).body
    if name.endswith("__init__.py") and not (len(body) == 1 and ast.get_docstring(tree(name))):
        yield name


def broad_excepts(name: str) -> Iterator[str]:
    if not name.startswith(SERVERS):
        return
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or (isinstance(kind, ast.Name) and kind.id == "Exception") for kind in caught):
                yield name
                return


def called(node: ast.AST, module: str, attribute: str) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(function, ast.Attribute)
        and function.attr == attribute
        and isinstance(function.value, ast.Name)
        and function.value.id == module
    )


def unbounded_queues(name: str) -> Iterator[str]:
    """Queues of the standard library without a size, or with that of no limit."""
    for node in ast.walk(tree(name)):
        if not isinstance(node, ast.Call):
            continue
        if called(node, "queue", "SimpleQueue"):
            yield name
        if any(called(node, module, kind) for module in ("asyncio", "queue") for kind in QUEUES):
            sizes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "maxsize")]
            if not sizes or (isinstance(sizes[0], ast.Constant) and not sizes[0].value):
                yield name


def sleeping_tests(name: str) -> Iterator[str]:
    if name.startswith("tests/") and any(called(node, "time", "sleep") for node in ast.walk(tree(name))):
        yield name


def impure_modules(name: str) -> Iterator[str]:
    if name.startswith(PURE) and any(
        isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree(name))
    ):
        yield name


RULES = {
    "module-size": module_sizes,
    "definition-size": definition_sizes,
    "module-docstring": missing_docstrings,
    "empty-init": filled_inits,
    "except-exception": broad_excepts,
    "bounded-queue": unbounded_queues,
    "no-sleep-in-tests": sleeping_tests,
    "pure-packages": impure_modules,
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule(rule: str) -> None:
    excepted = exceptions().get(rule, {})
    broken = {place for name in files() for place in RULES[rule](name)}
    assert sorted(broken - excepted.keys()) == [], "these break the rule"
    assert sorted(excepted.keys() - broken) == [], "these keep the rule now: take them off the list"


@cache
def exceptions() -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parent / "exceptions.toml").read_text())


def test_every_exception_belongs_to_a_rule_and_has_a_reason() -> None:
    assert set(exceptions()) <= set(RULES)
    assert all(len(reason) > 20 for places in exceptions().values() for reason in places.values())
