"""Names to columns: what the tables of one query level offer, and the level around it.

A `PlanColumn` has an id of its own while a statement is planned; expressions refer to these ids, and are numbered by
position when the physical plan is made. A name found in an outer level makes the query correlated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from core_py.vector.expr import ColumnRef
from core_py.vector.fieldtype import FieldType
from tidb_py.errors import AmbiguousColumn, UnknownColumn, UnknownTable

MERGED = "\0"  # ends the name of a column that USING merged into another: only `table.name` still finds it


@dataclass(frozen=True, slots=True)
class PlanColumn:
    """A column of a plan node."""

    uid: int
    name: str
    ft: FieldType
    table: str = ""  # alias
    database: str = ""
    org_name: str = ""
    org_table: str = ""
    hidden: bool = False  # not part of `*`

    @property
    def ref(self) -> ColumnRef:
        """A reference to it."""
        return ColumnRef(self.uid, self.ft)


class Ids:
    """Fresh column ids of one statement."""

    def __init__(self) -> None:
        self._next = itertools.count(1)

    def __call__(self) -> int:
        """A fresh id."""
        return next(self._next)


@dataclass(slots=True)
class Scope:
    """The columns one query level can name."""

    columns: list[PlanColumn]
    outer: Scope | None = None
    correlated: set[int] = field(default_factory=set)  # ids that queries inside this level asked it for
    clause: str = "field list"

    def find(self, name: str, table: str = "", database: str = "") -> PlanColumn:
        """The column of a name; outer levels are searched when this one has none."""
        found = self._here(name, table, database)
        if found is not None:
            return found
        if self.outer is not None:
            column = self.outer.find(name, table, database)
            self.outer.correlated.add(column.uid)
            return column
        shown = ".".join(p for p in (database, table, name) if p)
        raise UnknownColumn(f"Unknown column '{shown}' in '{self.clause}'")

    def _here(self, name: str, table: str, database: str) -> PlanColumn | None:
        lowered, table, database = name.lower(), table.lower(), database.lower()
        names = (lowered, lowered + MERGED) if table else (lowered,)
        hits = [
            c for c in self.columns
            if c.name.lower() in names and (not table or c.table.lower() == table)
            and (not database or c.database.lower() == database)
        ]  # fmt: skip
        if len(hits) > 1 and len({c.uid for c in hits}) > 1:
            shown = f"{table}.{name}" if table else name
            raise AmbiguousColumn(f"Column '{shown}' in {self.clause} is ambiguous")
        return hits[0] if hits else None

    def star(self, table: str = "", database: str = "") -> list[PlanColumn]:
        """The columns of `*` or `t.*`."""
        visible = [c for c in self.columns if not c.hidden]
        if not table:
            return visible
        hits = [c for c in visible if c.table.lower() == table.lower()]
        if database:
            hits = [c for c in hits if c.database.lower() == database.lower()]
        if not hits:
            raise UnknownTable(f"Unknown table '{table}'")
        return hits


def by_uid(columns: Iterable[PlanColumn]) -> dict[int, int]:
    """Positions by id."""
    return {c.uid: i for i, c in enumerate(columns)}
