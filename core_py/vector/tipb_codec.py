"""tipb messages to and from our expressions and executors.

Columns of a request are field types with collation numbers negated (the new collation framework, TiDB's default).
"""

from __future__ import annotations

from decimal import Decimal

from core_py.codec import decimal as decimal_codec
from core_py.codec import number
from core_py.errors import CodecError
from core_py.vector.expr import AVG, AggDesc, ColumnRef, Constant, Expr, ScalarFunc, SortKey, Value
from core_py.vector.fieldtype import (
    DURATION,
    NEWDECIMAL,
    NULL,
    UNSIGNED_FLAG,
    EvalType,
    FieldType,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    null_type,
    real_type,
    string_type,
)  # fmt: skip
from core_py.vector.plan import (
    Aggregate,
    Dag,
    IndexScan,
    LimitNode,
    Projection,
    PushedExecutor,
    ScanColumn,
    Selection,
    TableScan,
    TopNNode,
)  # fmt: skip
from protos.tipb import executor_pb2 as ex
from protos.tipb import expression_pb2 as e
from protos.tipb import schema_pb2, select_pb2

T_NULL, T_INT, T_UINT, T_FLOAT32, T_FLOAT64, T_STRING, T_BYTES = range(7)
T_DECIMAL, T_DURATION, T_ENUM, T_TIME, T_JSON = 102, 103, 104, 107, 108
T_COLUMN, T_SCALAR = 201, 10000


def field_type_to_pb(ft: FieldType) -> e.FieldType:
    """A field type."""
    return e.FieldType(
        tp=ft.tp,
        flag=ft.flags,
        flen=_int32(ft.flen),
        decimal=ft.decimal,
        collate=-abs(ft.collation),
        charset=_charset(ft),
    )


def _int32(length: int) -> int:
    """LONGTEXT's 4294967295 does not fit; the public encoders let it wrap to -1."""
    return length if length < 1 << 31 else -1


def _charset(ft: FieldType) -> str:
    return "binary" if abs(ft.collation) == 63 else "utf8mb4"


def field_type_from_pb(pb: e.FieldType) -> FieldType:
    """A field type."""
    return FieldType(pb.tp, pb.flag, pb.flen, pb.decimal, abs(pb.collate) or 63, tuple(pb.elems))


def expr_to_pb(expr: Expr) -> e.Expr:
    """An expression."""
    ft = field_type_to_pb(expr.ft)
    if isinstance(expr, ColumnRef):
        return e.Expr(tp=T_COLUMN, val=number.encode_i64(expr.offset), field_type=ft)  # type: ignore[arg-type]
    if isinstance(expr, Constant):
        tp, val = _constant(expr.value, expr.ft)
        return e.Expr(tp=tp, val=val, field_type=ft)  # type: ignore[arg-type]
    children = [expr_to_pb(arg) for arg in expr.args]
    return e.Expr(tp=T_SCALAR, sig=expr.sig, children=children, field_type=ft)  # type: ignore[arg-type]


def _constant(value: Value, ft: FieldType) -> tuple[int, bytes]:
    family = ft.eval_type
    if value is None:
        return T_NULL, b""
    if isinstance(value, bytes):
        return T_STRING, value
    if isinstance(value, Decimal):
        precision, scale = decimal_codec.shape_of(value)
        return T_DECIMAL, decimal_codec.encode(value, precision, scale)
    if isinstance(value, float):
        return T_FLOAT64, number.encode_f64(value)
    if family is EvalType.TIME:
        return T_TIME, number.encode_u64(value)
    if ft.tp == DURATION:
        return T_DURATION, number.encode_i64(value)
    return (T_UINT, number.encode_u64(value)) if ft.unsigned else (T_INT, number.encode_i64(value))


def expr_from_pb(pb: e.Expr) -> Expr:
    """An expression."""
    if pb.tp == T_COLUMN:
        return ColumnRef(number.decode_i64(pb.val), field_type_from_pb(pb.field_type))
    if pb.tp == T_SCALAR:
        args = tuple(expr_from_pb(child) for child in pb.children)
        return ScalarFunc(int(pb.sig), args, field_type_from_pb(pb.field_type))
    return _constant_from_pb(pb)


