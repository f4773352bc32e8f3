"""The fast reader of bulk INSERTs agrees with the ordinary parser, or gives up."""

from __future__ import annotations

import pytest

from tidb_py.executor.insert import DEFAULT
from tidb_py.parser.bulk import parse_bulk

LONG = ", ".join(["(1, 'x')"] * 200)


def test_literals() -> None:
    head = r"(1, -2, 1.50, -1e3, 'it''s', 'a\\n\n', NULL, default, '')"
    found = parse_bulk(f"insert into `d b`.t (a, `b`) values {head}, {', '.join(['(1)'] * 500)};")
    assert found is not None
    assert (found.database, found.table, found.columns) == ("d b", "t", ("a", "b"))
    values = [cell[0] for cell in found.rows[0]]
    assert [str(v) for v in values[:4]] == ["1", "-2", "1.50", "-1000.0"]
    assert values[4:7] == [b"it's", b"a\\n\n", None]
    assert values[7] is DEFAULT
    assert values[8] == b""
    assert len(found.rows) == 501


@pytest.mark.parametrize(
    "text",
    [
        f"insert into t values {LONG}, (1 + 1, 2)", f"insert ignore into t values {LONG} on duplicate key update a = 1",
        f"insert into t values {LONG} as new on duplicate key update a = 1", f"replace t values {LONG}",
        f"insert into t values {LONG}, (?, 1)", f"insert into t values {LONG}, (now(), 1)", f"insert into t values {LONG},",
        f"insert into t values {LONG}, (1, )", f"insert into t values {LONG}, (1 2)", f"insert into t values {LONG}, (1, 2",
        f"insert into t values {LONG}, (0x41, 2)", f"insert into t values {LONG}, (_binary'a', 2)",
        f"insert into t values {LONG}, (@a, 1)", "insert into t values (1)",
        f"insert into t values {LONG} (1, 2)", f"insert into t values {LONG}; select 1", f"insert into t values {LONG}, , (1, 2)",
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_parser(text: str) -> None:
    assert parse_bulk(text) is None


def test_what_happens_to_duplicates() -> None:
    modes = {
        f"insert into t values {LONG}": "error", f"INSERT\nIGNORE into t values {LONG} ;": "ignore",
        f"replace into t values {LONG}": "replace",
        f"insert into t values {LONG} on duplicate key update a = values(a) + 1, b = 'x';": "update",
    }  # fmt: skip
    for text, mode in modes.items():
        found = parse_bulk(text)
        assert found is not None
        assert (found.mode, len(found.rows)) == (mode, 200)
        assert len(found.assignments) == (2 if mode == "update" else 0)
