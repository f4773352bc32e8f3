"""What is asked for too late: the versions it needs may be collected."""

from __future__ import annotations

from tikv_py.mvcc.errors import TxnError


class GcTooEarly(TxnError):
    """The transaction began before the GC safe point: versions it would read, or records that decide about it, may be gone."""

    code = "KV:Storage:GcTooEarly"
    mysql_code = 9006

    def __init__(self, start_ts: int, safe_point: int) -> None:
        super().__init__(
            "GC life time is shorter than transaction duration,"
            f" transaction start ts is {start_ts}, txn safe point is {safe_point}"
        )
        self.start_ts, self.safe_point = start_ts, safe_point
