"""The error taxonomy: every leaf says what it is, under a code that no other error has."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

from core_py.errors import DbError, RetryClass
from tests.health.test_house_rules import files

CODE = re.compile(r"^[A-Za-z]+(:[A-Za-z0-9]+){1,2}$")


def leaves() -> list[type[DbError]]:
    for name in files():
        if name.startswith(("core_py/", "tikv_py/", "pd_py/", "tidb_py/")) and not name.endswith("__main__.py"):
            importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    return sorted(
        (kind for kind in below(DbError) if not kind.__subclasses__() and not kind.__module__.startswith("tests")),
        key=lambda kind: (kind.__module__, kind.__name__),
    )


def below(kind: type[DbError]) -> Iterator[type[DbError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def test_every_error_has_its_own_code_and_a_description() -> None:
    seen: dict[str, str] = {}
    problems = []
    for kind in leaves():
        name = f"{kind.__module__}.{kind.__name__}"
        if "code" not in kind.__dict__:
            problems.append(f"{name} has no code of its own")
        elif not CODE.match(kind.code):
            problems.append(f"{name} has the code {kind.code!r}, not of the form Part:Module:Name or Sql:Name")
        elif (
            seen.get(kind.code, name).rpartition(".")[2] != kind.__name__
        ):  # one error has one name on both sides of a wire
            problems.append(f"{name} and {seen[kind.code]} share {kind.code}")
        seen[kind.code] = name
        if not (kind.__doc__ or "").strip():
            problems.append(f"{name} has no description")
    assert problems == []


def test_every_error_says_how_to_react() -> None:
    for kind in leaves():
        assert isinstance(kind.retry, RetryClass)
        assert 1000 <= kind.mysql_code < 65536, kind
        assert len(kind.sqlstate) == 5, kind
