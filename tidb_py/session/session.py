"""A client's session: one statement in, one result out.

Implements the port `server.handler.Session`. Statements are parsed (with a small cache of texts), dispatched by their class, and
run against the transaction of the session. DDL and BEGIN commit what is open. Errors are noted for SHOW WARNINGS.
"""

# ruff: noqa: S608 - values are quoted by `quoted`, names by backticks

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlglot import expressions as exp

from core_py.errors import DbError
from core_py.vector.expr import Constant
from core_py.vector.fieldtype import int_type, null_type, real_type, string_type
from tidb_py.ddl.executor import DdlExecutor
from tidb_py.errors import NotSupported, UnknownPrepared, WrongArguments
from tidb_py.executor.insert import Cell
from tidb_py.executor.writer import WriteContext
from tidb_py.expression.lower import Lowering
from tidb_py.expression.scope import Scope
from tidb_py.mysql.responses import ColumnDef
from tidb_py.mysql.statement import ParamValue
from tidb_py.parser import ast
from tidb_py.parser.bulk import parse_bulk
from tidb_py.parser.front import parse
from tidb_py.parser.tokens import mark_parameters, split_statements
from tidb_py.planner.explain import explain
from tidb_py.server.handler import Done, NeedFile, Prepared, Result, ResultSet
from tidb_py.session import dml, transactions, users
from tidb_py.session.functions import lower_context
from tidb_py.session.load_data import LoadDataSink
from tidb_py.session.point_plan import PointPlans
from tidb_py.session.query import collect, column_def, plan_query, reader_for, run_query
from tidb_py.session.show import rows_result, show
from tidb_py.session.state import ServerState, SessionState
from tidb_py.session.times import StatementTimes, sql_type_of

PARSE_CACHE = 512  # texts; statements are values and are shared
PARSE_CACHE_TEXT = 4096  # longer texts (bulk inserts) are not kept
_DONE = Done()


