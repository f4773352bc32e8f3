"""Slows writes down before the database must: by how much is decided by what the database has still to flush and compact.

A database that falls behind with flushes and compactions stops taking writes for a while, and with them the loop of the store.
So ordinary writes are held back here, in front of raft. `observe` is told once a second how far behind the database is.
Beyond a soft limit writes pass at a limited rate: the one they had when the limit was crossed, less and less while the
database falls further behind, more and more once it is within its limits, until there is no limit any more. With more to
compact than the hard limit they are refused. What ends transactions or removes data always passes: it is what
others wait for, or what makes room; so do reads.

No write waits here for longer than `DELAY_MAX_S` or its own deadline: beyond that it is refused at once with the time to
stay away, and is not charged for. While nothing is limited, a write pays one attribute read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from core_py.ports import Clock
from core_py.region_errors import ServerIsBusy
from core_py.runtime.config import ByteSize
from protos.kvproto import kvrpcpb_pb2
from tikv_py.engine.port import Pressure

DELAY_MAX_S = 2.0
BURST_S = 0.05  # of the rate: what may pass at once after a pause
HARD_BACKOFF_MS = 1000
SLOWER, FASTER = 0.8, 1.25
START_MIN_BYTES_S = 1 << 20  # a limit never begins lower, or a restarted store would begin at nothing
RATE_MIN_BYTES_S = 16 << 10
RATE_MAX_BYTES_S = 200 << 20  # a limit above it is none


@dataclass(frozen=True, slots=True)
class FlowControlConfig:
    """`[storage.flow-control]`."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset()

    enable: bool = True
    soft_pending_compaction_bytes_limit: ByteSize = ByteSize(192 << 30)
    hard_pending_compaction_bytes_limit: ByteSize = ByteSize(1024 << 30)
    memtables_threshold: int = 5
    """Full memtables of one column family that wait to be flushed."""
    l0_files_threshold: int = 20
    """Files of one column family on level 0."""

    def validate(self) -> None:
        """Raises ValueError for limits that contradict each other."""
        soft, hard = self.soft_pending_compaction_bytes_limit, self.hard_pending_compaction_bytes_limit
        if not 0 < soft < hard:
            raise ValueError(
                "storage.flow-control.soft-pending-compaction-bytes-limit must be positive"
                " and below hard-pending-compaction-bytes-limit"
            )
        if min(self.memtables_threshold, self.l0_files_threshold) < 1:
            raise ValueError("storage.flow-control.memtables-threshold and l0-files-threshold must be at least 1")


class FlowController:
    """One per store. `on_delay` hears of every write that was held back, in seconds."""

    def __init__(
        self,
        clock: Clock,
        config: FlowControlConfig | None = None,
        on_delay: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._clock = clock
        self._config = config or FlowControlConfig()
        self._on_delay = on_delay
        self.throttles = False
        """Whether any write must ask `admit`."""
        self.seen_bytes = 0
        """Of ordinary writes since the start, as their senders add up."""
        self.rate_bytes_s: float | None = None
        """What may pass, or None for everything."""
        self.flow_bytes_s = 0.0
        """What asked to pass lately."""
        self._refused = ""
        self._severity = 0.0
        self._observed = (clock.monotonic(), 0)
        self._paid_until = 0.0

    @property
    def idle(self) -> bool:
        """Nothing was written since the last look and nothing is limited: there is nothing to look at."""
        return not self.throttles and self.seen_bytes == self._observed[1]

    # ---- what the database says ----

    def observe(self, pressure: Mapping[str, Pressure]) -> str:
        """Judge how far behind each column family is; what was done about it: "", "limit", "slower", "faster", "free"."""
        self._measure_flow()
        if not self._config.enable or not pressure:
            return ""
        self._check_hard(pressure)
        before, self._severity = self._severity, self._worst(pressure)
        action = self._adjust(before)
        self.throttles = self.rate_bytes_s is not None or bool(self._refused)
        return action

    def _measure_flow(self) -> None:
        now, seen = self._clock.monotonic(), self.seen_bytes
        then, before = self._observed
        if now > then:
            self.flow_bytes_s += 0.5 * ((seen - before) / (now - then) - self.flow_bytes_s)
            self._observed = now, seen

    def _check_hard(self, pressure: Mapping[str, Pressure]) -> None:
        pending = max(one.pending_compaction_bytes for one in pressure.values())
        hard = self._config.hard_pending_compaction_bytes_limit
        self._refused = (
            f"flow control: {pending} bytes wait to be compacted, the limit is {hard}" if pending >= hard else ""
        )

    def _worst(self, pressure: Mapping[str, Pressure]) -> float:
        """0 within all limits, else how far beyond the worst one: 1 and more."""
        config, worst = self._config, 0.0
        soft, hard = config.soft_pending_compaction_bytes_limit, config.hard_pending_compaction_bytes_limit
        for one in pressure.values():
            if one.memtables > config.memtables_threshold:
                worst = max(worst, one.memtables / config.memtables_threshold)
            if one.l0_files > config.l0_files_threshold:
                worst = max(worst, one.l0_files / config.l0_files_threshold)
            if one.pending_compaction_bytes > soft:
                worst = max(worst, 1 + math.log(one.pending_compaction_bytes / soft) / math.log(hard / soft))
        return worst

    def _adjust(self, before: float) -> str:
        rate = self.rate_bytes_s
        if self._severity:
            if rate is None:
                self.rate_bytes_s = max(self.flow_bytes_s, START_MIN_BYTES_S)
                return "limit"
            if self._severity < before:
                return ""  # it catches up at this rate
            self.rate_bytes_s = max(rate * SLOWER, RATE_MIN_BYTES_S)
            return "slower"
        if rate is None:
            return ""
        self.rate_bytes_s = rate * FASTER if rate * FASTER <= RATE_MAX_BYTES_S else None
        return "free" if self.rate_bytes_s is None else "faster"

    # ---- what writes ask ----

    async def admit(self, amount: int, context: kvrpcpb_pb2.Context) -> None:
        """Wait until `amount` more bytes may pass. Raises ServerIsBusy, with the time to stay away."""
        if self._refused:
            raise ServerIsBusy(self._refused, HARD_BACKOFF_MS)
        rate = self.rate_bytes_s
        if rate is None:
            return
        now = self._clock.monotonic()
        paid_until = max(self._paid_until, now - BURST_S) + amount / rate
        delay_s = paid_until - now
        allowed_s = min(DELAY_MAX_S, (context.max_execution_duration_ms or math.inf) / 1000)
        # Who comes to an empty bucket is let in whatever its size: it would never fit otherwise.
        if delay_s > allowed_s and self._paid_until > now:
            wait_ms = int((self._paid_until - now) * 1000) + 1
            raise ServerIsBusy(f"flow control: writes are limited to {int(rate)} bytes per second", wait_ms)
        self._paid_until = paid_until
        if delay_s > 0:
            delay_s = min(delay_s, allowed_s)
            self._on_delay(delay_s)
            await asyncio.sleep(delay_s)
