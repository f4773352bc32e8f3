"""Hash join: inner, left, semi and anti, vectorised with numpy.

The right input is read whole and its keys become dense codes; each left batch is matched against them at once. Pairs are
row-number arrays, so no Python runs per row. NULL keys match nothing; a null-aware anti join (NOT IN) gives no row at all
when the right side has a NULL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.collate import sort_keys
from core_py.vector.eval import broadcast, evaluate, filter_mask
from core_py.vector.expr import Expr
from core_py.vector.fieldtype import EvalType, arrow_type
from core_py.vector.ordering import concat_columns, take
from tidb_py.executor.context import Batch, Batches, ExecContext
from tidb_py.planner import physical as ph

I64 = NDArray[np.int64]
PROBE_ROWS = 8192  # left rows matched at a time
MAX_PAIRS = 1 << 20  # pairs made at a time; more are made in slices of the left rows


def _key_columns(
    exprs: Sequence[Expr], others: Sequence[Expr], columns: Sequence[Vec], rows: int, ctx: ExecContext
) -> list[Vec]:
    """Key values in a form in which both sides compare equal."""
    out = []
    for expr, other in zip(exprs, others, strict=True):
        values = evaluate(expr, columns, rows, ctx.eval_ctx)
        family = expr.ft.eval_type
        if family is EvalType.STRING:
            collation = expr.ft.collation if abs(expr.ft.collation) != 46 else other.ft.collation
            values = sort_keys(values, collation)
        elif family is EvalType.DECIMAL:
            values = values.cast(pa.decimal256(76, max(expr.ft.scale, other.ft.scale)))
        elif family is EvalType.INT and expr.ft.unsigned != other.ft.unsigned:
            values = values.cast(pa.decimal128(20, 0))
        out.append(values)
    return out


class _Built:
    """The right side: its rows, and its keys as codes."""

    def __init__(self, columns: list[Vec], rows: int, keys: list[Vec]) -> None:
        self.columns, self.rows = columns, rows
        self.has_null = any(k.null_count for k in keys)
        self._dictionaries: list[Vec] = []
        codes = np.zeros(rows, dtype=np.int64)
        valid = np.ones(rows, dtype=bool)
        self._sizes: list[int] = []
        for key in keys:
            encoded = key.dictionary_encode()
            indices = encoded.indices
            if indices.null_count:
                valid &= pc.is_valid(indices).to_numpy(zero_copy_only=False)
                indices = pc.fill_null(indices, 0)
            self._dictionaries.append(encoded.dictionary)
            self._sizes.append(len(encoded.dictionary) + 1)
            codes = codes * self._sizes[-1] + indices.to_numpy(zero_copy_only=False).astype(np.int64)
        present = np.nonzero(valid)[0]
        self._unique, inverse = np.unique(codes[present], return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        self._order = present[order]
        self.counts = np.bincount(inverse, minlength=len(self._unique)).astype(np.int64)
        self._starts = np.cumsum(self.counts) - self.counts

    def codes(self, keys: list[Vec], rows: int) -> I64:
        """The group of each left row; -1 when no right row has its key."""
        codes = np.zeros(rows, dtype=np.int64)
        valid = np.ones(rows, dtype=bool)
        for key, dictionary, size in zip(keys, self._dictionaries, self._sizes, strict=True):
            found = pc.index_in(key, value_set=dictionary, skip_nulls=True)
            if found.null_count:
                valid &= pc.is_valid(found).to_numpy(zero_copy_only=False)
                found = pc.fill_null(found, 0)
            codes = codes * size + found.to_numpy(zero_copy_only=False).astype(np.int64)
        if not len(self._unique):
            return np.full(rows, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._unique, codes), len(self._unique) - 1)
        return np.where(valid & (self._unique[at] == codes), at, -1)

    def pairs(self, codes: I64) -> tuple[I64, I64]:
        """Row numbers of all matching pairs, in left order."""
        counts = (
            np.where(codes >= 0, self.counts[np.maximum(codes, 0)], 0) if len(self.counts) else np.zeros_like(codes)
        )
        left = np.repeat(np.arange(len(codes)), counts)
        begin = np.cumsum(counts) - counts
        within = np.arange(len(left)) - np.repeat(begin, counts)
        starts = self._starts[codes[left]] if len(left) else within
        return left, self._order[starts + within] if len(left) else within


async def hash_join(plan: ph.HashJoin, left: Batches, right: Batches, ctx: ExecContext) -> Batches:
    """Join two inputs."""
    parts = [b async for b in right if b.rows]
    columns = (
        concat_columns([b.columns for b in parts])
        if parts
        else [pa.nulls(0, arrow_type(c.ft)) for c in plan.right.columns]
    )
    rows = sum(b.rows for b in parts)
    keys = _key_columns(plan.right_keys, plan.left_keys, columns, rows, ctx)
    built = _Built(columns, rows, keys)
    if plan.null_aware and built.has_null:
        async for batch in left:
            _ = batch
        return
    async for batch in left:
        for start in range(0, batch.rows, PROBE_ROWS):
            size = min(PROBE_ROWS, batch.rows - start)
            piece = Batch([c.slice(start, size) for c in batch.columns], size)
            async for out in _probe(plan, piece, built, ctx):
                yield out


async def _probe(plan: ph.HashJoin, batch: Batch, built: _Built, ctx: ExecContext) -> AsyncIterator[Batch]:
    keys = _key_columns(plan.left_keys, plan.right_keys, batch.columns, batch.rows, ctx)
    codes = built.codes(keys, batch.rows)
    if plan.kind in ("semi", "anti") and not plan.other:
        matched = codes >= 0
        if plan.null_aware and built.rows:
            for key in keys:
                matched |= ~pc.is_valid(key).to_numpy(zero_copy_only=False)
        yield _filtered(batch, matched if plan.kind == "semi" else ~matched)
        return
    step = batch.rows
    if built.rows and len(built.counts):
        most = int(built.counts.max())
        step = max(1, min(step, MAX_PAIRS // max(1, most)))
    for start in range(0, batch.rows, step):
        piece = Batch([c.slice(start, step) for c in batch.columns], min(step, batch.rows - start))
        out = _match(plan, piece, built, codes[start : start + step], ctx)
        if out.rows:
            yield out


def _match(plan: ph.HashJoin, batch: Batch, built: _Built, codes: I64, ctx: ExecContext) -> Batch:
    left_rows, right_rows = built.pairs(codes)
    columns = [*take(batch.columns, pa.array(left_rows)), *take(built.columns, pa.array(right_rows))]
    if plan.other and len(left_rows):
        mask = filter_mask(plan.other, columns, len(left_rows), ctx.eval_ctx)
        if mask is not None:
            columns = [c.filter(mask) for c in columns]
            left_rows = left_rows[mask.to_numpy(zero_copy_only=False)]
    if plan.kind == "inner":
        return Batch(columns, len(left_rows))
    matched = np.zeros(batch.rows, dtype=bool)
    matched[left_rows] = True
    if plan.kind != "left":
        return _filtered(batch, matched if plan.kind == "semi" else ~matched)
    missing = np.nonzero(~matched)[0]
    if not len(missing):
        return Batch(columns, len(left_rows))
    rest = take(batch.columns, pa.array(missing))
    nulls = [pa.nulls(len(missing), c.type) for c in built.columns]
    return Batch(concat_columns([columns, [*rest, *nulls]]), len(left_rows) + len(missing))


def _filtered(batch: Batch, keep: NDArray[np.bool_]) -> Batch:
    mask = broadcast(pa.array(keep), batch.rows)
    return Batch([c.filter(mask) for c in batch.columns], int(keep.sum()))
