"""Time zones by MySQL's names: SYSTEM, '+08:00', 'Asia/Shanghai'."""

from __future__ import annotations

import datetime as dt
import re

from core_py.vector.dag import zone_of

_OFFSET = re.compile(r"^([+-])(\d{1,2}):(\d{2})$")


def parse_zone(name: str) -> dt.tzinfo:
    """A time zone; unknown names are error 1298."""
    match = _OFFSET.match(name)
    if match:
        sign = -1 if match.group(1) == "-" else 1
        offset = sign * dt.timedelta(hours=int(match.group(2)), minutes=int(match.group(3)))
        return dt.timezone(offset) if offset else dt.UTC
    return zone_of(name, 0)
