"""Running one request over a frozen view, in a worker thread: decode, scan, compute, encode.

Imported on the first request: numpy and pyarrow cost a store that serves none of these tens of megabytes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

import core_py.vector.kernels  # noqa: F401 fills the table of kernels
from core_py.codec import datum, number
from core_py.codec import decimal as decimal_codec
from core_py.errors import DbError
from core_py.vector import chunk_codec
from core_py.vector.dag import DagRun, context_of, output_types
from core_py.vector.errors import EvalError
from core_py.vector.fieldtype import EvalType, FieldType
from core_py.vector.plan import Dag, TableScan
from core_py.vector.scan_decode import decode_index, decode_table
from core_py.vector.tipb_codec import dag_from_pb
from protos.kvproto import coprocessor_pb2
from protos.tipb import select_pb2
from tikv_py.coprocessor.scan import FIRST_PIECE, Batch, RowScan
from tikv_py.coprocessor.visible import VisibleRows, user_keys
from tikv_py.engine.port import Snapshot


@dataclass(frozen=True, slots=True)
class Task:
    """A request bound to a view. `ranges` are engine keys, `user_ranges` what the client sent."""

    request: coprocessor_pb2.Request
    dag: Dag
    encode_type: int
    ranges: tuple[tuple[bytes, bytes], ...]
    user_ranges: tuple[tuple[bytes, bytes], ...]
    read_ts: int


def parse(request: coprocessor_pb2.Request) -> tuple[Dag, int, int]:
    """(plan, encode type, read timestamp). Raises CodecError and EvalError for what cannot be served."""
    pb = select_pb2.DAGRequest.FromString(request.data)
    return dag_from_pb(pb), pb.encode_type, request.start_ts or pb.start_ts_fallback


def run(task: Task, view: Snapshot) -> tuple[coprocessor_pb2.Response, int]:
    """(response, records read). The view is released here."""
    scan = RowScan(view, task.ranges, task.read_ts, desc=task.dag.scan.desc)
    try:
        response = _run(task, scan)
    except EvalError as error:
        failed = select_pb2.SelectResponse()
        failed.error.code, failed.error.msg = error.mysql_code, error.message
        response = coprocessor_pb2.Response(data=failed.SerializeToString())
    except DbError as error:
        response = coprocessor_pb2.Response(other_error=f"{error.code}: {error.message}")
    finally:
        view.release()
    return response, scan.records


def _run(task: Task, scan: RowScan) -> coprocessor_pb2.Response:
    dag = task.dag
    context = context_of(dag)
    execution = DagRun(dag, context)
    answer = select_pb2.SelectResponse(encode_type=_encode_type(task))
    types = output_types(dag)
    paging, produced = task.request.paging_size, 0
    stopped_at: Batch | None = None
    for batch in scan.batches(_first_piece(task)):
        if len(batch.rows):
            columns = _columns(dag, batch.rows, context.time_zone)
            produced += _push(answer, execution, types, columns, len(batch.rows))
        if execution.done:
            break
        finished = batch.last_key is None and _is_last_range(task, batch)
        if paging and not finished and (produced >= paging or execution.rows_scanned >= paging):
            stopped_at = batch
            break
    for columns in execution.finish():
        _append(answer, types, columns)
    for code, message in context.warnings:
        answer.warnings.add(code=code, msg=message)
    answer.warning_count = context.warning_count
    answer.output_counts.append(execution.rows_scanned)
    response = coprocessor_pb2.Response(data=answer.SerializeToString())
    if paging and stopped_at is not None:
        response.range.CopyFrom(_scanned_range(task, stopped_at))
    return response


def _first_piece(task: Task) -> int:
    return task.request.paging_size or FIRST_PIECE


def _is_last_range(task: Task, batch: Batch) -> bool:
    return batch.range_index == (0 if task.dag.scan.desc else len(task.ranges) - 1)


def _columns(dag: Dag, rows: VisibleRows, zone: dt.tzinfo) -> list[pa.Array]:
    scan = dag.scan
    if isinstance(scan, TableScan):
        needs_keys = any(column.pk_handle or column.column_id < 0 for column in scan.columns)
        values = rows.values() if len(rows) == 1 else rows.rows()
        return decode_table(scan, user_keys(rows.keys) if needs_keys else [b""] * len(rows), values, zone)
    return decode_index(scan, user_keys(rows.keys), rows.values(), zone)


def _push(
    answer: select_pb2.SelectResponse, execution: DagRun, types: list[FieldType], columns: list[pa.Array], rows: int
) -> int:
    out = execution.push(columns, rows)
    if out is None:
        return 0
    return _append(answer, types, out)


def _append(answer: select_pb2.SelectResponse, types: list[FieldType], columns: list[pa.Array]) -> int:
    rows = len(columns[0]) if columns else 0
    if rows:
        encode = chunk_codec.encode if answer.encode_type == select_pb2.TypeChunk else _encode_datums
        answer.chunks.add(rows_data=encode(columns, types))
    return rows


def _encode_type(task: Task) -> select_pb2.EncodeType:
    return select_pb2.TypeChunk if task.encode_type == select_pb2.TypeChunk else select_pb2.TypeDefault


def _encode_datums(columns: list[pa.Array], types: list[FieldType]) -> bytes:
    """Rows one after another as datums in value form (wire facts 4.4), for clients that did not ask for chunks."""
    cells = [[_datum(value, ft) for value in column.to_pylist()] for column, ft in zip(columns, types, strict=True)]
    return b"".join(b"".join(row) for row in zip(*cells, strict=True))


def _datum(value: object, ft: FieldType) -> bytes:
    if value is None:
        return datum.NULL_KEY
    family = ft.eval_type
    if isinstance(value, Decimal):
        return b"\x06" + decimal_codec.encode(value, *decimal_codec.shape_of(value))
    if family is EvalType.DURATION and isinstance(value, int):
        return b"\x07" + number.encode_i64(value)
    if isinstance(value, int):
        return datum.value_uint(value) if ft.unsigned or family is EvalType.TIME else datum.value_int(value)
    if isinstance(value, float):
        return datum.key_float(value)
    if isinstance(value, bytes):
        return datum.value_bytes(value)
    raise EvalError(f"a value of type {type(value).__name__} has no datum form")


def _scanned_range(task: Task, batch: Batch) -> coprocessor_pb2.KeyRange:
    """The whole interval scanned so far: from the scan's beginning to the last key that was judged."""
    first, last = task.user_ranges[0][0], task.user_ranges[-1][1]
    at = batch.range_index
    if task.dag.scan.desc:
        reached = task.user_ranges[at][0] if batch.last_key is None else user_keys([batch.last_key])[0]
        return coprocessor_pb2.KeyRange(start=reached, end=last)
    reached = task.user_ranges[at][1] if batch.last_key is None else user_keys([batch.last_key])[0] + b"\x00"
    return coprocessor_pb2.KeyRange(start=first, end=reached)