class Session:
    """One client's SQL session."""

    def __init__(
        self, server: ServerState, connection_id: int, user: str, host: str, *, random_bytes: Callable[[int], bytes]
    ) -> None:
        self.state = SessionState(server, connection_id, user, host)
        self._random_bytes = random_bytes
        self._prepared: dict[int, tuple[ast.Statement, str]] = {}
        self._named: dict[str, tuple[ast.Statement, int]] = {}
        self._next_statement = 1
        self._points = PointPlans(self.state)
        self.times = StatementTimes(server.monotonic, server.on_transaction)
        self._cache: OrderedDict[str, ast.Statement] = OrderedDict()

    @property
    def status(self) -> int:
        """Status flags."""
        return self.state.status

    @property
    def warning_count(self) -> int:
        """Warnings of the statement so far."""
        return len(self.state.warnings)

    def split(self, sql: str) -> list[str]:
        """The statements of a text."""
        return split_statements(sql)

    def _parse(self, sql: str) -> ast.Statement:
        known = self._cache.get(sql)
        if known is not None:
            self._cache.move_to_end(sql)
            return known
        statement = parse_bulk(sql) or parse(sql)
        if len(sql) <= PARSE_CACHE_TEXT:
            self._cache[sql] = statement
            if len(self._cache) > PARSE_CACHE:
                self._cache.popitem(last=False)
        return statement

    async def execute(self, sql: str) -> Result:
        """Run one statement."""
        if self.state.txn is not None or self.state.autocommit:
            point = self._points.of_text(sql)
            if point is not None:
                self.times.start("Select")
                return await self._points.run(*point)
        return await self._guarded(lambda: self._parse(sql), ())

    async def _guarded(self, statement: Callable[[], ast.Statement], params: Sequence[Constant]) -> Result:
        state, times = self.state, self.times
        state.statement_time = state.server.now()
        times.start()
        began = times.monotonic()
        try:
            parsed = statement()
            times.parse_s = times.monotonic() - began
            times.sql_type = sql_type_of(parsed)
            if not (
                isinstance(parsed, ast.Show) and parsed.kind in ("warnings", "errors", "count warnings", "count errors")
            ):
                state.warnings.clear()
            result = await self._run(parsed, params)
        except DbError as error:
            state.warnings.append(("Error", error.mysql_code, error.message))
            state.row_count = -1
            raise
        finally:
            times.transaction_is(state.txn)
        if isinstance(result, Done):
            state.row_count = result.affected
        return result

    async def _run(self, statement: ast.Statement, params: Sequence[Constant]) -> Result:
        if isinstance(statement, ast.SqlNode):
            return await self._tree(statement, params)
        handler = getattr(self, _HANDLERS[type(statement)])
        result: Result = await handler(statement)
        return result

    # -- queries, DML, DDL ------------------------------------------------------------------------------------

    async def _tree(self, statement: ast.SqlNode, params: Sequence[Constant]) -> Result:
        node, state = statement.node, self.state
        if isinstance(node, exp.Query):
            return await self._query(statement, params)
        if isinstance(node, exp.Insert):
            return await self._write(lambda ctx: dml.insert(state, node, ctx, params, replacing=statement.replace))
        if isinstance(node, exp.Update):
            return await self._write(lambda ctx: dml.update(state, node, ctx, params))
        if isinstance(node, exp.Delete):
            return await self._write(lambda ctx: dml.delete(state, node, ctx, params))
        await transactions.commit(state)
        await DdlExecutor(state.server.storage, state.server.catalog, state.warn).run(node, state.database)
        return _DONE

    async def _write(self, body: Callable[[WriteContext], Awaitable[Done]]) -> Done:
        alone = self.state.txn is None and self.state.autocommit
        began = self.times.monotonic()
        try:
            return await transactions.write(self.state, body)
        finally:
            if alone:  # the statement was a transaction of its own
                self.times.on_transaction(self.times.monotonic() - began)

    async def _query(self, statement: ast.SqlNode, params: Sequence[Constant]) -> Result:
        node, state = statement.node, self.state
        if node.args.get("into") is not None:
            raise NotSupported("SELECT ... INTO is not supported")
        await transactions.ensure(state)
        began = self.times.monotonic()
        plan = plan_query(state, node, params, statement.text)
        self.times.compile_s = self.times.monotonic() - began
        if node.args.get("locks") and state.txn is not None and state.txn.pessimistic:
            return await transactions.write(state, lambda ctx: self._locked_query(plan, node, ctx, params))
        return await run_query(state, plan, await reader_for(state, plan))

    async def _locked_query(self, plan: Any, node: Any, ctx: WriteContext, params: Sequence[Constant]) -> Result:
        await dml.lock_rows(self.state, node, ctx, params)
        return await run_query(self.state, plan, ctx.reader)

    async def _explain(self, statement: ast.Explain) -> Result:
        inner = statement.statement
        names = ["id", "estRows", "task", "access object", "operator info"]
        if not isinstance(inner, ast.SqlNode) or not isinstance(inner.node, exp.Query):
            reads = dml.query_of(inner.node) if isinstance(inner, ast.SqlNode) else None
            changed = plan_query(self.state, reads) if reads is not None else None
            return rows_result(names, [*explain(changed, sql_type_of(inner))])
        plan = plan_query(self.state, inner.node)
        lines: list[tuple[str | int | None, ...]] = [*explain(plan)]
        if statement.analyze:
            result = await run_query(self.state, plan, await reader_for(self.state, plan))
            rows = len(await collect(result))
            names.insert(2, "actRows")
            lines = [(line[0], line[1], str(rows) if i == 0 else "", *line[2:]) for i, line in enumerate(lines)]
        return rows_result(names, lines)

    async def _show(self, statement: ast.Show) -> Result:
        return show(self.state, statement)

    async def _load_data(self, statement: ast.LoadData) -> Result:
        state = self.state
        node = exp.Table(this=exp.to_identifier(statement.table))
        if statement.database:
            node.set("db", exp.to_identifier(statement.database))
        target = dml.find_target(state, node)
        if statement.assignments:
            raise NotSupported("SET in LOAD DATA is not supported")
        table = target.table
        names = statement.columns or tuple(c.name for c in table.columns)
        wanted = [None if n.startswith("@") else dml._columns(target, [n])[0] for n in names]
        columns = [c for c in wanted if c is not None]
        mode = "replace" if statement.replace else "ignore"

        async def insert(rows: list[list[Cell]]) -> tuple[int, int]:
            async def body(ctx: WriteContext) -> tuple[int, int]:
                inserter = dml.make_inserter(state, target, columns, ctx, mode)
                await inserter.insert(rows)
                return inserter.result.affected, inserter.result.duplicates

            return await transactions.write(state, body)

        return NeedFile(statement.filename, LoadDataSink(statement, wanted, insert))

    # -- transactions -----------------------------------------------------------------------------------------

    async def _begin(self, statement: ast.Begin) -> Result:
        await transactions.begin(self.state, statement.mode)
        return _DONE

    async def _commit(self, _: ast.Commit) -> Result:
        await transactions.commit(self.state)
        return _DONE

    async def _rollback(self, statement: ast.Rollback) -> Result:
        if statement.savepoint:
            transactions.rollback_to(self.state, statement.savepoint)
        else:
            await transactions.rollback(self.state)
        return _DONE

    async def _savepoint(self, statement: ast.Savepoint) -> Result:
        await transactions.ensure(self.state)
        transactions.savepoint(self.state, statement.name)
        return _DONE

    async def _release(self, statement: ast.ReleaseSavepoint) -> Result:
        transactions.release(self.state, statement.name)
        return _DONE

    # -- settings ---------------------------------------------------------------------------------------------

    async def _set(self, statement: ast.SetStatement) -> Result:
        state = self.state
        for item in statement.assignments:
            if item.scope == "names":
                self._set_names(str(item.value.this))
                continue
            value = self._constant(item.value)
            if item.scope == "user":
                state.user_variables[item.name.lower()] = value
                continue
            text = (
                None
                if isinstance(item.value, exp.Literal)
                and item.value.is_string
                and str(item.value.this).upper() == "DEFAULT"
                else _text(value)
            )
            before = state.autocommit
            state.variables.set(item.name, text, item.scope)
            if item.name.lower() == "autocommit" and state.autocommit and not before:
                await transactions.commit(state)
            if item.name.lower() == "time_zone":
                state.zone()
        return _DONE

    def _set_names(self, text: str) -> None:
        charset, _, collation = text.partition(" ")
        charset = "utf8mb4" if charset.lower() == "default" else charset
        variables = self.state.variables
        for name in ("character_set_client", "character_set_connection", "character_set_results"):
            variables.set(name, charset, "session")
        variables.set(
            "collation_connection",
            collation or ("utf8mb4_bin" if charset.lower() == "utf8mb4" else "utf8_bin"),
            "session",
        )

    def _constant(self, node: Any) -> Constant:
        value = Lowering(lower_context(self.state), Scope([]))(node)
        if not isinstance(value, Constant):
            raise NotSupported("SET needs a value that is known at once")
        return value

    async def _set_password(self, statement: ast.SetPassword) -> Result:
        await transactions.commit(self.state)
        await self._change_accounts(
            lambda: users.set_password(self._own, statement, self.state.user, "%", self._random_bytes)
        )
        return _DONE

    async def _users(self, statement: ast.UserStatement) -> Result:
        await transactions.commit(self.state)
        await self._change_accounts(lambda: users.change_users(self._own, statement, self._random_bytes))
        return _DONE

    async def _change_accounts(self, body: Callable[[], Awaitable[None]]) -> None:
        """With autocommit off the rows of mysql.user are written in a transaction, which ends here either way."""
        try:
            await body()
        except BaseException:
            await transactions.rollback(self.state)
            raise
        await transactions.commit(self.state)

    async def _own(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement of the server's own."""
        result = await self._run(parse(sql), ())
        return await collect(result) if isinstance(result, ResultSet) else []

    async def _use(self, statement: ast.Use) -> Result:
        await self.init_db(statement.database)
        return _DONE

    async def _kill(self, statement: ast.Kill) -> Result:
        if not self.state.server.kill(statement.connection_id):
            raise WrongArguments(f"Unknown thread id: {statement.connection_id}")
        return _DONE

    async def _bulk_insert(self, statement: ast.BulkInsert) -> Result:
        return await self._write(lambda ctx: dml.bulk_insert(self.state, statement, ctx))

    async def _rename_tables(self, statement: ast.RenameTables) -> Result:
        state = self.state
        await transactions.commit(state)
        ddl = DdlExecutor(state.server.storage, state.server.catalog, state.warn)
        for (old_database, old), (new_database, new) in statement.pairs:
            database = old_database or state.database
            await ddl.rename(database, old, new_database or database, new)
        return _DONE

    async def _do(self, statement: ast.Do) -> Result:
        result = await self._run(statement.select, ())
        assert isinstance(result, ResultSet)
        await collect(result)
        return _DONE

    async def _nothing(self, _: object) -> Result:
        return _DONE

    async def _admin(self, statement: ast.Admin) -> Result:
        if statement.words[1:3] == ("SHOW", "DDL"):
            return rows_result(["SCHEMA_VER", "OWNER_ID"], [(self.state.schema.version, "")])
        return _DONE

    # -- prepared statements ----------------------------------------------------------------------------------

    async def _prepare_sql(self, statement: ast.Prepare) -> Result:
        text = statement.text
        if statement.from_variable:
            value = self.state.user_variables.get(text.lower())
            text = _text(value) or "" if value is not None else ""
        marked, count = mark_parameters(text)
        self._named[statement.name.lower()] = (parse(marked), count)
        return _DONE

    async def _execute_sql(self, statement: ast.Execute) -> Result:
        known = self._named.get(statement.name.lower())
        if known is None:
            raise UnknownPrepared(f"Unknown prepared statement handler ({statement.name}) given to EXECUTE")
        null = Constant(None, null_type())
        params = [self.state.user_variables.get(v.lower(), null) for v in statement.variables]
        if len(params) != known[1]:
            raise WrongArguments("Incorrect arguments to EXECUTE")
        return await self._run(known[0], params)

    async def _deallocate(self, statement: ast.Deallocate) -> Result:
        if self._named.pop(statement.name.lower(), None) is None:
            raise UnknownPrepared(f"Unknown prepared statement handler ({statement.name}) given to DEALLOCATE PREPARE")
        return _DONE

    async def prepare(self, sql: str) -> Prepared:
        """COM_STMT_PREPARE."""
        marked, count = mark_parameters(sql)
        statement = parse(marked)
        columns: list[ColumnDef] = []
        if isinstance(statement, ast.SqlNode) and isinstance(statement.node, exp.Query):
            nulls = [Constant(b"", string_type()) for _ in range(count)]
            try:
                columns = [column_def(c) for c in plan_query(self.state, statement.node, nulls, sql).root.columns]
            except NotSupported:
                numbers = [Constant(0, int_type()) for _ in range(count)]  # LIMIT ? needs a number
                columns = [column_def(c) for c in plan_query(self.state, statement.node, numbers, sql).root.columns]
        number = self._next_statement
        self._next_statement += 1
        self._prepared[number] = (statement, marked)
        return Prepared(number, count, columns)

    async def execute_prepared(self, statement_id: int, values: Sequence[ParamValue]) -> Result:
        """COM_STMT_EXECUTE."""
        known = self._prepared.get(statement_id)
        if known is None:
            raise UnknownPrepared(f"Unknown prepared statement handler ({statement_id}) given to EXECUTE")
        params = [_param(v) for v in values]
        if self.state.txn is not None or self.state.autocommit:
            point = self._points.of_prepared(known[1], params)
            if point is not None:
                self.times.start("Select")
                return await self._points.run(*point)
        return await self._guarded(lambda: known[0], params)

    def close_prepared(self, statement_id: int) -> None:
        """COM_STMT_CLOSE."""
        self._prepared.pop(statement_id, None)

    # -- the connection's life --------------------------------------------------------------------------------

    async def init_db(self, name: str) -> None:
        """USE."""
        if name.lower() != "information_schema":
            name = self.state.schema.database(name).name
        self.state.database = name

    async def fields(self, table: str) -> list[ColumnDef]:
        """COM_FIELD_LIST."""
        node = parse(f"SELECT * FROM `{table}` LIMIT 0")
        assert isinstance(node, ast.SqlNode)
        return [column_def(c) for c in plan_query(self.state, node.node).root.columns]

    async def reset(self) -> None:
        """COM_RESET_CONNECTION."""
        await transactions.rollback(self.state)
        self.state.variables.reset()
        self.state.user_variables.clear()
        self.state.warnings.clear()
        self.state.last_insert_id = 0
        self._prepared.clear()
        self._named.clear()

    async def close(self) -> None:
        """The client is gone."""
        await transactions.rollback(self.state)
        self.times.transaction_is(None)


def _text(value: Constant) -> str | None:
    raw = value.value
    if raw is None:
        return "NULL"
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _param(value: ParamValue) -> Constant:
    """A bound parameter as a literal."""
    if value is None:
        return Constant(None, null_type())
    if isinstance(value, int):
        return Constant(value, int_type(unsigned=value >= 1 << 63, flen=len(str(value))))
    if isinstance(value, float):
        return Constant(value, real_type())
    raw = value.encode() if isinstance(value, str) else value
    return Constant(raw, string_type(len(raw)))


_HANDLERS: dict[type, str] = {
    ast.Begin: "_begin", ast.Commit: "_commit", ast.Rollback: "_rollback", ast.Savepoint: "_savepoint",
    ast.ReleaseSavepoint: "_release", ast.SetStatement: "_set", ast.SetPassword: "_set_password", ast.Use: "_use",
    ast.Show: "_show", ast.Explain: "_explain", ast.Prepare: "_prepare_sql", ast.Execute: "_execute_sql",
    ast.Deallocate: "_deallocate", ast.UserStatement: "_users", ast.LoadData: "_load_data", ast.Analyze: "_nothing",
    ast.Kill: "_kill",
    ast.RenameTables: "_rename_tables", ast.BulkInsert: "_bulk_insert",
    ast.Admin: "_admin", ast.Do: "_do", ast.Nothing: "_nothing",
}  # fmt: skip
