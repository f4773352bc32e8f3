"""The settings that can be read and changed while PD runs: their public names, forms in JSON, defaults and bounds.

The public server writes true and false of these sections as texts ("true"), durations as Go does ("1h0m0s"), and a list of
labels as one text with commas. Only what this server honours can be changed; a few more are shown because tools look for
them. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from core_py.errors import PdError

Json = str | int | float | bool
Stored = str | int | float | bool | tuple[str, ...]

MAX_NUMBER = 1 << 53
MAX_TEXT = 4096


class InvalidSetting(PdError):
    """A name that is not known, or a value that it cannot take."""

    code = "PD:Config:Invalid"


@dataclass(frozen=True, slots=True)
class Item:
    """One setting. `field` names it in ScheduleOptions, empty for one that is not part of them."""

    section: str
    name: str
    read: Callable[[str, object], Stored]
    show: Callable[[Stored], Json]
    default: Stored
    field: str = ""
    is_fixed: bool = False
    can_be_temporary: bool = False

    @property
    def key(self) -> str:
        """section.name."""
        return f"{self.section}.{self.name}"


def _illegal(name: str, value: object) -> InvalidSetting:
    return InvalidSetting(f"input value {str(value)[:100]} is illegal for {name}")


def read_int(name: str, value: object) -> int:
    """A whole number that is not negative."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,16}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise _illegal(name, value)
    return value


def read_float(name: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,16}(\.\d{1,16})?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _illegal(name, value)
    number = float(value) if abs(value) <= MAX_NUMBER else math.inf
    if not math.isfinite(number):
        raise _illegal(name, value)
    return number


def read_bool(name: str, value: object) -> bool:
    """true or false, as such or as a text."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise _illegal(name, value)


def read_text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _illegal(name, value)
    return value


def read_labels(name: str, value: object) -> tuple[str, ...]:
    """Labels, with commas between them or as a list."""
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple) and len(value) <= MAX_TEXT and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise _illegal(name, value)


_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")
MAX_DURATION_S = 100 * 365 * 86400.0


def read_duration(name: str, value: object) -> float:
    """Seconds out of a text such as 1h30m."""
    if not isinstance(value, str) or not value or len(value) > 100:
        raise _illegal(name, value)
    if value == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(value):
        part = _PART.match(value, at)
        if part is None:
            raise InvalidSetting(f'time: invalid duration "{value}"')
        total += float(part[1]) * _UNITS_S[part[2]]
        at = part.end()
    if total > MAX_DURATION_S:
        raise _illegal(name, value)
    return total


def show_duration(seconds: Stored) -> str:
    """A duration as Go writes it: 1h0m0s, 30s, 10ms."""
    assert isinstance(seconds, int | float)
    if seconds == 0:
        return "0s"
    nanoseconds = round(seconds * 1e9)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return _decimal(nanoseconds, size) + unit
    whole, rest = divmod(nanoseconds, 60_000_000_000)
    text = _decimal(rest, 1_000_000_000) + "s"
    if whole:
        hours, minutes = divmod(whole, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return text


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)


def _as_is(value: Stored) -> Json:
    assert not isinstance(value, tuple)
    return value


def _bool_text(value: Stored) -> Json:
    return "true" if value else "false"


def _commas(value: Stored) -> Json:
    assert isinstance(value, tuple)
    return ",".join(value)


def _item(
    section: str, name: str, default: Stored, *, temporary: bool = False, fixed: bool = False, option: bool = True
) -> Item:
    field = name.replace("-", "_") if option and not fixed else ""
    read: Callable[[str, object], Stored]
    show: Callable[[Stored], Json]
    if isinstance(default, bool):
        read, show = read_bool, _bool_text
    elif isinstance(default, tuple):
        read, show = read_labels, _commas
    elif isinstance(default, int):
        read, show = read_int, _as_is
    elif isinstance(default, float):
        read, show = read_float, _as_is
    else:
        read, show = read_text, _as_is
    return Item(section, name, read, show, default, field, fixed, temporary)


def _duration(section: str, name: str, default_s: float, field: str = "", *, fixed: bool = False) -> Item:
    return Item(section, name, read_duration, show_duration, default_s, field, fixed)


ITEMS: tuple[Item, ...] = (
    _item("schedule", "max-snapshot-count", 64, temporary=True),
    _item("schedule", "max-pending-peer-count", 64, temporary=True),
    _item("schedule", "max-merge-region-size", 54, temporary=True),
    _item("schedule", "max-merge-region-keys", 540_000, temporary=True),
    _duration("schedule", "split-merge-interval", 3600.0, "split_merge_interval_s"),
    _item("schedule", "enable-one-way-merge", default=False),
    _item("schedule", "enable-cross-table-merge", default=True),
    _duration("schedule", "patrol-region-interval", 0.01),
    _duration("schedule", "max-store-down-time", 1800.0, "max_store_down_time_s"),
    _item("schedule", "leader-schedule-limit", 4, temporary=True),
    _item("schedule", "leader-schedule-policy", "count"),
    _item("schedule", "region-schedule-limit", 2048, temporary=True),
    _item("schedule", "replica-schedule-limit", 64, temporary=True),
    _item("schedule", "merge-schedule-limit", 8, temporary=True),
    _item("schedule", "hot-region-schedule-limit", 4, temporary=True),
    _item("schedule", "hot-region-cache-hits-threshold", 3),
    _item("schedule", "tolerant-size-ratio", 0.0),
    _item("schedule", "low-space-ratio", 0.8),
    _item("schedule", "high-space-ratio", 0.7),
    _item("schedule", "scheduler-max-waiting-operator", 5, temporary=True),
    _item("schedule", "max-movable-hot-peer-size", 512),
    _item("schedule", "enable-remove-down-replica", default=True),
    _item("schedule", "enable-replace-offline-replica", default=True),
    _item("schedule", "enable-make-up-replica", default=True),
    _item("schedule", "enable-remove-extra-replica", default=True),
    _item("schedule", "enable-location-replacement", default=True, temporary=True),
    _item("schedule", "enable-joint-consensus", default=True),
    _item("schedule", "halt-scheduling", default=False),
    _item("schedule", "region-score-formula-version", "v2", fixed=True),
    _item("schedule", "store-limit-version", "v1", fixed=True),
    _item("replication", "max-replicas", 3),
    _item("replication", "location-labels", ()),
    _item("replication", "strictly-match-label", default=False),
    _item("replication", "enable-placement-rules", default=True),
    _item("replication", "enable-placement-rules-cache", default=False, fixed=True),
    _item("replication", "isolation-level", ""),
    _item("pd-server", "key-type", "table", fixed=True),
    _duration("pd-server", "max-gap-reset-ts", 86400.0),
    _duration("pd-server", "min-resolved-ts-persistence-interval", 1.0),
    _item("replication-mode", "replication-mode", "majority", fixed=True),
)

BY_KEY = {item.key: item for item in ITEMS}
SECTIONS = tuple(dict.fromkeys(item.section for item in ITEMS))
