"""From a logical plan to a physical one: rules, then access paths, then push-down into the readers.

What can run in the stores is moved there while a node is converted: selections, partial aggregates, top-N and limits over
one reader. The root then finishes (final aggregation, merging top-N). Costs are by rule and pseudo-statistics: points
before unique entries before ranges before full scans.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core_py.vector import expr as vx
from core_py.vector import plan as cop
from core_py.vector.aggregate import partial_types
from core_py.vector.expr import AggDesc, ColumnRef, Expr, ScalarFunc, SortKey, columns_of, remap, transform
from core_py.vector.fieldtype import int_type
from core_py.vector.plan import IndexScan, ScanColumn, TableScan
from core_py.vector.scan_decode import HANDLE_ID, restorable
from tidb_py.catalog.model import PUBLIC, ColumnInfo
from tidb_py.expression.scope import PlanColumn, by_uid
from tidb_py.planner import access
from tidb_py.planner import logical as lg
from tidb_py.planner import physical as ph
from tidb_py.planner.defaults import origin_default_datum
from tidb_py.planner.rules.column_pruning import prune
from tidb_py.planner.rules.join_reorder import reorder
from tidb_py.planner.rules.predicate_push_down import push_down
from tidb_py.types.encode import KeyEncoder

_PARTIAL = frozenset({vx.COUNT, vx.SUM, vx.AVG, vx.MIN, vx.MAX, vx.FIRST})
_ROOT_ONLY = frozenset({"Rand", "UUID", "Sleep"})
_READERS = (ph.TableReader, ph.IndexReader, ph.IndexLookUp)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Settings that change plans."""

    zone: dt.tzinfo = dt.UTC
    agg_push_down: bool = True


def optimize(plan: lg.LogicalPlan, options: PlanOptions) -> ph.PhysicalPlan:
    """The physical plan of a query."""
    plan = push_down(plan)
    plan = reorder(plan, estimate)
    plan = push_down(plan)
    shown = list(plan.columns)
    prune(plan)
    physical = _Converter(options).convert(plan)
    if [c.uid for c in physical.columns] != [c.uid for c in shown]:
        at = by_uid(physical.columns)
        exprs = tuple(ColumnRef(at[c.uid], c.ft) for c in shown)
        physical = ph.ProjectionNode(columns=tuple(shown), child=physical, exprs=exprs, estimate=physical.estimate)
    return physical


def estimate(plan: lg.LogicalPlan) -> float:
    """A guess at the number of rows."""
    if isinstance(plan, lg.DataSource):
        rows = 10000.0
        for condition in plan.conditions:
            equal = isinstance(condition, ScalarFunc) and condition.name.startswith(("EQ", "In"))
            rows /= 100 if equal else 3
        return max(rows, 1.0)
    if isinstance(plan, lg.Limit):
        return min(float(plan.count), estimate(plan.child))
    if isinstance(plan, lg.Dual):
        return float(plan.rows)
    children = [estimate(c) for c in lg.children_of(plan)]
    if isinstance(plan, lg.Selection):
        return children[0] * 0.8
    if isinstance(plan, lg.Aggregation):
        return max(1.0, children[0] * 0.1) if plan.group_by else 1.0
    return max(children, default=100.0)


def pushable(expr: Expr) -> bool:
    """Whether the stores can compute an expression."""
    return not any(isinstance(e, ScalarFunc) and e.name in _ROOT_ONLY for e in vx.walk(expr))


