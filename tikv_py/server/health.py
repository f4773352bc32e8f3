"""What clients and PD are told of the store's health; clients get it along with their answers, at most once a second."""

from __future__ import annotations

from core_py.ports import Clock
from protos.kvproto import kvrpcpb_pb2
from tikv_py.raftstore.store import Store

FEEDBACK_INTERVAL_S = 1.0


class HealthFeedback:
    """One per store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._number = 0

    def now(self) -> kvrpcpb_pb2.HealthFeedback:
        """The present state; a later one has a higher number."""
        self._number += 1
        return kvrpcpb_pb2.HealthFeedback(
            store_id=self._store.store_id,
            feedback_seq_no=self._number,
            slow_score=int(self._store.log_sync.slow_score.value),
        )

    def due(self, last_s: float | None) -> float | None:
        """The time now when a stream that had feedback at `last_s` should get it again, else None."""
        now_s = self._clock.monotonic()
        return now_s if last_s is None or now_s - last_s >= FEEDBACK_INTERVAL_S else None
