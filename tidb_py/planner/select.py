"""One SELECT to a logical plan: WHERE, GROUP BY, HAVING, select list, DISTINCT, ORDER BY, LIMIT, and its sub-queries.

The order of work is MySQL's order of names: the select list is lowered before HAVING and ORDER BY, which may use its aliases;
then the aggregation is put in and everything above it is rewritten in terms of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlglot import expressions as exp

from core_py.vector import expr as vx
from core_py.vector.expr import AggDesc, ColumnRef, Constant, Expr, SortKey, columns_of, func, int_const, transform
from core_py.vector.fieldtype import int_type
from tidb_py.errors import (
    NotGrouped,
    NotSupported,
    OperandColumns,
    UnknownColumn,
)  # fmt: skip
from tidb_py.expression import typing as t
from tidb_py.expression.lower import Lowering
from tidb_py.expression.scope import Ids, PlanColumn, Scope
from tidb_py.planner.aggregates import make_aggregate
from tidb_py.planner.decorrelate import pull_up
from tidb_py.planner.logical import (
    Aggregation,
    Dual,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Selection,
    Sort,
)  # fmt: skip
from tidb_py.planner.query_parts import conjuncts, distinct, position_of, split_and, unwrap, visible

if TYPE_CHECKING:
    from tidb_py.planner.builder import QueryBuilder

Node = Any


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


class SelectBuilder:
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
            plan = self.owner.query(unwrap(node), inner_scope)
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
        plan = self.owner.query(unwrap(node.args["query"]), inner_scope)
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
        plan = self.owner.query(unwrap(node), inner_scope)
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
        position = position_of(node)
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
