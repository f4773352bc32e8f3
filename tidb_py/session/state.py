"""What a session remembers between statements, and what statements need of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from core_py.errors import DbError
from core_py.vector.dag import zone_of
from core_py.vector.eval import EvalContext
from core_py.vector.expr import Constant
from core_py.vector.temporal import pack
from tidb_py.catalog.infoschema import Catalog, InfoSchema
from tidb_py.mysql.constants import Status
from tidb_py.session.storage import Storage, Transaction
from tidb_py.session.variables import SystemVariables
from tidb_py.times import parse_zone

MAX_WARNINGS = 64
_AUTOCOMMIT, _IN_TRANS = int(Status.AUTOCOMMIT), int(Status.IN_TRANS)


@dataclass(slots=True)
class ServerState:
    """Shared by all sessions of a server."""

    storage: Storage
    catalog: Catalog
    now: Callable[[], dt.datetime]  # aware, UTC
    sleep: Callable[[float], object]
    global_variables: dict[str, str] = field(default_factory=dict)
    processes: Callable[[], list[tuple[int, str, str, str]]] = list
    kill: Callable[[int], bool] = lambda _id: False
    monotonic: Callable[[], float] = lambda: 0.0
    on_transaction: Callable[[float], None] = lambda _seconds: None  # one ended, after so many seconds


@dataclass(slots=True)
class SessionState:
    """One session."""

    server: ServerState
    connection_id: int
    user: str
    host: str
    database: str = ""
    variables: SystemVariables = field(init=False)
    user_variables: dict[str, Constant] = field(default_factory=dict)
    txn: Transaction | None = None
    txn_schema: InfoSchema | None = None  # the schema when the transaction began
    explicit: bool = False  # BEGIN was said, or autocommit is off and a statement ran
    savepoints: list[tuple[str, object]] = field(default_factory=list)
    warnings: list[tuple[str, int, str]] = field(default_factory=list)
    last_insert_id: int = 0
    found_rows: int = 0
    row_count: int = -1
    statement_time: dt.datetime | None = None

    def __post_init__(self) -> None:
        """Variables that are computed."""
        self.variables = SystemVariables(self.server.global_variables)
        self.variables.dynamic = {
            "warning_count": lambda: str(len(self.warnings)),
            "error_count": lambda: str(sum(1 for w in self.warnings if w[0] == "Error")),
            "last_insert_id": lambda: str(self.last_insert_id),
            "identity": lambda: str(self.last_insert_id),
            "tidb_current_ts": lambda: str(self.txn.ts if self.txn is not None else 0),
        }

    @property
    def schema(self) -> InfoSchema:
        """The schema statements see: a transaction keeps the one it began with.

        An index that became public later has no entries at the transaction's timestamp.
        """
        if self.txn is not None and self.txn_schema is not None:
            return self.txn_schema
        return self.server.catalog.schema

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits by itself."""
        return self.variables.get("autocommit") == "ON"

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.txn is not None

    @property
    def status(self) -> int:
        """The status flags of OK packets."""
        return (_AUTOCOMMIT if self.autocommit else 0) | (_IN_TRANS if self.txn is not None else 0)

    @property
    def strict(self) -> bool:
        """Whether bad values are errors."""
        return "STRICT_" in self.variables.get("sql_mode")

    def zone(self) -> dt.tzinfo:
        """The session's time zone."""
        return parse_zone(self.variables.get("time_zone"))

    def zone_pair(self) -> tuple[str, int]:
        """The time zone as coprocessor requests carry it: a name, or an offset."""
        zone = self.zone()
        if isinstance(zone, dt.timezone):
            offset = zone.utcoffset(None)
            return ("UTC", 0) if not offset else ("", int(offset.total_seconds()))
        return str(zone), 0

    def eval_context(self) -> EvalContext:
        """The context of expressions in a query."""
        name, offset = self.zone_pair()
        return EvalContext(
            time_zone=zone_of(name, offset), div_precision_increment=int(self.variables.get("div_precision_increment"))
        )

    def now(self, fsp: int = 6) -> int:
        """The time of the statement, packed, in the session's zone."""
        moment = self.statement_time or self.server.now()
        local = moment.astimezone(self.zone())
        unit = 10 ** (6 - fsp)
        micro = local.microsecond // unit * unit
        return pack(local.year, local.month, local.day, local.hour, local.minute, local.second, micro)

    def warn(self, error: DbError) -> None:
        """Note a warning."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(("Warning", error.mysql_code, error.message))

    def take_warnings(self, ctx: EvalContext) -> None:
        """Take over the warnings of expressions."""
        for code, message in ctx.warnings:
            if len(self.warnings) < MAX_WARNINGS:
                self.warnings.append(("Warning", code, message))
        ctx.warnings.clear()
