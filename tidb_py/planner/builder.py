"""SELECT as sqlglot parsed it to a logical plan: FROM, WHERE, GROUP BY, HAVING, select list, DISTINCT, ORDER BY, LIMIT.

One `QueryBuilder` per statement; `select` recurses for sub-queries with the scope of the level around them. Sub-queries
become joins (IN, EXISTS, correlated scalar ones) or `SubPlan`s that are run first (uncorrelated scalar ones and EXISTS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlglot import expressions as exp

from core_py.vector.expr import Constant, Expr, SortKey, func, int_const
from core_py.vector.fieldtype import bool_type
from tidb_py.errors import (
    ColumnCount,
    NonUniqueTable,
    NotSupported,
    OperandColumns,
    WrongSetColumns,
)  # fmt: skip
from tidb_py.expression import typing as t
from tidb_py.expression.lower import LowerContext, Lowering
from tidb_py.expression.scope import MERGED, Ids, PlanColumn, Scope
from tidb_py.planner.logical import (
    DataSource,
    Dual,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Sort,
    SubPlan,
    Union,
    VirtualTable,
)  # fmt: skip
from tidb_py.planner.query_parts import conjuncts, distinct, position_of, unwrap, visible
from tidb_py.planner.select import SelectBuilder

Node = Any


class TableSource(Protocol):
    """Where FROM finds tables."""

    def source(self, database: str, table: str, alias: str, ids: Ids) -> DataSource | VirtualTable:
        """The plan node of a table; raises 1146."""

    @property
    def full_group_by(self) -> bool:
        """Whether ONLY_FULL_GROUP_BY is on."""


class QueryBuilder:
    """Builds the logical plan of one statement."""

    def __init__(self, ctx: LowerContext, tables: TableSource, ids: Ids | None = None) -> None:
        self.ctx = ctx
        self.tables = tables
        self.ids = ids or Ids()
        self.subplans: list[SubPlan] = []
        self._ctes: dict[str, Node] = {}

    # -- queries ----------------------------------------------------------------------------------------------

    def query(self, node: Node, outer: Scope | None = None, names: Sequence[str] = ()) -> LogicalPlan:
        """A SELECT, UNION or parenthesised query."""
        if node.args.get("with_") is not None:
            for cte in node.args["with_"].expressions:
                name = cte.alias.lower()
                used = {table.name.lower() for table in cte.this.find_all(exp.Table) if not table.text("db")}
                if node.args["with_"].args.get("recursive") and name in used:
                    raise NotSupported("WITH RECURSIVE is not supported")
                self._ctes[name] = cte
        if isinstance(node, exp.Subquery):
            plan = self.query(node.this, outer, names)
            return self._tail(plan, node, Scope(plan.columns, outer))
        if isinstance(node, exp.Union):
            return self._union(node, outer)
        if isinstance(node, exp.Select):
            return SelectBuilder(self, node, outer, names).build()
        raise NotSupported(f"{type(node).__name__} is not supported as a query")

    def _union(self, node: Node, outer: Scope | None) -> LogicalPlan:
        if not isinstance(node, exp.Union) or type(node) is not exp.Union:
            raise NotSupported("INTERSECT and EXCEPT are not supported")
        left, right = self.query(node.left, outer), self.query(node.right, outer)
        lefts, rights = visible(left), visible(right)
        if len(lefts) != len(rights):
            raise WrongSetColumns("The used SELECT statements have a different number of columns")
        columns, left_exprs, right_exprs = [], [], []
        for a, b in zip(lefts, rights, strict=True):
            ft = t.unify([a.ref, b.ref]).nullable()
            columns.append(PlanColumn(self.ids(), a.name, ft))
            left_exprs.append(t.cast_to(a.ref, ft))
            right_exprs.append(t.cast_to(b.ref, ft))
        parts: list[LogicalPlan] = []
        for plan, exprs in ((left, left_exprs), (right, right_exprs)):
            inner = [PlanColumn(self.ids(), c.name, c.ft) for c in columns]
            parts.append(Projection(plan, exprs, inner))
        plan = Union(parts, columns)
        if node.args.get("distinct"):
            plan = distinct(plan, self.ids)
        return self._tail(plan, node, Scope(plan.columns, outer))

    def _tail(self, plan: LogicalPlan, node: Node, scope: Scope) -> LogicalPlan:
        order = node.args.get("order")
        if order is not None:
            lower = Lowering(self.ctx, scope)
            keys = []
            for item in order.expressions:
                position = position_of(item.this)
                expr = plan.columns[position - 1].ref if position else lower(item.this)
                keys.append(SortKey(expr, bool(item.args.get("desc"))))
            plan = Sort(plan, keys)
        return self.limit(plan, node)

    def limit(self, plan: LogicalPlan, node: Node) -> LogicalPlan:
        """LIMIT and OFFSET of a query node."""
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is None:
            return plan
        count = self._number(limit.expression)
        skip = self._number(offset.expression) if offset is not None else 0
        if limit.args.get("offset") is not None:
            skip = self._number(limit.args["offset"])
        return Limit(plan, count, skip)

    def _number(self, node: Node) -> int:
        value = Lowering(self.ctx, Scope([]))(node)
        if isinstance(value, Constant) and isinstance(value.value, bytes) and value.value.isdigit():
            return int(value.value)
        if not isinstance(value, Constant) or not isinstance(value.value, int) or value.value < 0:
            raise NotSupported("LIMIT needs a number that is not negative")
        return value.value

    # -- FROM -------------------------------------------------------------------------------------------------

    def from_clause(self, node: Node, outer: Scope | None) -> LogicalPlan:
        """The joined tables of a SELECT, UPDATE or DELETE."""
        source = node.args.get("from_") or node.args.get("from")
        if source is None or _is_dual(source.this):
            return Dual(1)
        plan = self.table(source.this, outer)
        for join in [*(source.this.args.get("joins") or ()), *(node.args.get("joins") or ())]:
            plan = self._join(plan, join, outer)
        names = [(c.database, c.table) for c in plan.columns]
        seen: set[tuple[str, str]] = set()
        for i, name in enumerate(names):
            if name[1] and name in seen and names[i - 1] != name:
                raise NonUniqueTable(f"Not unique table/alias: '{name[1]}'")
            seen.add(name)
        return plan

    def table(self, node: Node, outer: Scope | None) -> LogicalPlan:
        """One table reference."""
        if isinstance(node, exp.Subquery):
            plan = self.query(node.this, outer) if isinstance(node.this, exp.Query) else self.table(node.this, outer)
            if not isinstance(node.this, exp.Query):
                for join in node.this.args.get("joins") or ():
                    plan = self._join(plan, join, outer)
                return plan
            plan = self._tail(plan, node, Scope(plan.columns, outer))
            return self._derived(
                plan, node.alias, [c.name for c in node.args["alias"].columns] if node.args.get("alias") else []
            )
        if isinstance(node, exp.Paren):
            return self.table(node.this, outer)
        if not isinstance(node, exp.Table):
            raise NotSupported(f"{type(node).__name__} is not supported in FROM")
        name, database = node.name, node.text("db")
        cte = self._ctes.pop(name.lower(), None) if not database else None
        if cte is not None:  # inside of it the name means a stored table
            plan = self.query(cte.this, None)
            self._ctes[name.lower()] = cte
            renamed = [c.name for c in cte.args["alias"].columns] if cte.args.get("alias") else []
            return self._derived(plan, node.alias or name, renamed)
        return self.tables.source(database, name, node.alias or name, self.ids)

    def _derived(self, plan: LogicalPlan, alias: str, names: Sequence[str]) -> LogicalPlan:
        columns = visible(plan)
        if names and len(names) != len(columns):
            raise ColumnCount("In definition of view, derived table or common table expression, SELECT list and column "
                              "names list have different column counts")  # fmt: skip
        renamed = [
            PlanColumn(self.ids(), names[i] if names else c.name, c.ft, table=alias) for i, c in enumerate(columns)
        ]
        return Projection(plan, [c.ref for c in columns], renamed)

    def _join(self, left: LogicalPlan, node: Node, outer: Scope | None) -> LogicalPlan:
        right = self.table(node.this, outer)
        for inner in node.this.args.get("joins") or ():
            right = self._join(right, inner, outer)
        side, kind = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
        if side == "FULL":
            raise NotSupported("FULL JOIN is not supported")
        conditions: list[Expr] = []
        columns = [*left.columns, *right.columns]
        using = [u.name for u in node.args.get("using") or ()]
        if str(node.args.get("method") or "").upper() == "NATURAL":
            names = {c.name.lower() for c in right.columns}
            using = [c.name for c in left.columns if c.name.lower() in names]
        if using:
            columns = self._using(left, right, using, side, conditions)
        if node.args.get("on") is not None:
            scope = Scope(columns, outer, clause="on clause")
            lower = Lowering(self.ctx, scope)
            lower.on_subquery = self.scalar_only(scope)
            conditions += [lower(part) for part in conjuncts(node.args["on"])]
        if side == "RIGHT":
            return Join(kind="left", left=right, right=left, conditions=conditions, columns=columns)
        join_kind = "left" if side == "LEFT" else "inner"
        _ = kind
        return Join(kind=join_kind, left=left, right=right, conditions=conditions, columns=columns)

    def _using(
        self, left: LogicalPlan, right: LogicalPlan, using: Sequence[str], side: str, conditions: list[Expr]
    ) -> list[PlanColumn]:
        hidden: set[int] = set()
        merged: list[PlanColumn] = []
        for name in using:
            a, b = Scope(left.columns).find(name), Scope(right.columns).find(name)
            conditions.append(t.compare("EQ", a.ref, b.ref))
            keep, drop = (b, a) if side == "RIGHT" else (a, b)
            hidden.add(drop.uid)
            merged.append(keep)
        kept = {c.uid for c in merged}
        rest = [c for c in (*left.columns, *right.columns) if c.uid not in kept]
        return merged + [replace(c, hidden=True, name=c.name + MERGED) if c.uid in hidden else c for c in rest]

    # -- sub-queries ------------------------------------------------------------------------------------------

    def scalar_only(self, scope: Scope) -> Any:
        """A handler for places where only uncorrelated sub-queries can be."""

        def handle(node: Node) -> Expr:
            inner_scope = Scope(scope.columns, scope.outer)
            plan = self.query(unwrap(node), inner_scope)
            if inner_scope.correlated:
                raise NotSupported("a correlated sub-query cannot be used here")
            return self.subplan(plan, "exists" if isinstance(node, exp.Exists) else "scalar")

        return handle

    def subplan(self, plan: LogicalPlan, kind: str) -> Expr:
        """Run a sub-query first and use its value."""
        number = len(self.subplans) + 1
        columns = visible(plan)
        if kind == "scalar" and len(columns) != 1:
            raise OperandColumns("Operand should contain 1 column(s)")
        if kind == "exists":
            plan = Limit(plan, 1)
        self.subplans.append(SubPlan(number, plan, kind))
        ft = columns[0].ft.nullable() if kind == "scalar" else bool_type()
        return func("GetVar", ft, int_const(number))


def _is_dual(node: Node) -> bool:
    return isinstance(node, exp.Table) and node.name.upper() == "DUAL" and not node.text("db")