def _constant_from_pb(pb: e.Expr) -> Constant:
    tp, val = int(pb.tp), pb.val
    ft = field_type_from_pb(pb.field_type) if pb.HasField("field_type") else None
    if tp == T_NULL:
        return Constant(None, ft or null_type())
    if tp == T_INT:
        return Constant(number.decode_i64(val), _family(ft, EvalType.INT) or int_type())
    if tp == T_UINT:
        return Constant(number.decode_u64(val), _unsigned(ft))
    if tp in (T_FLOAT32, T_FLOAT64):
        return Constant(number.decode_f64(val), _family(ft, EvalType.REAL) or real_type())
    if tp in (T_STRING, T_BYTES, T_JSON):
        return Constant(bytes(val), ft if ft is not None and ft.eval_type is EvalType.STRING else string_type())
    if tp == T_DECIMAL:
        value, _ = decimal_codec.decode(val, 0)
        precision, scale = val[0], val[1]
        return Constant(value, decimal_type(max(precision, scale, 1), scale))
    if tp == T_DURATION:
        return Constant(number.decode_i64(val), _family(ft, EvalType.DURATION) or duration_type(6))
    if tp == T_TIME:
        return Constant(number.decode_u64(val), _family(ft, EvalType.TIME) or datetime_type(6))
    if tp == T_ENUM:
        return Constant(number.decode_u64(val), int_type(unsigned=True))
    raise CodecError(f"constant of expression type {tp} is not supported")


def _family(ft: FieldType | None, family: EvalType) -> FieldType | None:
    return ft if ft is not None and ft.eval_type is family and ft.tp not in (NULL, NEWDECIMAL) else None


def _unsigned(ft: FieldType | None) -> FieldType:
    return ft if ft is not None and ft.flags & UNSIGNED_FLAG else int_type(unsigned=True)


def agg_to_pb(agg: AggDesc) -> e.Expr:
    """An aggregate function."""
    return e.Expr(
        tp=agg.kind,  # type: ignore[arg-type]
        children=[expr_to_pb(arg) for arg in agg.args],
        field_type=field_type_to_pb(agg.ft),
        has_distinct=agg.distinct,
    )


def agg_from_pb(pb: e.Expr) -> AggDesc:
    """An aggregate function."""
    args = tuple(expr_from_pb(child) for child in pb.children)
    ft = field_type_from_pb(pb.field_type)
    if int(pb.tp) == AVG and ft.eval_type is EvalType.DECIMAL and args and args[0].ft.scale > ft.scale:
        ft = decimal_type(ft.flen, args[0].ft.scale)
    return AggDesc(int(pb.tp), args, ft, pb.has_distinct)


def _sort_to_pb(key: SortKey) -> e.ByItem:
    return e.ByItem(expr=expr_to_pb(key.expr), desc=key.desc)


def _columns_to_pb(columns: tuple[ScanColumn, ...]) -> list[schema_pb2.ColumnInfo]:
    out = []
    for column in columns:
        ft = column.ft
        info = schema_pb2.ColumnInfo(
            column_id=column.column_id, tp=ft.tp, collation=-abs(ft.collation), columnLen=_int32(ft.flen), decimal=ft.decimal,
            flag=ft.flags, elems=list(ft.elems), pk_handle=column.pk_handle,
        )  # fmt: skip
        if column.default is not None:
            info.default_val = column.default
        out.append(info)
    return out


def _columns_from_pb(columns: list[schema_pb2.ColumnInfo]) -> tuple[ScanColumn, ...]:
    return tuple(
        ScanColumn(
            c.column_id,
            FieldType(c.tp, c.flag, c.columnLen, c.decimal, abs(c.collation) or 63, tuple(c.elems)),
            c.pk_handle,
            c.default_val if c.HasField("default_val") else None,
        )
        for c in columns
    )


def _scan_to_pb(scan: TableScan | IndexScan) -> ex.Executor:
    columns = _columns_to_pb(scan.columns)
    if isinstance(scan, TableScan):
        body = ex.TableScan(
            table_id=scan.table_id, columns=columns, desc=scan.desc, primary_column_ids=scan.primary_column_ids
        )
        return ex.Executor(tp=ex.ExecType.TypeTableScan, tbl_scan=body)
    index = ex.IndexScan(
        table_id=scan.table_id, index_id=scan.index_id, columns=columns, desc=scan.desc, unique=scan.unique,
        primary_column_ids=scan.primary_column_ids,
    )  # fmt: skip
    return ex.Executor(tp=ex.ExecType.TypeIndexScan, idx_scan=index)


