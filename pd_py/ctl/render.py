"""Answers as JSON, or as tables for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LISTS: dict[str, tuple[str, ...]] = {
    "stores": (
        "store.id",
        "store.address",
        "store.state_name",
        "store.labels",
        "status.capacity",
        "status.available",
        "status.leader_count",
        "status.region_count",
        "status.leader_weight",
        "status.region_weight",
        "status.uptime",
    ),
    "regions": (
        "id",
        "start_key",
        "end_key",
        "leader.store_id",
        "peers",
        "epoch.version",
        "epoch.conf_ver",
        "approximate_size",
        "approximate_keys",
        "written_bytes",
        "read_bytes",
    ),
    "members": ("name", "member_id", "client_urls", "peer_urls", "binary_version"),
    "service_gc_safe_points": (),
}
"""Under which names an answer holds its list, and which columns a table of it has; without any it has all."""
MAX_CELL = 48


def as_json(value: Any) -> str:
    """Indented, as the public tool prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_table(value: Any) -> str:
    """Rows of an answer's list, or its names and values."""
    if isinstance(value, Mapping):
        for name, columns in LISTS.items():
            if isinstance(value.get(name), list):
                return _rows(value[name], columns)
        flat = _flat(value)
        return _aligned([["name", "value"], *[[name, _cell(one)] for name, one in flat.items()]])
    if isinstance(value, list):
        return _rows(value)
    return _cell(value)


def _rows(values: Sequence[Any], wanted: Sequence[str] = ()) -> str:
    flat = [_flat(value) if isinstance(value, Mapping) else {"": value} for value in values]
    columns = list(wanted or dict.fromkeys(name for row in flat for name in row))
    if not flat or not columns:
        return "(none)"
    head = [column.removeprefix("store.").removeprefix("status.") for column in columns]
    return _aligned([head, *[[_cell(row.get(column, "")) for column in columns] for row in flat]])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level: {"store": {"id": 1}} becomes {"store.id": 1}."""
    out: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            out |= _flat(one, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = one
    return out


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        text = ", ".join(_part(one) for one in value)
    else:
        text = str(value)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def _part(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if {"key", "value"} <= set(value):
        return f"{value['key']}={value['value']}"
    if "store_id" in value:
        return str(value["store_id"])
    return json.dumps(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
