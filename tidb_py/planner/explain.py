"""EXPLAIN in TiDB's five columns: id, estRows, task, access object, operator info."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from core_py.vector import expr as vx
from core_py.vector import plan as cop
from core_py.vector.expr import AggDesc, ColumnRef, Constant, Expr, SortKey
from tidb_py.planner import physical as ph

Line = tuple[str, str, str, str, str]
_OPS = {"LT": "lt", "LE": "le", "GT": "gt", "GE": "ge", "EQ": "eq", "NE": "ne", "NullEQ": "nulleq", "LogicalAnd": "and",
        "LogicalOr": "or", "UnaryNot": "not", "Plus": "plus", "Minus": "minus", "Multiply": "mul", "Divide": "div"}  # fmt: skip
_AGGS = {vx.COUNT: "count", vx.SUM: "sum", vx.AVG: "avg", vx.MIN: "min", vx.MAX: "max", vx.FIRST: "firstrow",
         vx.GROUP_CONCAT: "group_concat", vx.BIT_AND: "bit_and", vx.BIT_OR: "bit_or", vx.BIT_XOR: "bit_xor",
         vx.STDDEV_POP: "stddev_pop", vx.STDDEV_SAMP: "stddev_samp", vx.VAR_POP: "var_pop", vx.VAR_SAMP: "var_samp"}  # fmt: skip
_CAST = re.compile(r"Cast\w+?As(\w+)")
_CAST_TYPES = {"Int": "bigint", "Real": "double", "String": "char", "Time": "datetime", "Duration": "time"}
_SUFFIX = re.compile(r"(?:Sig|UTF8|Int|Real|Decimal|String|Time|Duration|Json|\d+Args?)$")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DATA = {"Aggregate": "HashAgg", "TopNNode": "TopN", "LimitNode": "Limit", "TableScan": "TableFullScan"}


def explain(statement: ph.Statement | None, above: str = "") -> list[Line]:
    """The lines of a plan, below the name of the statement that changes its rows; such a one may have no plan."""
    printer = _Printer()
    lines = printer.change(above) if above else []
    if statement is None:
        return lines
    lines += printer.lines(statement.root, "└─" if above else "", "  " if above else "", "")
    for sub in statement.subplans:
        lines += printer.lines(sub.plan, "", "", "")
    return lines


def show(expr: Expr, names: list[str]) -> str:
    """An expression as TiDB prints it."""
    if isinstance(expr, ColumnRef):
        return names[expr.offset] if expr.offset < len(names) else f"Column#{expr.offset}"
    if isinstance(expr, Constant):
        if isinstance(expr.value, bytes):
            return '"' + expr.value.decode(errors="replace") + '"'
        return "NULL" if expr.value is None else str(expr.value)
    cast = _CAST.fullmatch(expr.name)
    if cast is not None:
        return f"cast({show(expr.args[0], names)}, {_CAST_TYPES.get(cast[1], cast[1].lower())})"
    short = next((v for k, v in _OPS.items() if expr.name.startswith(k)), "") or _function_name(expr.name)
    if expr.name.startswith("In") and expr.name[2:3].isupper():
        short = "in"
    return f"{short}({', '.join(show(a, names) for a in expr.args)})"


def _function_name(signature: str) -> str:
    """`UpperUTF8` is upper, `AbsInt` is abs, `JsonExtractSig` is json_extract."""
    name = signature
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return _WORD.sub("_", name).lower()


class _Printer:
    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def change(self, name: str) -> list[Line]:
        """The line of an INSERT, UPDATE or DELETE."""
        return [(f"{name}_{next(self._ids)}", "N/A", "root", "", "N/A")]

    def _names(self, plan: ph.PhysicalPlan) -> list[str]:
        return [f"{c.database}.{c.table}.{c.name}" if c.table else c.name or f"Column#{c.uid}" for c in plan.columns]

    def lines(self, plan: ph.PhysicalPlan, indent: str, below: str, suffix: str) -> Iterator[Line]:
        name, access, info = self._describe(plan)
        yield (f"{indent}{name}_{next(self._ids)}{suffix}", f"{plan.estimate:.2f}", "root", access, info)
        if isinstance(plan, (ph.TableReader, ph.IndexReader)):
            yield from self._cop(plan, plan.pushed, plan.scan, below, is_last=True, suffix="")
        elif isinstance(plan, ph.IndexLookUp):
            yield from self._cop(plan, (), plan.index_scan, below, is_last=False, suffix="(Build)")
            yield from self._cop(plan, plan.pushed, plan.scan, below, is_last=True, suffix="(Probe)")
        children = list(ph.inputs_of(plan))
        if isinstance(plan, ph.HashJoin):
            children.reverse()
        for i, child in enumerate(children):
            last = i == len(children) - 1
            mark = ("(Build)" if i == 0 else "(Probe)") if isinstance(plan, ph.HashJoin) else ""
            yield from self.lines(child, below + ("└─" if last else "├─"), below + ("  " if last else "│ "), mark)

    def _cop(
        self, plan: ph.TableReader | ph.IndexReader | ph.IndexLookUp, pushed: tuple[cop.PushedExecutor, ...],
        scan: cop.Scan, below: str, *, is_last: bool, suffix: str,
    ) -> Iterator[Line]:  # fmt: skip
        names = [f"{plan.alias}.{self._column(plan, c)}" for c in scan.columns]
        indent = below + ("└─" if is_last else "├─")
        deeper = below + ("  " if is_last else "│ ")
        mark = suffix
        for executor in reversed(pushed):
            title, info = self._pushed(executor, names)
            yield (f"{indent}{title}_{next(self._ids)}{mark}", f"{plan.estimate:.2f}", "cop[tikv]", "", info)
            indent, deeper, mark = deeper + "└─", deeper + "  ", ""
        whole = plan.description.startswith("range:[-inf,+inf]")
        access = f"table:{plan.alias}"
        if isinstance(scan, cop.IndexScan) and isinstance(plan, (ph.IndexReader, ph.IndexLookUp)):
            parts = ", ".join(c.name for c in plan.index.columns)
            access += f", index:{plan.index.name}({parts})"
            title, info = "IndexRangeScan", f"{plan.description}, keep order:false, stats:pseudo"
        elif isinstance(plan, ph.IndexLookUp):
            title, info = "TableRowIDScan", "keep order:false, stats:pseudo"
        else:
            order = f"keep order:{'true' if isinstance(plan, ph.TableReader) and plan.keep_order else 'false'}"
            order += ", desc" if isinstance(plan, ph.TableReader) and plan.desc else ""
            title = "TableFullScan" if whole else "TableRangeScan"
            info = f"{order}, stats:pseudo" if whole else f"{plan.description}, {order}, stats:pseudo"
        yield (f"{indent}{title}_{next(self._ids)}{mark}", f"{plan.estimate:.2f}", "cop[tikv]", access, info)

    def _column(self, plan: ph.TableReader | ph.IndexReader | ph.IndexLookUp, column: cop.ScanColumn) -> str:
        return next((c.name for c in plan.table.columns if c.id == column.column_id), "_tidb_rowid")

    def _pushed(self, executor: cop.PushedExecutor, names: list[str]) -> tuple[str, str]:
        if isinstance(executor, cop.Selection):
            return "Selection", ", ".join(show(c, names) for c in executor.conditions)
        if isinstance(executor, cop.Aggregate):
            return "HashAgg", _agg_info(executor.group_by, executor.aggs, names)
        if isinstance(executor, cop.TopNNode):
            return "TopN", f"{_sort_info(executor.keys, names)}, offset:0, count:{executor.limit}"
        if isinstance(executor, cop.LimitNode):
            return "Limit", f"offset:0, count:{executor.limit}"
        return "Projection", ", ".join(show(e, names) for e in executor.exprs)

    def _describe(self, plan: ph.PhysicalPlan) -> tuple[str, str, str]:
        inputs = ph.inputs_of(plan)
        names = self._names(inputs[0]) if inputs else []
        if isinstance(plan, ph.TableReader):
            return "TableReader", "", "data:" + _data(plan)
        if isinstance(plan, ph.IndexReader):
            return "IndexReader", "", "index:" + (_data(plan) if plan.pushed else "IndexRangeScan")
        if isinstance(plan, ph.IndexLookUp):
            return "IndexLookUp", "", ""
        if isinstance(plan, ph.PointGet):
            return self._point(plan)
        if isinstance(plan, ph.SelectionNode):
            return "Selection", "", ", ".join(show(c, names) for c in plan.conditions)
        if isinstance(plan, ph.ProjectionNode):
            return "Projection", "", ", ".join(show(e, names) for e in plan.exprs)
        if isinstance(plan, ph.HashJoin):
            kind = {"inner": "inner join", "left": "left outer join", "semi": "semi join", "anti": "anti semi join"}
            rights = self._names(plan.right)
            pairs = zip(plan.left_keys, plan.right_keys, strict=True)
            equal = " ".join(f"eq({show(a, names)}, {show(b, rights)})" for a, b in pairs)
            other = ", other cond:" + ", ".join(show(o, names + rights) for o in plan.other) if plan.other else ""
            return (
                "HashJoin",
                "",
                f"{kind[plan.kind]}, equal:[{equal}]{other}" if equal else f"CARTESIAN {kind[plan.kind]}{other}",
            )
        if isinstance(plan, ph.HashAgg):
            return "HashAgg", "", self._hash_agg(plan, names)
        if isinstance(plan, ph.SortNode):
            return "Sort", "", _sort_info(plan.keys, names)
        if isinstance(plan, ph.TopNNode):
            return "TopN", "", f"{_sort_info(plan.keys, names)}, offset:{plan.offset}, count:{plan.count}"
        if isinstance(plan, ph.LimitNode):
            return "Limit", "", f"offset:{plan.offset}, count:{plan.count}"
        if isinstance(plan, ph.UnionAll):
            return "Union", "", ""
        if isinstance(plan, ph.MemTable):
            return "MemTableScan", f"table:{plan.name.upper()}", ""
        return "TableDual", "", f"rows:{plan.rows}"

    def _hash_agg(self, plan: ph.HashAgg, names: list[str]) -> str:
        """A final aggregation is shown by what its partial one reads: the states in between have no names."""
        groups, aggs, child = plan.group_by, plan.aggs, plan.child
        inner = (
            child.pushed[-1]
            if isinstance(child, (ph.TableReader, ph.IndexReader, ph.IndexLookUp)) and child.pushed
            else None
        )
        if plan.final and isinstance(inner, cop.Aggregate):
            assert isinstance(child, (ph.TableReader, ph.IndexReader, ph.IndexLookUp))
            groups, aggs = inner.group_by, inner.aggs
            names = [f"{child.alias}.{self._column(child, c)}" for c in child.scan.columns]
        outputs = [c.name or f"Column#{c.uid}" for c in plan.columns]
        return _agg_info(groups, aggs, names, outputs)

    def _point(self, plan: ph.PointGet) -> tuple[str, str, str]:
        count = len(plan.handles) if plan.handles is not None else len(plan.index_keys)
        title = "Point_Get" if count == 1 else "Batch_Point_Get"
        access = f"table:{plan.alias}"
        if plan.index is not None:
            access += f", index:{plan.index.name}({', '.join(c.name for c in plan.index.columns)})"
        handles = plan.handles or ()
        info = f"handle:{handles[0]}" if len(handles) == 1 else f"handle:{list(handles)}" if handles else ""
        return title, access, info


def _data(plan: ph.TableReader | ph.IndexReader) -> str:
    """The topmost executor in the stores."""
    if plan.pushed:
        name = type(plan.pushed[-1]).__name__
        return _DATA.get(name, name)
    return "TableFullScan" if plan.description.startswith("range:[-inf,+inf]") else "TableRangeScan"


def _agg_info(
    groups: tuple[Expr, ...], aggs: tuple[AggDesc, ...], names: list[str], outputs: list[str] | None = None
) -> str:
    shown = []
    for i, a in enumerate(aggs):
        distinct, args = "distinct " if a.distinct else "", ", ".join(show(x, names) for x in a.args)
        target = f"->{outputs[i]}" if outputs is not None and i < len(outputs) else ""
        shown.append(f"funcs:{_AGGS.get(a.kind, 'agg')}({distinct}{args}){target}")
    funcs = ", ".join(shown)
    group = "group by:" + ", ".join(show(g, names) for g in groups) if groups else ""
    return ", ".join(p for p in (group, funcs) if p)


def _sort_info(keys: tuple[SortKey, ...], names: list[str]) -> str:
    return ", ".join(show(k.expr, names) + (":desc" if k.desc else "") for k in keys)
