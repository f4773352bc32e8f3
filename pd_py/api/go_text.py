"""How Go writes values as text and JSON: clients of the public API parse exactly this. Pure.

Protobuf messages are written as Go's encoding/json writes the generated structs: field names, numbers as numbers, bytes in
base64, and zero values left out.
"""

from __future__ import annotations

import base64
import datetime
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
ZERO_TIME = "0001-01-01T00:00:00Z"


def byte_size(count: int) -> str:
    """1536 -> "1.5KiB": four digits, as the public server writes sizes."""
    size = float(count)
    unit = 0
    while size >= 1024.0 and unit < len(_BINARY) - 1:
        size /= 1024.0
        unit += 1
    return f"{size:.4g}{_BINARY[unit]}"


def duration(seconds: float) -> str:
    """5400.5 -> "1h30m0.5s"."""
    nanoseconds = round(seconds * 1e9)
    sign, nanoseconds = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return f"{sign}{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(count: int, size: int) -> str:
    whole, rest = divmod(count, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")


def timestamp(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC, with as many decimals as are needed."""
    seconds, rest = divmod(unix_ms, 1000)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:03d}".rstrip("0") if rest else "") + "Z"


def moment(unix_ms: int) -> str:
    """Unix milliseconds as Go prints a time in UTC; the zero time for 0."""
    if not unix_ms:
        return "0001-01-01 00:00:00 +0000 UTC"
    return timestamp(unix_ms).replace("T", " ").replace("Z", " +0000 UTC")


def of_message(message: Message) -> dict[str, Any]:
    """A protobuf message as the Go struct's JSON: fields that are set, in the order of their numbers."""
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            out[field.name] = {str(key): _value(inner, one) for key, one in sorted(value.items())}
        elif field.is_repeated:
            out[field.name] = [_value(field, one) for one in value]
        else:
            out[field.name] = _value(field, value)
    return out


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return of_message(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value