def executor_to_pb(node: PushedExecutor) -> ex.Executor:
    """One executor above the scan."""
    if isinstance(node, Selection):
        conditions = [expr_to_pb(c) for c in node.conditions]
        return ex.Executor(tp=ex.ExecType.TypeSelection, selection=ex.Selection(conditions=conditions))
    if isinstance(node, Projection):
        return ex.Executor(
            tp=ex.ExecType.TypeProjection, Projection=ex.Projection(exprs=[expr_to_pb(x) for x in node.exprs])
        )
    if isinstance(node, Aggregate):
        body = ex.Aggregation(
            group_by=[expr_to_pb(g) for g in node.group_by],
            agg_func=[agg_to_pb(a) for a in node.aggs],
            streamed=node.streamed,
        )
        tp = ex.ExecType.TypeStreamAgg if node.streamed else ex.ExecType.TypeAggregation
        return ex.Executor(tp=tp, aggregation=body)
    if isinstance(node, TopNNode):
        top = ex.TopN(order_by=[_sort_to_pb(k) for k in node.keys], limit=node.limit)
        return ex.Executor(tp=ex.ExecType.TypeTopN, topN=top)
    return ex.Executor(tp=ex.ExecType.TypeLimit, limit=ex.Limit(limit=node.limit))


def dag_to_pb(dag: Dag) -> select_pb2.DAGRequest:
    """A whole request, with answers in chunk encoding."""
    return select_pb2.DAGRequest(
        executors=[_scan_to_pb(dag.scan), *(executor_to_pb(node) for node in dag.executors)],
        output_offsets=dag.output_offsets,
        flags=dag.flags,
        sql_mode=dag.sql_mode,
        time_zone_name=dag.time_zone_name,
        time_zone_offset=dag.time_zone_offset,
        encode_type=select_pb2.EncodeType.TypeChunk,
        div_precision_increment=dag.div_precision_increment,
        collect_execution_summaries=dag.collect_summaries,
        max_warning_count=64,
    )


def _executor_from_pb(pb: ex.Executor) -> PushedExecutor:
    kind = pb.tp
    if kind == ex.ExecType.TypeSelection:
        return Selection(tuple(expr_from_pb(c) for c in pb.selection.conditions))
    if kind == ex.ExecType.TypeProjection:
        return Projection(tuple(expr_from_pb(x) for x in pb.Projection.exprs))
    if kind in (ex.ExecType.TypeAggregation, ex.ExecType.TypeStreamAgg):
        return Aggregate(
            tuple(expr_from_pb(g) for g in pb.aggregation.group_by),
            tuple(agg_from_pb(a) for a in pb.aggregation.agg_func),
            streamed=kind == ex.ExecType.TypeStreamAgg,
        )
    if kind == ex.ExecType.TypeTopN:
        keys = tuple(SortKey(expr_from_pb(item.expr), item.desc) for item in pb.topN.order_by)
        return TopNNode(keys, pb.topN.limit)
    if kind == ex.ExecType.TypeLimit:
        return LimitNode(pb.limit.limit)
    raise CodecError(f"executor type {kind} is not supported")


def dag_from_pb(pb: select_pb2.DAGRequest) -> Dag:
    """A whole request."""
    if not pb.executors:
        raise CodecError("a request without executors")
    first = pb.executors[0]
    if first.tp == ex.ExecType.TypeTableScan:
        t = first.tbl_scan
        scan: TableScan | IndexScan = TableScan(
            t.table_id, _columns_from_pb(list(t.columns)), t.desc, tuple(t.primary_column_ids)
        )
    elif first.tp == ex.ExecType.TypeIndexScan:
        i = first.idx_scan
        scan = IndexScan(
            i.table_id, i.index_id, _columns_from_pb(list(i.columns)), i.desc, i.unique, tuple(i.primary_column_ids)
        )
    else:
        raise CodecError(f"executor type {first.tp} is no scan")
    return Dag(
        scan=scan,
        executors=tuple(_executor_from_pb(x) for x in pb.executors[1:]),
        output_offsets=tuple(pb.output_offsets),
        flags=pb.flags,
        sql_mode=pb.sql_mode,
        time_zone_name=pb.time_zone_name,
        time_zone_offset=pb.time_zone_offset,
        div_precision_increment=pb.div_precision_increment if pb.HasField("div_precision_increment") else 4,
        collect_summaries=pb.collect_execution_summaries,
    )
