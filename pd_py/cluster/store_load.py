"""A store's flow over its last few reports: the median of each rate, so that one odd report moves nothing. Pure."""

from __future__ import annotations

from collections import deque

from pd_py.cluster.convert import interval_seconds
from pd_py.cluster.hot_cache import median
from pd_py.schedule.view import StoreLoad
from protos.kvproto import pdpb_pb2

WINDOW = 5
MIN_INTERVAL_S = 1.0


class RollingLoad:
    """The rates of one store."""

    __slots__ = ("_windows", "load")

    def __init__(self) -> None:
        self._windows: tuple[deque[float], ...] = tuple(deque(maxlen=WINDOW) for _ in range(4))
        self.load = StoreLoad()

    def observe(self, stats: pdpb_pb2.StoreStats, silent_s: float) -> None:
        """A report; one without an interval covers the time since the report before, if there was one."""
        seconds = interval_seconds(stats.interval) if stats.HasField("interval") else silent_s
        if seconds < MIN_INTERVAL_S:
            return
        moved = (stats.bytes_read, stats.keys_read, stats.bytes_written, stats.keys_written)
        for window, amount in zip(self._windows, moved, strict=True):
            window.append(amount / seconds)
        read_bytes, read_keys, write_bytes, write_keys = (median(window) for window in self._windows)
        self.load = StoreLoad(read_bytes, read_keys, write_bytes, write_keys)
