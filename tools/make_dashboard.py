"""Write deploy/grafana/dashboards/overview.json: the panels of TiDB's Overview dashboard as far as their metrics exist here.

Written by a program because a hundred panels of JSON cannot be read; a test keeps the file equal to its output and
checks that every metric in it is one that a server exports.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "deploy/grafana/dashboards/overview.json"

Panel = tuple[str, str, list[tuple[str, str]]]

ROWS: dict[str, list[Panel]] = {
    "PD": [
        ("Stores up", "short", [('pd_cluster_status{type="store_up_count"}', "up")]),
        ("Stores down or disconnected", "short", [
            ('pd_cluster_status{type="store_down_count"}', "down"),
            ('pd_cluster_status{type="store_disconnected_count"}', "disconnected"),
        ]),
        ("Regions", "short", [
            ('pd_cluster_status{type="region_count"}', "regions"),
            ('pd_cluster_status{type="leader_count"}', "leaders"),
        ]),
        ("Abnormal regions", "short", [("pd_regions_status", "{{type}}")]),
        ("Storage", "bytes", [
            ('pd_cluster_status{type="storage_size"}', "used"),
            ('pd_cluster_status{type="storage_capacity"}', "capacity"),
        ]),
        ("Leaders by store", "short", [('pd_scheduler_store_status{type="leader_count"}', "store {{store}}")]),
        ("Operators", "short", [("pd_schedule_operators_count", "{{type}}")]),
        ("Timestamps", "ops", [("rate(pd_tso_timestamps_total[1m])", "timestamps")]),
        ("Requests", "ops", [("rate(pd_server_requests_total[1m])", "{{method}}")]),
        ("Region heartbeats", "short", [("pd_scheduler_region_heartbeat", "received")]),
    ],
    "TiDB": [
        ("Statements", "ops", [("sum(rate(tidb_executor_statement_total[1m])) by (type)", "{{type}}")]),
        ("Duration", "s", [
            ("histogram_quantile(0.99, sum(rate(tidb_server_handle_query_duration_seconds_bucket[1m])) by (le))", "99 %"),
            ("histogram_quantile(0.95, sum(rate(tidb_server_handle_query_duration_seconds_bucket[1m])) by (le))", "95 %"),
            ("histogram_quantile(0.50, sum(rate(tidb_server_handle_query_duration_seconds_bucket[1m])) by (le))", "50 %"),
        ]),
        ("Queries by result", "ops", [("sum(rate(tidb_server_query_total[1m])) by (result)", "{{result}}")]),
        ("Failed queries", "ops", [("sum(rate(tidb_server_execute_error_total[1m])) by (type)", "{{type}}")]),
        ("Connections", "short", [("tidb_server_connections", "{{instance}}")]),
        ("Execution", "s", [
            ("histogram_quantile(0.99, sum(rate(tidb_session_execute_duration_seconds_bucket[1m])) by (le))", "99 %"),
        ]),
    ],
    "TiKV": [
        ("Leaders", "short", [('tikv_raftstore_region_count{type="leader"}', "{{instance}}")]),
        ("Regions", "short", [('tikv_raftstore_region_count{type="region"}', "{{instance}}")]),
        ("Size", "bytes", [('tikv_store_size_bytes{type="used"}', "{{instance}}")]),
        ("Available", "bytes", [('tikv_store_size_bytes{type="available"}', "{{instance}}")]),
        ("Engine size", "bytes", [("tikv_engine_size_bytes", "{{instance}} {{type}}")]),
        ("Peers without a leader", "short", [("tikv_raftstore_leader_missing", "{{instance}}")]),
        ("gRPC commands", "ops", [("sum(rate(tikv_grpc_msg_duration_seconds_count[1m])) by (type)", "{{type}}")]),
        ("gRPC duration, 99 %", "s", [
            ("histogram_quantile(0.99, sum(rate(tikv_grpc_msg_duration_seconds_bucket[1m])) by (le, type))", "{{type}}"),
        ]),
        ("gRPC failures", "ops", [("sum(rate(tikv_grpc_msg_fail_total[1m])) by (type)", "{{type}}")]),
        ("Coprocessor duration", "s", [
            ("histogram_quantile(0.99, sum(rate(tikv_coprocessor_request_duration_seconds_bucket[1m])) by (le))", "99 %"),
        ]),
        ("Coprocessor errors", "ops", [("sum(rate(tikv_coprocessor_request_error_total[1m])) by (reason)", "{{reason}}")]),
        ("Rows scanned", "ops", [("sum(rate(tikv_coprocessor_scan_keys_total[1m])) by (instance)", "{{instance}}")]),
        ("Scheduler too busy", "ops", [("sum(rate(tikv_scheduler_too_busy_total[1m])) by (instance)", "{{instance}}")]),
        ("Messages that could not be sent", "ops", [
            ("sum(rate(tikv_server_report_failure_msg_total[1m])) by (store_id)", "store {{store_id}}"),
        ]),
        ("Entries applied", "ops", [("rate(tikv_raftstore_applied_entries_total[1m])", "{{instance}}")]),
        ("Heartbeats to PD", "ops", [("sum(rate(tikv_pd_heartbeat_message_total[1m])) by (type)", "{{type}}")]),
    ],
    "Processes": [
        ("CPU", "percentunit", [("rate(process_cpu_seconds_total[1m])", "{{job}} {{instance}}")]),
        ("Memory", "bytes", [("process_resident_memory_bytes", "{{job}} {{instance}}")]),
        ("Open files", "short", [("process_open_fds", "{{job}} {{instance}}")]),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, members in ROWS.items():
        panels.append(
            {"type": "row", "title": row, "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}, "id": len(panels) + 1}
        )
        top += 1
        for number, (title, unit, targets) in enumerate(members):
            position = {"h": 7, "w": 8, "x": number % 3 * 8, "y": top + number // 3 * 7}
            panels.append(
                {
                    "type": "timeseries",
                    "title": title,
                    "id": len(panels) + 1,
                    "gridPos": position,
                    "datasource": {"type": "prometheus"},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "targets": [
                        {"expr": query, "legendFormat": legend, "refId": chr(65 + at)}
                        for at, (query, legend) in enumerate(targets)
                    ],
                }
            )
        top += (len(members) + 2) // 3 * 7
    return {
        "title": "tidb-py Overview",
        "uid": "tidb-py-overview",
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-30m", "to": "now"},
        "schemaVersion": 39,
        "panels": panels,
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
