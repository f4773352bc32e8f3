"""What executors work with: the batch, and the context of one statement."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from core_py.vector.arrow import Vec
from core_py.vector.eval import EvalContext
from tidb_py.session.storage import Reader, Storage, Transaction


@dataclass(slots=True)
class Batch:
    """Some rows: one array per column. There may be rows without columns."""

    columns: list[Vec]
    rows: int


Batches = AsyncGenerator[Batch, None]


@dataclass(slots=True)
class ExecContext:
    """The context of one statement's execution."""

    storage: Storage
    reader: Reader  # sees the transaction's own writes
    txn: Transaction | None
    eval_ctx: EvalContext
    time_zone_name: str
    time_zone_offset: int
    sql_mode: int
    concurrency: int
    mem_table: Callable[[str], list[Vec]]

    def dirty(self, prefix: bytes, end: bytes) -> bool:
        """Whether this transaction has written in a table, so that scans must merge its writes."""
        return self.txn is not None and self.txn.dirty and self.txn.has_writes(prefix, end)