class _Converter:
    def __init__(self, options: PlanOptions) -> None:
        self._options = options
        self._keys = KeyEncoder(options.zone)

    def convert(self, plan: lg.LogicalPlan) -> ph.PhysicalPlan:
        if isinstance(plan, lg.DataSource):
            return self._reader(plan)
        if isinstance(plan, lg.Selection):
            return self._selection(plan)
        if isinstance(plan, lg.Projection):
            return self._projection(plan)
        if isinstance(plan, lg.Join):
            return self._join(plan)
        if isinstance(plan, lg.Aggregation):
            return self._aggregation(plan)
        if isinstance(plan, lg.Sort):
            child = self.convert(plan.child)
            keys = _keys(plan.keys, child)
            if isinstance(child, ph.TableReader) and self._in_order(child, keys):
                return replace(child, keep_order=True, desc=keys[0].desc)
            return ph.SortNode(columns=child.columns, child=child, keys=keys, estimate=child.estimate)
        if isinstance(plan, lg.Limit):
            return self._limit(plan)
        if isinstance(plan, lg.Union):
            children = tuple(self._arranged(c) for c in plan.children)
            total = sum(c.estimate for c in children)
            return ph.UnionAll(columns=tuple(plan.columns), children=children, estimate=total)
        if isinstance(plan, lg.VirtualTable):
            offsets = tuple(plan.offsets[c.uid] for c in plan.columns)
            return ph.MemTable(columns=tuple(plan.columns), name=plan.name, offsets=offsets, estimate=100.0)
        return ph.DualNode(columns=tuple(plan.columns), rows=plan.rows, estimate=float(plan.rows))

    def _arranged(self, plan: lg.LogicalPlan) -> ph.PhysicalPlan:
        child = self.convert(plan)
        if [c.uid for c in child.columns] == [c.uid for c in plan.columns]:
            return child
        at = by_uid(child.columns)
        exprs = tuple(ColumnRef(at[c.uid], c.ft) for c in plan.columns)
        return ph.ProjectionNode(columns=tuple(plan.columns), child=child, exprs=exprs, estimate=child.estimate)

    # -- readers ----------------------------------------------------------------------------------------------

    def _scan_column(self, source: lg.DataSource, column: PlanColumn) -> ScanColumn:
        column_id = source.column_ids[column.uid]
        info = next((c for c in source.table.columns if c.id == column_id), None)
        handle = column_id == HANDLE_ID or (info is not None and info is source.table.handle_column)
        default = origin_default_datum(info, self._options.zone) if info is not None else None
        return ScanColumn(column_id, column.ft, handle, default)

    def _reader(self, source: lg.DataSource) -> ph.PhysicalPlan:
        table = source.table
        by_id = {c.uid: c for c in source.columns}
        found = access.intervals(source.conditions, by_id)
        names = {c.org_name.lower(): c for c in source.columns}
        handle_info = table.handle_column
        handle = names.get(handle_info.name.lower()) if handle_info is not None else None
        paths = [access.handle_path(table, handle, found, source.conditions)]
        for index in table.indexes:
            if index.state == PUBLIC:
                path = access.index_path(table, index, names, found, source.conditions, self._keys)
                if path is not None:
                    paths.append(path)
        path = access.best_path(paths)
        scan = TableScan(table.id, tuple(self._scan_column(source, c) for c in source.columns))
        if path.point_handles is not None or path.unique_points:
            return self._point(source, path, scan)
        if path.index is None:
            return self._table_reader(source, path, scan)
        return self._index(source, path, scan)

    def _point(self, source: lg.DataSource, path: access.Path, scan: TableScan) -> ph.PhysicalPlan:
        at = by_uid(source.columns)
        return ph.PointGet(
            columns=tuple(source.columns), table=source.table, alias=source.alias, scan=scan,
            handles=tuple(path.point_handles) if path.point_handles is not None else None, index=path.index,
            index_keys=tuple(r[0] for r in path.ranges) if path.unique_points else (),
            conditions=tuple(remap(c, at) for c in path.remaining), estimate=float(len(path.ranges)),
        )  # fmt: skip

    def _table_reader(self, source: lg.DataSource, path: access.Path, scan: TableScan) -> ph.PhysicalPlan:
        pushed, root = self._split(path.remaining, source.columns)
        reader = ph.TableReader(
            columns=tuple(source.columns), table=source.table, alias=source.alias, scan=scan, pushed=pushed,
            ranges=tuple(path.ranges), output_offsets=tuple(range(len(source.columns))), estimate=path.estimate,
            description=path.description,
        )  # fmt: skip
        return self._filtered(reader, root)

    def _split(
        self, conditions: Sequence[Expr], columns: Sequence[PlanColumn]
    ) -> tuple[tuple[cop.PushedExecutor, ...], tuple[Expr, ...]]:
        at = by_uid(columns)
        mapped = [remap(c, at) for c in conditions]
        down = tuple(c for c in mapped if pushable(c))
        return ((cop.Selection(down),) if down else ()), tuple(c for c in mapped if not pushable(c))

    def _filtered(self, reader: ph.PhysicalPlan, conditions: tuple[Expr, ...]) -> ph.PhysicalPlan:
        if not conditions:
            return reader
        return ph.SelectionNode(
            columns=reader.columns, child=reader, conditions=conditions, estimate=reader.estimate * 0.8
        )

    def _index(self, source: lg.DataSource, path: access.Path, scan: TableScan) -> ph.PhysicalPlan:
        index, table = path.index, source.table
        assert index is not None
        infos = [table.columns[c.offset] for c in index.columns]
        scan_columns = [ScanColumn(c.id, c.ft) for c in infos]
        handle_id = table.handle_column.id if table.handle_column is not None else HANDLE_ID
        handle_column = ScanColumn(handle_id, int_type(), pk_handle=True)
        wanted = {source.column_ids[c.uid] for c in source.columns}
        whole = {c.id for c, part in zip(infos, index.columns, strict=True) if part.length < 0 and restorable(c.ft)}
        pushed, root = self._split(path.remaining, source.columns)
        index_scan = IndexScan(table.id, index.id, (*scan_columns, handle_column), unique=index.unique)
        if wanted <= whole | {handle_id} and all(restorable(c.ft) for c in infos):
            return self._covering(source, path, index_scan, infos, root)
        reader = ph.IndexLookUp(
            columns=tuple(source.columns), table=table, alias=source.alias, index=index,
            index_scan=index_scan, ranges=tuple(path.ranges), scan=scan, pushed=pushed,
            output_offsets=tuple(range(len(source.columns))), estimate=path.estimate, description=path.description,
        )  # fmt: skip
        return self._filtered(reader, root)

    def _covering(
        self, source: lg.DataSource, path: access.Path, scan: IndexScan, infos: list[ColumnInfo], root: tuple[Expr, ...]
    ) -> ph.PhysicalPlan:
        """All columns are in the index: number expressions by the index's columns and put them in order at the end."""
        positions = {c.id: i for i, c in enumerate(infos)}
        to_index = {c.uid: positions.get(source.column_ids[c.uid], len(infos)) for c in source.columns}
        down = tuple(remap(c, to_index) for c in path.remaining if pushable(c))
        handle_ft = next((c.ft for c in source.columns if to_index[c.uid] == len(infos)), int_type())
        last = replace(scan.columns[-1], ft=handle_ft)
        assert path.index is not None
        reader = ph.IndexReader(
            columns=tuple(source.columns), table=source.table, alias=source.alias, index=path.index,
            scan=replace(scan, columns=(*scan.columns[:-1], last)), pushed=(cop.Selection(down),) if down else (),
            ranges=tuple(path.ranges), output_offsets=tuple(to_index[c.uid] for c in source.columns),
            estimate=path.estimate, description=path.description,
        )  # fmt: skip
        return self._filtered(reader, root)

    # -- operators --------------------------------------------------------------------------------------------

    def _selection(self, plan: lg.Selection) -> ph.PhysicalPlan:
        child = self.convert(plan.child)
        at = by_uid(child.columns)
        conditions = tuple(remap(c, at) for c in plan.conditions)
        return ph.SelectionNode(
            columns=child.columns, child=child, conditions=conditions, estimate=child.estimate * 0.8
        )

    def _projection(self, plan: lg.Projection) -> ph.PhysicalPlan:
        child = self.convert(plan.child)
        at = by_uid(child.columns)
        exprs = tuple(remap(e, at) for e in plan.exprs)
        plain = all(isinstance(e, ColumnRef) and e.offset == i for i, e in enumerate(exprs))
        if plain and len(exprs) == len(child.columns):
            return replace(child, columns=tuple(plan.columns))
        return ph.ProjectionNode(columns=tuple(plan.columns), child=child, exprs=exprs, estimate=child.estimate)

    def _join(self, plan: lg.Join) -> ph.PhysicalPlan:
        left, right = self.convert(plan.left), self.convert(plan.right)
        left_at, right_at = by_uid(left.columns), by_uid(right.columns)
        left_keys, right_keys, other = [], [], []
        both = left_at | {uid: i + len(left.columns) for uid, i in right_at.items()}
        for condition in plan.conditions:
            pair = _equality(condition, left_at.keys(), right_at.keys())
            if pair is None:
                other.append(remap(condition, both))
            else:
                left_keys.append(remap(pair[0], left_at))
                right_keys.append(remap(pair[1], right_at))
        columns = left.columns if plan.kind in ("semi", "anti") else (*left.columns, *right.columns)
        if plan.kind == "left":
            columns = (*left.columns, *(replace(c, ft=c.ft.nullable()) for c in right.columns))
        return ph.HashJoin(
            columns=tuple(columns), kind=plan.kind, left=left, right=right, left_keys=tuple(left_keys),
            right_keys=tuple(right_keys), other=tuple(other), null_aware=plan.null_aware,
            estimate=max(left.estimate, right.estimate),
        )  # fmt: skip

    def _aggregation(self, plan: lg.Aggregation) -> ph.PhysicalPlan:
        child = self.convert(plan.child)
        at = by_uid(child.columns)
        group_by = tuple(remap(g, at) for g in plan.group_by)
        aggs = tuple(_remap_agg(a, at) for a in plan.aggs)
        rows = max(1.0, child.estimate * 0.1) if group_by else 1.0
        columns = tuple(plan.columns)
        if self._can_push(child, group_by, aggs):
            return self._push_aggregation(child, group_by, aggs, columns)
        return ph.HashAgg(columns=columns, child=child, group_by=group_by, aggs=aggs, final=False, estimate=rows)

    def _can_push(self, child: ph.PhysicalPlan, group_by: tuple[Expr, ...], aggs: tuple[AggDesc, ...]) -> bool:
        if not self._options.agg_push_down or not isinstance(child, _READERS):
            return False
        if any(not isinstance(p, cop.Selection) for p in child.pushed):
            return False
        exprs = [*group_by, *(arg for a in aggs for arg in a.args)]
        return all(a.kind in _PARTIAL and not a.distinct for a in aggs) and all(pushable(e) for e in exprs)

    def _push_aggregation(
        self, child: ph.PhysicalPlan, group_by: tuple[Expr, ...], aggs: tuple[AggDesc, ...],
        columns: tuple[PlanColumn, ...],
    ) -> ph.PhysicalPlan:  # fmt: skip
        assert isinstance(child, _READERS)
        offsets = dict(enumerate(child.output_offsets))
        inner = cop.Aggregate(tuple(remap(g, offsets) for g in group_by), tuple(_remap_agg(a, offsets) for a in aggs))
        types = partial_types(inner.group_by, inner.aggs)
        partial = tuple(PlanColumn(-1 - i, "", ft) for i, ft in enumerate(types))
        reader = replace(child, pushed=(*child.pushed, inner), columns=partial, output_offsets=tuple(range(len(types))))
        states = len(types) - len(group_by)
        final_groups = tuple(ColumnRef(states + i, g.ft) for i, g in enumerate(group_by))
        rows = max(1.0, child.estimate * 0.1) if group_by else 1.0
        return ph.HashAgg(columns=columns, child=reader, group_by=final_groups, aggs=aggs, final=True, estimate=rows)

    def _in_order(self, child: ph.TableReader, keys: tuple[SortKey, ...]) -> bool:
        """Whether a table reader can give its rows in this order by reading the keys in order."""
        if not keys or child.keep_order:
            return False
        if any(not isinstance(p, cop.Selection) for p in child.pushed):
            return False
        first = keys[0].expr
        if not isinstance(first, ColumnRef):
            return False
        column = child.scan.columns[child.output_offsets[first.offset]]
        return column.pk_handle and not column.ft.unsigned

    def _limit(self, plan: lg.Limit) -> ph.PhysicalPlan:
        inner = plan.child
        if isinstance(inner, lg.Projection) and isinstance(inner.child, (lg.Sort, lg.Limit)) is False:
            under = lg.Projection(lg.Limit(inner.child, plan.count, plan.offset), inner.exprs, inner.columns)
            return self._projection(under)
        if isinstance(inner, lg.Sort):
            return self._top_n(plan, inner)
        child = self.convert(inner)
        limited = self._push_executor(child, cop.LimitNode(plan.count + plan.offset))
        return ph.LimitNode(
            columns=limited.columns, child=limited, count=plan.count, offset=plan.offset, estimate=float(plan.count)
        )

    def _top_n(self, limit: lg.Limit, sort: lg.Sort) -> ph.PhysicalPlan:
        inner = sort.child
        if isinstance(inner, lg.Projection):
            change = {c.uid: e for c, e in zip(inner.columns, inner.exprs, strict=True)}
            keys = [SortKey(transform(k.expr, lambda e: _swap(e, change)), k.desc) for k in sort.keys]
            under = lg.Limit(lg.Sort(inner.child, keys), limit.count, limit.offset)
            return self._projection(lg.Projection(under, inner.exprs, inner.columns))
        child = self.convert(inner)
        keys_at = _keys(sort.keys, child)
        total = limit.count + limit.offset
        if isinstance(child, ph.TableReader) and self._in_order(child, keys_at):
            ordered = replace(child, keep_order=True, desc=keys_at[0].desc)
            pushed = self._push_executor(ordered, cop.LimitNode(total))
            return ph.LimitNode(
                columns=child.columns, child=pushed, count=limit.count, offset=limit.offset,
                estimate=float(limit.count),
            )  # fmt: skip
        if isinstance(child, _READERS) and all(pushable(k.expr) for k in keys_at):
            offsets = dict(enumerate(child.output_offsets))
            remapped = tuple(SortKey(remap(k.expr, offsets), k.desc) for k in keys_at)
            child = self._push_executor(child, cop.TopNNode(remapped, total))
        return ph.TopNNode(
            columns=child.columns, child=child, keys=keys_at, count=limit.count, offset=limit.offset,
            estimate=float(limit.count),
        )  # fmt: skip

    def _push_executor(self, child: ph.PhysicalPlan, executor: cop.PushedExecutor) -> ph.PhysicalPlan:
        if not isinstance(child, _READERS) or any(not isinstance(p, cop.Selection) for p in child.pushed):
            return child
        return replace(child, pushed=(*child.pushed, executor))


def _swap(expr: Expr, change: dict[int, Expr]) -> Expr:
    return change.get(expr.offset, expr) if isinstance(expr, ColumnRef) else expr


def _keys(keys: Sequence[SortKey], child: ph.PhysicalPlan) -> tuple[SortKey, ...]:
    at = by_uid(child.columns)
    return tuple(SortKey(remap(k.expr, at), k.desc) for k in keys)


def _remap_agg(agg: AggDesc, at: dict[int, int]) -> AggDesc:
    order = tuple(SortKey(remap(k.expr, at), k.desc) for k in agg.order_by)
    return replace(agg, args=tuple(remap(a, at) for a in agg.args), order_by=order)


def _equality(condition: Expr, left: Iterable[int], right: Iterable[int]) -> tuple[Expr, Expr] | None:
    """The two sides of an equality between the inputs of a join."""
    if not isinstance(condition, ScalarFunc) or not condition.name.startswith("EQ") or len(condition.args) != 2:
        return None
    a, b = condition.args
    lefts, rights = set(left), set(right)
    used_a, used_b = columns_of(a), columns_of(b)
    if used_a and used_b:
        if used_a <= lefts and used_b <= rights:
            return a, b
        if used_a <= rights and used_b <= lefts:
            return b, a
    return None
