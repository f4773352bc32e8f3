"""Metrics of the SQL front under TiDB's public names, on a registry that is passed in; labelled children are cached."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidb_py.session.times import StatementTimes

_BUCKETS = tuple(0.0005 * 2**i for i in range(16))


class ServerMetrics:
    """What the server counts."""

    def __init__(self, registry: CollectorRegistry, report: Callable[[str, Exception], None]) -> None:
        self._report = report
        self._queries = Counter(
            "tidb_server_query", "Commands by type and result", ["type", "result"], registry=registry
        )
        self._duration = self._times("tidb_server_handle_query_duration_seconds", "Time of a command", registry)
        self._connections = Gauge("tidb_server_connections", "Open connections", registry=registry)
        self._statements = Counter("tidb_executor_statement", "Statements by type", ["type"], registry=registry)
        self._errors = Counter("tidb_server_execute_error", "Failed statements", ["type"], registry=registry)
        self._execute = self._times(
            "tidb_session_execute_duration_seconds", "Time to run a planned statement and send its rows", registry
        )
        self._parse = self._times("tidb_session_parse_duration_seconds", "Time to parse a statement", registry)
        self._compile = self._times("tidb_session_compile_duration_seconds", "Time to plan a query", registry)
        self._transaction = Histogram(
            "tidb_session_transaction_duration_seconds", "Time a transaction lived", buckets=_BUCKETS, registry=registry
        )
        self._schema = Histogram(
            "tidb_domain_load_schema_duration_seconds", "Time to load the schema", buckets=_BUCKETS, registry=registry
        )
        self._query_children: dict[tuple[str, str], Counter] = {}
        self._duration_children: dict[str, Histogram] = {}
        self._statement_children: dict[str, tuple[Counter, Histogram, Histogram, Histogram]] = {}

    def _times(self, name: str, help_text: str, registry: CollectorRegistry) -> Histogram:
        return Histogram(name, help_text, ["sql_type"], buckets=_BUCKETS, registry=registry)

    def connected(self, open_connections: int) -> None:
        """The number of connections changed."""
        self._connections.set(open_connections)

    def query(self, kind: str, result: str, seconds: float, sql_type: str) -> None:
        """A command was answered."""
        queries = self._query_children.get((kind, result))
        if queries is None:
            queries = self._query_children[kind, result] = self._queries.labels(kind, result)
        queries.inc()
        duration = self._duration_children.get(sql_type)
        if duration is None:
            duration = self._duration_children[sql_type] = self._duration.labels(sql_type)
        duration.observe(seconds)

    def statement(self, times: StatementTimes, seconds: float) -> None:
        """A statement was answered; what was neither parsing nor planning is execution."""
        kind = times.sql_type
        children = self._statement_children.get(kind)
        if children is None:
            made = (self._parse.labels(kind), self._compile.labels(kind), self._execute.labels(kind))
            children = self._statement_children[kind] = (self._statements.labels(kind), *made)
        children[0].inc()
        if times.parse_s is not None:
            children[1].observe(times.parse_s)
            seconds -= times.parse_s
        if times.compile_s is not None:
            children[2].observe(times.compile_s)
            seconds -= times.compile_s
        children[3].observe(max(seconds, 0.0))

    def transaction(self, seconds: float) -> None:
        """A transaction ended."""
        self._transaction.observe(seconds)

    def schema_loaded(self, seconds: float) -> None:
        """The schema was read anew."""
        self._schema.observe(seconds)

    def handshake_timeout(self, connection_id: int, host: str) -> None:
        """A log-in took too long."""
        self._errors.labels("HandshakeTimeout").inc()
        self._report(f"connection {connection_id} from {host}", TimeoutError("log-in took too long; connection closed"))

    def unexpected(self, connection_id: int, error: Exception) -> None:
        """A defect."""
        self._errors.labels(type(error).__name__).inc()
        self._report(f"connection {connection_id}", error)
