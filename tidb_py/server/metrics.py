"""Metrics of the SQL front under TiDB's public names, on a registry that is passed in; labelled children are cached."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = tuple(0.0005 * 2**i for i in range(16))


class ServerMetrics:
    """What the server counts."""

    def __init__(self, registry: CollectorRegistry, report: Callable[[str, Exception], None]) -> None:
        self._report = report
        self._queries = Counter(
            "tidb_server_query", "Commands by type and result", ["type", "result"], registry=registry
        )
        self._duration = Histogram(
            "tidb_server_handle_query_duration_seconds",
            "Time of a command",
            ["sql_type"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._connections = Gauge("tidb_server_connections", "Open connections", registry=registry)
        self._statements = Counter("tidb_executor_statement", "Statements by type", ["type"], registry=registry)
        self._errors = Counter("tidb_server_execute_error", "Failed statements", ["type"], registry=registry)
        self._execute = Histogram(
            "tidb_session_execute_duration_seconds",
            "Time of a statement",
            ["sql_type"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._cached: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def connected(self, open_connections: int) -> None:
        """The number of connections changed."""
        self._connections.set(open_connections)

    def query(self, kind: str, result: str, seconds: float) -> None:
        """A command was answered."""
        pair = self._cached.get((kind, result))
        if pair is None:
            pair = self._queries.labels(kind, result), self._duration.labels(kind)
            self._cached[kind, result] = pair
        pair[0].inc()
        pair[1].observe(seconds)

    def statement(self, kind: str, seconds: float) -> None:
        """A statement was run."""
        self._statements.labels(kind).inc()
        self._execute.labels(kind).observe(seconds)

    def handshake_timeout(self, connection_id: int, host: str) -> None:
        """A log-in took too long."""
        self._errors.labels("HandshakeTimeout").inc()
        self._report(f"connection {connection_id} from {host}", TimeoutError("log-in took too long; connection closed"))

    def unexpected(self, connection_id: int, error: Exception) -> None:
        """A defect."""
        self._errors.labels(type(error).__name__).inc()
        self._report(f"connection {connection_id}", error)
