"""The fast path of `SELECT columns FROM t WHERE primary_key = ?`: no parser, no optimizer, no timestamp.

Texts are reduced to a template by cutting their literals out; what was planned once for a template is kept with the schema
version it was planned for. Only plans that are a single get by integer primary key with plain columns qualify, so a hit costs
one dictionary look-up, one key and one read of the newest version (or of the transaction's snapshot).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlglot import expressions as exp

from core_py.codec import tablecodec
from core_py.vector.expr import ColumnRef, Constant
from core_py.vector.fieldtype import FieldType, int_type
from core_py.vector.plan import TableScan
from core_py.vector.scan_decode import decode_table
from tidb_py.errors import SqlError
from tidb_py.mysql.responses import ColumnDef
from tidb_py.parser import ast
from tidb_py.parser.front import parse
from tidb_py.planner import physical as ph
from tidb_py.server.handler import Batch, ResultSet
from tidb_py.session.overlay import OverlayReader
from tidb_py.session.query import column_def, plan_query
from tidb_py.session.state import SessionState
from tidb_py.session.storage import MAX_TS, Reader

_LITERAL = re.compile(r"(?<![\w.`@$])\d+(?![\w.])")
_UNSAFE = re.compile(r"['\"@?:/#]|--|\bfor\b|\block\b", re.IGNORECASE)
MAX_TEXT = 512  # longer texts are not looked at
CAPACITY = 256  # templates kept per session; the one unused longest goes first
_PROBE = 4611686018427387903  # a handle to plan with


@dataclass(frozen=True, slots=True)
class PointPlan:
    """One row by primary key."""

    table_id: int
    scan: TableScan
    unsigned: bool
    offsets: tuple[int, ...] | None  # output columns; None: the scan's own
    columns: list[ColumnDef]
    types: list[FieldType]


class PointPlans:
    """The templates of one session."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._known: OrderedDict[tuple[str, str, int], PointPlan | None] = OrderedDict()

    def of_text(self, sql: str) -> tuple[PointPlan, int] | None:
        """The plan and the key of a text, or None when it is not such a query."""
        if len(sql) > MAX_TEXT or sql[:6].lower() != "select" or _UNSAFE.search(sql):
            return None
        found = _LITERAL.findall(sql)
        if len(found) != 1:
            return None
        plan = self._plan(_LITERAL.sub(":v0", sql))
        return None if plan is None else (plan, int(found[0]))

    def of_prepared(self, template: str, params: Sequence[Constant]) -> tuple[PointPlan, int] | None:
        """The same for a prepared statement with one parameter."""
        if len(params) != 1 or not isinstance(params[0].value, int):
            return None
        plan = self._plan(template)
        return None if plan is None else (plan, params[0].value)

    def _plan(self, template: str) -> PointPlan | None:
        state = self._state
        key = (template, state.database, state.schema.version)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        try:
            plan = self._make(template)
        except SqlError:
            plan = None  # the ordinary path reports it
        self._known[key] = plan
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return plan

    def _make(self, template: str) -> PointPlan | None:
        statement = parse(template)
        if not isinstance(statement, ast.SqlNode) or not isinstance(statement.node, exp.Select):
            return None
        where = statement.node.args.get("where")
        if (
            where is None
            or not isinstance(where.this, exp.EQ)
            or not isinstance(where.this.expression, exp.Placeholder)
        ):
            return None
        if any(
            statement.node.args.get(part) is not None
            for part in ("joins", "group", "limit", "locks", "with_", "having")
        ):
            return None
        planned = plan_query(self._state, statement.node, [Constant(_PROBE, int_type())], "")
        root = planned.root
        offsets: tuple[int, ...] | None = None
        if isinstance(root, ph.ProjectionNode):
            if not all(isinstance(e, ColumnRef) for e in root.exprs):
                return None
            offsets = tuple(e.offset for e in root.exprs if isinstance(e, ColumnRef))
        point = root.child if isinstance(root, ph.ProjectionNode) else root
        if planned.subplans or not isinstance(point, ph.PointGet) or point.conditions or point.handles != (_PROBE,):
            return None
        columns = [column_def(c) for c in root.columns]
        handle = point.table.handle_column
        unsigned = handle is not None and handle.ft.unsigned
        return PointPlan(point.table.id, point.scan, unsigned, offsets, columns, [c.ft for c in root.columns])

    async def run(self, plan: PointPlan, key: int) -> ResultSet:
        """Read the row."""
        state = self._state
        storage, txn = state.server.storage, state.txn
        reader: Reader = storage.snapshot(MAX_TS if txn is None else txn.ts)
        if txn is not None and txn.dirty:
            reader = OverlayReader(reader, txn)
        value = None
        if plan.unsigned and 1 << 63 <= key < 1 << 64:
            key -= 1 << 64
        elif plan.unsigned and key < 0:
            key = 1 << 64  # there is no such row
        if -(1 << 63) <= key < 1 << 63:
            record = tablecodec.record_key(plan.table_id, key)
            value = await reader.get(record)
        state.warnings.clear()
        state.found_rows, state.row_count = int(value is not None), -1
        batches: list[Batch] = []
        if value is not None:
            columns = decode_table(plan.scan, [record], [value], state.zone())
            batches = [columns if plan.offsets is None else [columns[i] for i in plan.offsets]]
        return ResultSet(plan.columns, plan.types, _ready(batches))


async def _ready(batches: list[Batch]) -> AsyncIterator[Batch]:
    for batch in batches:
        yield batch
