"""One task per client: authenticate, then answer commands until the client leaves.

The only place where protocol and session meet. An expected failure (`DbError`) becomes an ERR packet and the connection
goes on; a broken protocol gets one ERR packet and is closed; any other exception is a defect, which is reported, told
to the client as 1105, and does not stop the server. Closing always rolls the session back; a statement that still runs
GONE_GRACE_S after its client went is cancelled, so that nobody waits for locks of a client that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from core_py.errors import DbError
from tidb_py.errors import FileNotAllowed
from tidb_py.mysql import commands as cmd
from tidb_py.mysql import responses
from tidb_py.mysql.auth import Account, AuthExchange, AuthStatus
from tidb_py.mysql.cells import binary_cells, is_prefixed, text_cells
from tidb_py.mysql.connection import AuthData, InfileData, Phase, ServerConnection
from tidb_py.mysql.constants import CURSOR_TYPE_READ_ONLY, Capability, ColumnType, Status
from tidb_py.mysql.errors import ProtocolError
from tidb_py.mysql.handshake import HandshakeResponse, SslRequest
from tidb_py.mysql.resultset import encode_binary_rows, encode_text_rows
from tidb_py.mysql.statement import ParamValue, StatementParams
from tidb_py.mysql.wire import lenenc_int
from tidb_py.server.context import ServerContext
from tidb_py.server.handler import Batch, Done, NeedFile, Prepared, Result, ResultSet, Session
from tidb_py.server.transport import ConnectionLost, WireProtocol

_MORE_RESULTS = int(Status.MORE_RESULTS)
GONE_GRACE_S = 1.0  # for the statement of a client that went; a commit under way mostly ends within it


class AccessDenied(DbError):
    """Wrong user or password."""

    code = "Tidb:Privilege:AccessDenied"
    mysql_code = 1045
    sqlstate = "28000"


class TooManyConnections(DbError):
    """max_connections is reached."""

    code = "Tidb:Server:TooManyConnections"
    mysql_code = 1040
    sqlstate = "08004"


class UnknownStatement(DbError):
    """A prepared statement that does not exist (any more)."""

    code = "Tidb:Server:UnknownStatement"
    mysql_code = 1243


@dataclass(slots=True)
class _Cursor:
    result: ResultSet
    batches: AsyncIterator[Batch]
    rest: Batch | None = None  # rows pulled and not fetched yet
    finished: bool = False


@dataclass(slots=True)
class _Statement:
    info: Prepared
    params: StatementParams
    cursor: _Cursor | None = None


class ClientConnection:
    """Serves one client."""

    def __init__(self, context: ServerContext, wire: WireProtocol) -> None:
        self._context = context
        self._wire = wire
        self.connection_id = context.next_connection_id
        context.next_connection_id += 1
        scramble = bytes(b % 94 + 33 for b in context.random_bytes(20))
        self._conn = ServerConnection(
            self.connection_id,
            scramble,
            max_allowed_packet=context.max_allowed_packet,
            tls=context.ssl_context is not None,
        )
        wire.connection = self._conn
        self._session: Session | None = None
        self._account: Account | None = None
        self._statements: dict[int, _Statement] = {}
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False  # the client went and its statement was cancelled
        wire.on_lost = self._client_lost

    def kill(self) -> None:
        """Close the connection; the task then ends by itself."""
        self._wire.close()

    def _client_lost(self) -> None:
        asyncio.get_running_loop().call_later(GONE_GRACE_S, self._cancel)

    def _cancel(self) -> None:
        """Nobody waits for the statement any more; without one the task has ended by itself."""
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    async def run(self) -> None:
        """Serve until the client leaves."""
        context = self._context
        self._task = asyncio.current_task()
        context.connections[self.connection_id] = self
        context.observer.connected(len(context.connections))
        try:
            async with asyncio.timeout(context.handshake_timeout_s):
                accepted = await self._log_in()
            if accepted:
                await self._serve()
        except ConnectionLost:
            pass
        except asyncio.CancelledError:
            if not self._cancelled:  # the server stops
                raise
        except TimeoutError:
            context.observer.handshake_timeout(self.connection_id, self._wire.peer_host)
        except ProtocolError as error:
            self._send_error(error)
        except DbError as error:
            self._send_error(error)
        finally:
            self._task = None  # what follows is not to be cancelled
            del context.connections[self.connection_id]
            context.observer.connected(len(context.connections))
            self._wire.close()
            if self._session is not None:
                await self._session.close()

    # -- login ------------------------------------------------------------------------------------------------

    async def _log_in(self) -> bool:
        conn, wire = self._conn, self._wire
        if 0 < self._context.max_connections < len(self._context.connections):
            raise TooManyConnections("Too many connections")
        wire.write(conn.greeting())
        event = await wire.event()
        if isinstance(event, SslRequest):
            assert self._context.ssl_context is not None
            wire.start_tls(self._context.ssl_context)
            event = await wire.event()
        if not isinstance(event, HandshakeResponse):
            raise ProtocolError("a handshake response must come first")
        return await self._authenticate(event)

    async def _authenticate(self, event: HandshakeResponse) -> bool:
        conn, wire, context = self._conn, self._wire, self._context
        account = await context.find_account(event.user, wire.peer_host)
        exchange = AuthExchange(account, conn.scramble, context.auth_cache, context.rsa_key, secure=conn.secure)
        step = exchange.start(event.plugin or "mysql_native_password", event.auth_response)
        while True:
            for payload in step.payloads:
                wire.write(conn.send(payload))
            if step.status is not AuthStatus.CONTINUE:
                break
            message = await wire.event()
            if not isinstance(message, AuthData):
                raise ProtocolError("authentication was not finished")
            step = exchange.receive(message.data)
        if step.status is AuthStatus.REFUSED or account is None:
            using = "YES" if event.auth_response else "NO"
            raise AccessDenied(f"Access denied for user '{event.user}'@'{wire.peer_host}' (using password: {using})")
        self._account = account
        self._session = await context.open_session(self.connection_id, account, wire.peer_host, event.database)
        conn.accept()
        wire.write(conn.send(responses.ok(self._session.status)))
        return True

    # -- commands ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        context, wire = self._context, self._wire
        while True:
            event = await wire.event()
            if isinstance(event, cmd.Quit):
                return
            started = context.monotonic()
            kind, outcome = type(event).__name__, "OK"
            sql_type = kind
            try:
                async with context.tokens:
                    await self._dispatch(event)
            except (ConnectionLost, ProtocolError):
                raise
            except DbError as error:
                outcome = "Error"
                self._send_error(error)
            except Exception as error:  # noqa: BLE001 - the boundary of a session; reported as a defect
                outcome = "Error"
                context.observer.unexpected(self.connection_id, error)
                wire.write(self._conn.send(responses.err(1105, f"{type(error).__name__}: {error}")))
            if isinstance(event, (cmd.Query, cmd.StmtExecute)) and self._session is not None:
                sql_type = self._session.times.sql_type
            context.observer.query(kind, outcome, context.monotonic() - started, sql_type)
            await wire.drain()

    async def _dispatch(self, event: object) -> None:
        if isinstance(event, cmd.Query):
            await self._query(event.sql)
            return
        handler = _HANDLERS.get(type(event))
        if handler is None:
            number = event.number if isinstance(event, cmd.Unknown) else 0
            self._reply(responses.err(1047, f"Unknown command {number}"))
            return
        await getattr(self, handler)(event)

    def _reply(self, *payloads: bytes) -> None:
        self._wire.write(self._conn.send(*payloads))

    def _send_error(self, error: DbError) -> None:
        self._reply(responses.err(error.mysql_code, error.message, error.sqlstate))

    @property
    def _live(self) -> Session:
        assert self._session is not None
        return self._session

    def _ok(self) -> None:
        self._reply(responses.ok(self._live.status))

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("utf-8", "surrogateescape")

    async def _query(self, raw: bytes) -> None:
        sql = self._text(raw)
        session = self._live
        statements = [sql]
        if ";" in sql and self._conn.capabilities & Capability.MULTI_STATEMENTS:
            statements = session.split(sql) or [sql]
        last = len(statements) - 1
        for i, statement in enumerate(statements):
            began = self._context.monotonic()
            try:
                result = await session.execute(statement)
                await self._answer(result, binary=False, more=i < last)
            finally:
                self._context.observer.statement(session.times, self._context.monotonic() - began)

    async def _answer(self, result: Result, *, binary: bool, more: bool) -> None:
        more_flag = _MORE_RESULTS if more else 0
        if isinstance(result, NeedFile):
            if not self._conn.capabilities & Capability.LOCAL_FILES:
                raise FileNotAllowed(
                    "Loading local data is disabled; this must be enabled on both the client and server sides"
                )
            result = await self._receive_file(result)
        if isinstance(result, Done):
            status = self._live.status | more_flag
            info = result.info.encode()
            self._reply(responses.ok(status, result.affected, result.last_insert_id, result.warnings, info))
            return
        wire, conn = self._wire, self._conn
        start, sent, failed = conn.encoder.sequence, False, True
        out = bytearray(self._head(result, self._live.status | more_flag))
        try:
            async for batch in result.batches:
                if len(batch[0]):
                    out += self._rows(result, batch, binary=binary)
                    if len(out) > 1 << 16:
                        wire.write(bytes(out))
                        sent = True
                        out.clear()
                        await wire.drain()
            failed = False
        finally:
            if failed and sent:
                wire.write(bytes(out))  # the error follows the rows that were sent
            elif failed:
                conn.encoder.sequence = start  # nothing was sent: the error is the whole answer
        status = self._live.status | more_flag
        out += conn.send(responses.end_of_rows(status, self._live.warning_count, deprecate_eof=conn.deprecate_eof))
        wire.write(bytes(out))

    def _head(self, result: ResultSet, status: int) -> bytes:
        payloads = [lenenc_int(len(result.columns))]
        payloads.extend(responses.column_definition(column) for column in result.columns)
        if not self._conn.deprecate_eof:
            payloads.append(responses.eof(status))
        return self._conn.send(*payloads)

    def _rows(self, result: ResultSet, batch: Batch, *, binary: bool) -> bytes:
        encoder = self._conn.encoder
        if not binary:
            return encode_text_rows([text_cells(a, t) for a, t in zip(batch, result.types, strict=True)], encoder)
        cells = [binary_cells(a, t) for a, t in zip(batch, result.types, strict=True)]
        return encode_binary_rows(cells, [is_prefixed(t) for t in result.types], encoder)

    async def _receive_file(self, need: NeedFile) -> Done:
        self._wire.write(self._conn.ask_file(responses.local_infile_request(need.filename)))
        failure: DbError | None = None
        while True:
            event = await self._wire.event()
            if not isinstance(event, InfileData):
                raise ProtocolError("the file was not sent to its end")
            if not event.data:
                break
            if failure is None:
                try:
                    await need.sink.feed(event.data)
                except DbError as error:
                    failure = error  # the client still sends the rest; read and drop it
        if failure is not None:
            raise failure
        return await need.sink.finish()

    async def _on_ping(self, _: cmd.Ping) -> None:
        self._ok()

    async def _on_init_db(self, event: cmd.InitDb) -> None:
        await self._live.init_db(event.database)
        self._ok()

    async def _on_statistics(self, _: cmd.Statistics) -> None:
        self._reply(self._context.statistics().encode())

    async def _on_kill(self, event: cmd.ProcessKill) -> None:
        victim = self._context.connections.get(event.connection_id)
        if victim is None:
            self._reply(responses.err(1094, f"Unknown thread id: {event.connection_id}"))
            return
        victim.kill()
        self._ok()

    async def _on_field_list(self, event: cmd.FieldList) -> None:
        columns = await self._live.fields(event.table)
        payloads = [responses.column_definition(column) + b"\xfb" for column in columns]
        end = responses.end_of_rows(self._live.status, 0, deprecate_eof=self._conn.deprecate_eof)
        self._reply(*payloads, end)

    async def _on_set_option(self, event: cmd.SetOption) -> None:
        flag = int(Capability.MULTI_STATEMENTS)
        self._conn.capabilities = self._conn.capabilities & ~flag | (flag if event.multi_statements else 0)
        self._reply(responses.eof(self._live.status))

    async def _on_reset(self, _: cmd.ResetConnection) -> None:
        self._statements.clear()
        await self._live.reset()
        self._ok()

    async def _on_change_user(self, event: cmd.ChangeUser) -> None:
        self._statements.clear()
        session, self._session = self._live, None
        await session.close()
        assert self._conn.phase is Phase.AUTH
        try:
            await self._authenticate(event.response)
        except DbError as error:
            self._send_error(error)
            raise ConnectionLost from error

    # -- prepared statements ----------------------------------------------------------------------------------

    def _statement(self, statement_id: int, what: str) -> _Statement:
        statement = self._statements.get(statement_id)
        if statement is None:
            raise UnknownStatement(f"Unknown prepared statement handler ({statement_id}) given to {what}")
        return statement

    async def _on_prepare(self, event: cmd.StmtPrepare) -> None:
        info = await self._live.prepare(self._text(event.sql))
        self._statements[info.statement_id] = _Statement(
            info, StatementParams(info.params, self._context.max_allowed_packet)
        )
        payloads = [responses.prepare_ok(info.statement_id, len(info.columns), info.params)]
        question = responses.ColumnDef(name="?", type=ColumnType.VAR_STRING, charset=63)
        for columns in ([question] * info.params, info.columns):
            if columns:
                payloads.extend(responses.column_definition(column) for column in columns)
                if not self._conn.deprecate_eof:
                    payloads.append(responses.eof(self._live.status))
        self._reply(*payloads)

    async def _on_execute(self, event: cmd.StmtExecute) -> None:
        statement = self._statement(event.statement_id, "mysqld_stmt_execute")
        statement.cursor = None
        values = statement.params.decode(event.body)
        session, began = self._live, self._context.monotonic()
        try:
            await self._execute(statement, event, values)
        finally:
            self._context.observer.statement(session.times, self._context.monotonic() - began)

    async def _execute(self, statement: _Statement, event: cmd.StmtExecute, values: list[ParamValue]) -> None:
        result = await self._live.execute_prepared(event.statement_id, values)
        if isinstance(result, ResultSet) and event.cursor_flags & CURSOR_TYPE_READ_ONLY:
            statement.cursor = _Cursor(result, aiter(result.batches))
            status = self._live.status | int(Status.CURSOR_EXISTS)
            self._wire.write(self._head(result, status))
            if self._conn.deprecate_eof:
                self._reply(responses.end_of_rows(status, 0, deprecate_eof=True))
            return
        await self._answer(result, binary=True, more=False)

    async def _on_fetch(self, event: cmd.StmtFetch) -> None:
        cursor = self._statement(event.statement_id, "mysqld_stmt_fetch").cursor
        if cursor is None:
            raise UnknownStatement(f"The statement ({event.statement_id}) has no open cursor.")
        out = bytearray()
        wanted = event.rows
        while wanted and not cursor.finished:
            batch = cursor.rest
            if batch is None or not len(batch[0]):
                batch = await anext(cursor.batches, None)
                if batch is None:
                    cursor.finished = True
                    break
            piece = [column[:wanted] for column in batch]
            cursor.rest = [column[wanted:] for column in batch]
            if len(piece[0]):
                wanted -= len(piece[0])
                out += self._rows(cursor.result, piece, binary=True)
        flag = Status.LAST_ROW_SENT if cursor.finished else Status.CURSOR_EXISTS
        status = self._live.status | int(flag)
        out += self._conn.send(responses.end_of_rows(status, 0, deprecate_eof=self._conn.deprecate_eof))
        self._wire.write(bytes(out))

    async def _on_long_data(self, event: cmd.StmtSendLongData) -> None:
        statement = self._statements.get(event.statement_id)
        if statement is not None:
            statement.params.append_long_data(event.parameter, event.data)

    async def _on_stmt_close(self, event: cmd.StmtClose) -> None:
        if self._statements.pop(event.statement_id, None) is not None:
            self._live.close_prepared(event.statement_id)

    async def _on_stmt_reset(self, event: cmd.StmtReset) -> None:
        statement = self._statement(event.statement_id, "mysqld_stmt_reset")
        statement.params.reset()
        statement.cursor = None
        self._ok()


_HANDLERS: dict[type, str] = {
    cmd.Ping: "_on_ping",
    cmd.InitDb: "_on_init_db",
    cmd.Statistics: "_on_statistics",
    cmd.ProcessKill: "_on_kill",
    cmd.FieldList: "_on_field_list",
    cmd.SetOption: "_on_set_option",
    cmd.ResetConnection: "_on_reset",
    cmd.ChangeUser: "_on_change_user",
    cmd.StmtPrepare: "_on_prepare",
    cmd.StmtExecute: "_on_execute",
    cmd.StmtFetch: "_on_fetch",
    cmd.StmtSendLongData: "_on_long_data",
    cmd.StmtClose: "_on_stmt_close",
    cmd.StmtReset: "_on_stmt_reset",
}
