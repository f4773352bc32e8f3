"""SELECT as sqlglot parsed it to a logical plan: FROM, WHERE, GROUP BY, HAVING, select list, DISTINCT, ORDER BY, LIMIT.

One `QueryBuilder` per statement; `select` recurses for sub-queries with the scope of the level around them. Sub-queries
become joins (IN, EXISTS, correlated scalar ones) or `SubPlan`s that are run first (uncorrelated scalar ones and EXISTS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sqlglot import expressions as exp

from core_py.vector import expr as vx
from core_py.vector.expr import AggDesc, ColumnRef, Constant, Expr, SortKey, columns_of, func, int_const, transform
from core_py.vector.fieldtype import bool_type, int_type
from tidb_py.errors import (
    ColumnCount,
    NonUniqueTable,
    NotGrouped,
    NotSupported,
    OperandColumns,
    UnknownColumn,
    WrongSetColumns,
)  # fmt: skip
from tidb_py.expression import typing as t
from tidb_py.expression.lower import LowerContext, Lowering
from tidb_py.expression.scope import Ids, PlanColumn, Scope
from tidb_py.planner.aggregates import make_aggregate
from tidb_py.planner.decorrelate import pull_up
from tidb_py.planner.logical import (
    Aggregation,
    DataSource,
    Dual,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Selection,
    Sort,
    SubPlan,
    Union,
    VirtualTable,
)  # fmt: skip

Node = Any


class TableSource(Protocol):
    """Where FROM finds tables."""

    def source(self, database: str, table: str, alias: str, ids: Ids) -> DataSource | VirtualTable:
        """The plan node of a table; raises 1146."""

    @property
    def full_group_by(self) -> bool:
        """Whether ONLY_FULL_GROUP_BY is on."""


@dataclass(slots=True)
class _Aggs:
    """The aggregates of one query level while its expressions are lowered."""

    descs: list[AggDesc] = field(default_factory=list)
    columns: list[PlanColumn] = field(default_factory=list)

    def add(self, desc: AggDesc, ids: Ids) -> ColumnRef:
        for known, column in zip(self.descs, self.columns, strict=True):
            if known == desc:
                return column.ref
        column = PlanColumn(ids(), "", desc.ft)
        self.descs.append(desc)
        self.columns.append(column)
        return column.ref


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
                self._ctes[cte.alias.lower()] = cte
        if isinstance(node, exp.Subquery):
            plan = self.query(node.this, outer, names)
            return self._tail(plan, node, Scope(plan.columns, outer))
        if isinstance(node, exp.Union):
            return self._union(node, outer)
        if isinstance(node, exp.Select):
            return _Select(self, node, outer, names).build()
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
                position = _position(item.this)
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
        if source is None:
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
        cte = self._ctes.get(name.lower()) if not database else None
        if cte is not None:
            plan = self.query(cte.this, None)
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
        return merged + [replace(c, hidden=True, name=f"{c.name}\0") if c.uid in hidden else c for c in rest]

    # -- sub-queries ------------------------------------------------------------------------------------------

    def scalar_only(self, scope: Scope) -> Any:
        """A handler for places where only uncorrelated sub-queries can be."""

        def handle(node: Node) -> Expr:
            inner_scope = Scope(scope.columns, scope.outer)
            plan = self.query(_unwrap(node), inner_scope)
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


def _unwrap(node: Node) -> Node:
    while isinstance(node, (exp.Subquery, exp.Exists, exp.Paren)) and not (
        isinstance(node, exp.Subquery) and (node.args.get("limit") or node.args.get("order"))
    ):
        node = node.this
    return node


def conjuncts(node: Node) -> list[Node]:
    """The parts of an AND."""
    if isinstance(node, exp.And):
        return [*conjuncts(node.this), *conjuncts(node.expression)]
    if isinstance(node, exp.Paren) and isinstance(node.this, (exp.And, exp.Paren)):
        return conjuncts(node.this)
    return [node]


def split_and(expr: Expr) -> list[Expr]:
    """The parts of a typed AND."""
    if isinstance(expr, vx.ScalarFunc) and expr.name == "LogicalAnd":
        return [*split_and(expr.args[0]), *split_and(expr.args[1])]
    return [expr]


def visible(plan: LogicalPlan) -> list[PlanColumn]:
    """The columns a user sees."""
    return [c for c in plan.columns if not c.hidden]


def distinct(plan: LogicalPlan, ids: Ids) -> LogicalPlan:
    """DISTINCT as a group-by of all columns."""
    columns = visible(plan)
    grouped = [replace(c, uid=ids()) for c in columns]
    return Aggregation(plan, [c.ref for c in columns], [], grouped)


def _position(node: Node) -> int:
    return int(node.this) if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit() else 0


class _Select:
    """One SELECT."""

    def __init__(self, owner: QueryBuilder, node: Node, outer: Scope | None, names: Sequence[str]) -> None:
        self.owner, self.node, self.outer, self.names = owner, node, outer, names
        self.ids = owner.ids
        self.plan: LogicalPlan = Dual(1)
        self.scope = Scope([], outer)
        self.aggs = _Aggs()
        self.exprs: list[Expr] = []
        self.columns: list[PlanColumn] = []
        self.groups: list[Expr] = []

    def build(self) -> LogicalPlan:
        node = self.node
        self.plan = self.owner.from_clause(node, self.outer)
        self.scope = Scope(self.plan.columns, self.outer, clause="where clause")
        if node.args.get("where") is not None:
            self.where(node.args["where"].this)
        self.scope.clause = "field list"
        lower = self._lowering()
        self._select_list(lower)
        self._group_by(node.args.get("group"))
        having = self._having(lower, node.args.get("having"))
        order = self._order_by(lower, node.args.get("order"))
        if self.groups or self.aggs.descs or node.args.get("group") is not None:
            having, order = self._aggregate(having, order)
        if having:
            self.plan = Selection(self.plan, having)
        return self._finish(order)

    def where(self, node: Node) -> None:
        """Add the conditions of a WHERE to the plan."""
        conditions: list[Expr] = []
        for part in conjuncts(node):
            if not self._semi_join(part):
                conditions += split_and(t.truth_value(self._lowering()(part)))
        if conditions:
            self.plan = Selection(self.plan, conditions)

    def _lowering(self) -> Lowering:
        lower = Lowering(self.owner.ctx, self.scope)
        lower.on_aggregate = self._on_aggregate if self.scope.clause == "field list" else None
        lower.on_subquery = self._on_subquery
        return lower

    # -- sub-queries of this level

    def _semi_join(self, node: Node) -> bool:
        """IN and EXISTS as conditions of their own become semi and anti joins."""
        anti = False
        while isinstance(node, (exp.Not, exp.Paren)):
            anti ^= isinstance(node, exp.Not)
            node = node.this
        if isinstance(node, exp.EQ) and isinstance(node.expression, exp.Any):
            node = exp.In(this=node.this, query=node.expression.this)
        if isinstance(node, exp.Exists):
            inner_scope = Scope(self.scope.columns, self.outer)
            plan = self.owner.query(_unwrap(node), inner_scope)
            if isinstance(plan, Limit) and plan.count > 0:
                plan = plan.child
            if not inner_scope.correlated:
                found = self.owner.subplan(plan, "exists")
                self.plan = Selection(self.plan, [t.negate(found) if anti else found])
                return True
            self._join_semi(plan, inner_scope, [], anti=anti, null_aware=False)
            return True
        if isinstance(node, exp.In) and node.args.get("query") is not None:
            self._in_query(node, anti=anti)
            return True
        return False

    def _in_query(self, node: Node, *, anti: bool) -> None:
        inner_scope = Scope(self.scope.columns, self.outer)
        plan = self.owner.query(_unwrap(node.args["query"]), inner_scope)
        lefts = node.this.expressions if isinstance(node.this, exp.Tuple) else [node.this]
        rights = visible(plan)
        if len(lefts) != len(rights):
            raise OperandColumns(f"Operand should contain {len(lefts)} column(s)")
        lower = self._lowering()
        conditions = [t.compare("EQ", lower(a), b.ref) for a, b in zip(lefts, rights, strict=True)]
        self._join_semi(plan, inner_scope, conditions, anti=anti, null_aware=anti)

    def _join_semi(
        self, plan: LogicalPlan, scope: Scope, conditions: list[Expr], *, anti: bool, null_aware: bool
    ) -> None:
        correlated = self._own(scope)
        if correlated:
            plan, pulled = pull_up(plan, correlated, self.ids)
            conditions = conditions + pulled
        self.plan = Join(
            kind="anti" if anti else "semi", left=self.plan, right=plan, conditions=conditions,
            columns=self.plan.columns, null_aware=null_aware,
        )  # fmt: skip

    def _own(self, scope: Scope) -> set[int]:
        """Correlated columns; those of levels further out are handed on."""
        mine = {c.uid for c in self.scope.columns}
        further = scope.correlated - mine
        if further and self.outer is not None:
            self.scope.correlated |= further
        return scope.correlated & mine

    def _on_subquery(self, node: Node) -> Expr:
        if isinstance(node, (exp.In, exp.EQ, exp.Any, exp.All)):
            raise NotSupported("IN, ANY and ALL with a sub-query are supported as conditions of WHERE and HAVING only")
        inner_scope = Scope(self.scope.columns, self.outer)
        plan = self.owner.query(_unwrap(node), inner_scope)
        if not inner_scope.correlated:
            return self.owner.subplan(plan, "exists" if isinstance(node, exp.Exists) else "scalar")
        if isinstance(node, exp.Exists):
            raise NotSupported("a correlated EXISTS is supported as a condition of WHERE only")
        return self._left_join(plan, inner_scope)

    def _left_join(self, plan: LogicalPlan, scope: Scope) -> Expr:
        """A correlated scalar sub-query: its aggregate by the correlated columns, joined."""
        value = visible(plan)
        if len(value) != 1:
            raise OperandColumns("Operand should contain 1 column(s)")
        counted = _counts(plan, value[0].uid)
        if not _one_row_per_group(plan):
            raise NotSupported("a correlated scalar sub-query must be an aggregate")
        plan, pulled = pull_up(plan, self._own(scope), self.ids)
        result = value[0].ref
        self.plan = Join(
            kind="left", left=self.plan, right=plan, conditions=pulled,
            columns=[*self.plan.columns, *[replace(c, hidden=True) for c in plan.columns]],
        )  # fmt: skip
        nullable = ColumnRef(result.offset, result.ft.nullable())
        if counted:
            return func("IfNullInt", int_type(), nullable, int_const(0))
        return nullable

    # -- select list, groups, order

    def _on_aggregate(self, node: Node) -> Expr:
        inner = Lowering(self.owner.ctx, self.scope)
        inner.on_subquery = self._on_subquery
        return self.aggs.add(make_aggregate(node, inner), self.ids)

    def _select_list(self, lower: Lowering) -> None:
        items = self.node.expressions
        for i, item in enumerate(items):
            if isinstance(item, exp.Star):
                self._star(self.scope.star())
                continue
            if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                self._star(self.scope.star(item.text("table"), item.text("db")))
                continue
            body = item.this if isinstance(item, exp.Alias) else item
            expr = lower(body)
            name = item.alias if isinstance(item, exp.Alias) else self._item_name(i, body, len(items))
            column = PlanColumn(self.ids(), name, expr.ft)
            if isinstance(expr, ColumnRef) and isinstance(body, exp.Column):
                origin = next((c for c in self.scope.columns if c.uid == expr.offset), None)
                if origin is not None:
                    column = replace(origin, uid=self.ids(), name=name, hidden=False)
                    if not isinstance(item, exp.Alias):
                        column = replace(column, name=origin.name)
            self.exprs.append(expr)
            self.columns.append(column)

    def _item_name(self, i: int, body: Node, count: int) -> str:
        if isinstance(body, exp.Column):
            return str(body.name)
        if len(self.names) == count:
            return self.names[i][:256]
        if isinstance(body, exp.Literal) and body.is_string:
            return str(body.this)
        return str(body.sql("mysql"))[:256]

    def _star(self, columns: Sequence[PlanColumn]) -> None:
        for column in columns:
            self.exprs.append(column.ref)
            self.columns.append(replace(column, uid=self.ids(), name=column.name.rstrip("\0"), hidden=False))

    def _by_alias(self, node: Node) -> Expr | None:
        """A name in GROUP BY, HAVING or ORDER BY that is an alias of the select list, or a position."""
        if isinstance(node, exp.Column) and not node.text("table"):
            lowered = node.name.lower()
            for expr, column in zip(self.exprs, self.columns, strict=True):
                if column.name.lower() == lowered:
                    return expr
        position = _position(node)
        if position:
            if position > len(self.exprs):
                raise UnknownColumn(f"Unknown column '{position}' in '{self.scope.clause}'")
            return self.exprs[position - 1]
        return None

    def _group_by(self, group: Node | None) -> None:
        if group is None:
            return
        if group.args.get("rollup") or group.args.get("cube") or group.args.get("grouping_sets"):
            raise NotSupported("WITH ROLLUP is not supported")
        self.scope.clause = "group statement"
        for item in group.expressions:
            item = item.this if isinstance(item, exp.Paren) else item
            expr: Expr | None = None
            if isinstance(item, exp.Column):
                try:
                    expr = self._lowering()(item)
                except UnknownColumn:
                    expr = None
            if expr is None:
                expr = self._by_alias(item)
            self.groups.append(expr if expr is not None else self._lowering()(item))
        self.scope.clause = "field list"

    def _named(self, lower: Lowering, *, columns_first: bool) -> Lowering:
        def substitute(node: Node) -> Expr | None:
            if not isinstance(node, exp.Column) or node.text("table"):
                return None
            if columns_first:
                here = self.scope._here(node.name, "", "")
                if here is not None and not any(c.name.lower() == node.name.lower() for c in self.columns):
                    return None
            return self._by_alias(node)

        lower.substitute = substitute
        return lower

    def _having(self, lower: Lowering, node: Node | None) -> list[Expr]:
        if node is None:
            return []
        named = self._named(self._lowering(), columns_first=True)
        out = []
        for part in conjuncts(node.this):
            out += split_and(t.truth_value(named(part)))
        return out

    def _order_by(self, lower: Lowering, node: Node | None) -> list[SortKey]:
        if node is None:
            return []
        self.scope.clause = "field list"
        named = self._named(self._lowering(), columns_first=False)
        keys = []
        for item in node.expressions:
            expr = self._by_alias(item.this)
            keys.append(SortKey(expr if expr is not None else named(item.this), bool(item.args.get("desc"))))
        return keys

    def _aggregate(self, having: list[Expr], order: list[SortKey]) -> tuple[list[Expr], list[SortKey]]:
        """Put the aggregation in, and rewrite what is above it in terms of its columns."""
        group_columns = [PlanColumn(self.ids(), "", g.ft) for g in self.groups]
        known = {g: c.ref for g, c in zip(self.groups, group_columns, strict=True)}
        aggregated = {c.uid for c in self.aggs.columns}
        unique = self._grouped_by_key()

        def rewrite(expr: Expr) -> Expr:
            if expr in known:
                return known[expr]
            if isinstance(expr, vx.ScalarFunc):
                return replace(expr, args=tuple(rewrite(a) for a in expr.args))
            if isinstance(expr, ColumnRef) and expr.offset not in aggregated:
                mine = next((c for c in self.scope.columns if c.uid == expr.offset), None)
                if mine is None and self.outer is not None:
                    return expr
                if not unique and self.owner.tables.full_group_by:
                    name = ".".join(p for p in (mine.database, mine.table, mine.name) if p) if mine else ""
                    raise NotGrouped(
                        f"Expression of SELECT list is not in GROUP BY clause and contains nonaggregated column "
                        f"'{name}' which is not functionally dependent on columns in GROUP BY clause; this is "
                        "incompatible with sql_mode=only_full_group_by"
                    )
                return self.aggs.add(AggDesc(vx.FIRST, (expr,), expr.ft), self.ids)
            return expr

        self.exprs = [rewrite(e) for e in self.exprs]
        having = [rewrite(e) for e in having]
        order = [SortKey(rewrite(k.expr), k.desc) for k in order]
        self.plan = Aggregation(self.plan, list(self.groups), self.aggs.descs, [*self.aggs.columns, *group_columns])
        return having, order

    def _grouped_by_key(self) -> bool:
        """Whether the groups contain a primary key, so that other columns depend on them."""
        grouped = {g.offset for g in self.groups if isinstance(g, ColumnRef)}
        return any(c.uid in grouped and c.ft.flags & 2 for c in self.scope.columns)

    def _finish(self, order: list[SortKey]) -> LogicalPlan:
        node = self.node
        columns, exprs = list(self.columns), list(self.exprs)
        position = dict(zip(reversed(exprs), reversed(columns), strict=True))
        keys = []
        for key in order:
            column = position.get(key.expr)
            if column is None and isinstance(key.expr, Constant):
                continue
            if column is None:
                column = PlanColumn(self.ids(), "", key.expr.ft, hidden=True)
                columns.append(column)
                exprs.append(key.expr)
                position[key.expr] = column
            keys.append(SortKey(column.ref, key.desc))
        plan: LogicalPlan = Projection(self.plan, exprs, columns)
        if node.args.get("distinct") is not None:
            if any(c.hidden for c in columns):
                raise NotSupported("ORDER BY of a SELECT DISTINCT must name columns of the select list")
            grouped = distinct(plan, self.ids)
            change = {a.uid: b.ref for a, b in zip(columns, grouped.columns, strict=True)}
            keys = [SortKey(_swap(k.expr, change), k.desc) for k in keys]
            plan = grouped
        if keys:
            plan = Sort(plan, keys)
        plan = self.owner.limit(plan, node)
        if any(c.hidden for c in plan.columns):
            shown = visible(plan)
            plan = Projection(plan, [c.ref for c in shown], shown)
        return plan


def _swap(expr: Expr, change: dict[int, ColumnRef]) -> Expr:
    return transform(expr, lambda e: change.get(e.offset, e) if isinstance(e, ColumnRef) else e)


def _one_row_per_group(plan: LogicalPlan) -> bool:
    while isinstance(plan, (Projection, Selection)):
        plan = plan.child
    return isinstance(plan, Aggregation) and not plan.group_by


def _counts(plan: LogicalPlan, uid: int) -> bool:
    """Whether a sub-query's value is a bare COUNT, which is 0 and not NULL for no rows."""
    while isinstance(plan, (Projection, Selection)):
        if isinstance(plan, Projection):
            at = next((i for i, c in enumerate(plan.columns) if c.uid == uid), None)
            if at is None or not isinstance(plan.exprs[at], ColumnRef):
                return False
            uid = next(iter(columns_of(plan.exprs[at])))
        plan = plan.child
    if not isinstance(plan, Aggregation):
        return False
    return any(c.uid == uid and a.kind == vx.COUNT for a, c in zip(plan.aggs, plan.columns, strict=False))
