"""The Grafana dashboard is what its program writes, and asks only for metrics that a server exports."""

from __future__ import annotations

import re
from typing import Any

from prometheus_client import CollectorRegistry

from core_py.runtime.status_server import StatusServer
from pd_py.server.metrics import PdMetrics
from tidb_py.server.metrics import ServerMetrics
from tikv_py.server.metrics import StoreMetrics
from tools import make_dashboard


def exported() -> set[str]:
    names: set[str] = set()
    makers: list[Any] = [PdMetrics, StoreMetrics, lambda registry: ServerMetrics(registry, lambda _where, _error: None)]
    for make in makers:
        registry = CollectorRegistry()
        make(registry)
        StatusServer(registry, status=dict, ready=lambda: True)
        for family in registry.collect():
            names |= {family.name, *(f"{family.name}{suffix}" for suffix in ("_total", "_bucket", "_count", "_sum"))}
    return names


def test_the_file_is_fresh() -> None:
    assert make_dashboard.TARGET.read_text(encoding="utf-8") == make_dashboard.text(), "run tools/make_dashboard.py"


def test_every_metric_exists() -> None:
    known = exported()
    queries = [target["expr"] for panel in make_dashboard.dashboard()["panels"] for target in panel.get("targets", [])]
    assert len(queries) >= 40
    for query in queries:
        for name in re.findall(r"\b(?:pd|tidb|tikv|process)_[a-z_]+", query):
            assert name in known, f"{name} of {query} is exported by nobody"
