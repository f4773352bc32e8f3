"""DDL statements: each changes the schema in one transaction and bumps the schema version.

CREATE INDEX on a table with rows first makes the index write-only, so that every write keeps it up to date, then fills it
in batches of transactions, then makes it public. A duplicate found while filling removes the index again and is error 1062.
Changes of column types are limited to those that leave stored values as they are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.fieldtype import NOT_NULL_FLAG, PRI_KEY_FLAG, FieldType
from core_py.vector.text import value_text
from tidb_py.catalog.infoschema import Catalog
from tidb_py.catalog.meta import MetaWriter
from tidb_py.catalog.model import PUBLIC, WRITE_ONLY, ColumnInfo, DatabaseInfo, IndexInfo, TableInfo
from tidb_py.ddl.backfill import MAX_RETRIES, Backfill
from tidb_py.ddl.columns import (
    TableDraft,
    charset_collation,
    collation_id,
    column_info,
    finish_table,
    key_definition,
    make_index,
)  # fmt: skip
from tidb_py.errors import (
    BadTable,
    CantDrop,
    DatabaseDropMissing,
    DatabaseExists,
    DuplicateColumn,
    NoDatabase,
    NotSupported,
    SqlError,
    TableExists,
    UnknownColumn,
    WriteConflict,
)  # fmt: skip
from tidb_py.executor.insert import zero_value
from tidb_py.session.storage import Storage, Transaction

Node = Any
SETTLE_S = 0.1
TableChange = Callable[[TableInfo, MetaWriter], Awaitable[TableInfo]]


class DdlExecutor:
    """Runs DDL for a session."""

    def __init__(self, storage: Storage, catalog: Catalog, warn: Callable[[SqlError], None]) -> None:
        self._storage, self._catalog, self._warn = storage, catalog, warn

    async def run(self, node: Node, database: str) -> None:
        """Run one CREATE, DROP, ALTER or TRUNCATE."""
        kind = str(node.args.get("kind") or "").upper()
        if isinstance(node, exp.Create):
            if kind in ("DATABASE", "SCHEMA"):
                await self.create_database(node)
            elif kind == "TABLE":
                await self._create_table(node, database)
            elif kind == "INDEX":
                await self._create_index(node, database)
            else:
                raise NotSupported(f"CREATE {kind} is not supported")
        elif isinstance(node, exp.Drop):
            await self._drop(node, kind, database)
        elif isinstance(node, exp.TruncateTable):
            for table in node.expressions:
                await self._truncate(*self._name(table, database))
        elif isinstance(node, exp.Alter):
            await self._alter(node, database)
        else:
            raise NotSupported("this statement is not supported")

    def _name(self, node: Node, database: str) -> tuple[str, str]:
        name = node.text("db") or database
        if not name:
            raise NoDatabase("No database selected")
        return name, node.name

    async def _change(self, body: Callable[[MetaWriter], Awaitable[None]]) -> None:
        """Run a change in a transaction, again when another DDL was faster, and load the new schema."""
        for attempt in range(MAX_RETRIES):
            txn: Transaction = await self._storage.begin(pessimistic=False)
            try:
                await self._catalog.reload()
                meta = MetaWriter(txn)
                await body(meta)
                await meta.bump()
                await txn.commit()
                break
            except WriteConflict:
                await txn.rollback()
                if attempt == MAX_RETRIES - 1:
                    raise
            except BaseException:
                await txn.rollback()
                raise
        await self._catalog.reload()

    # -- databases --------------------------------------------------------------------------------------------

    async def create_database(self, node: Node) -> None:
        """CREATE DATABASE."""
        collation = 46
        for item in (node.args.get("properties") or exp.Properties(expressions=[])).expressions:
            if isinstance(item, exp.CharacterSetProperty):
                collation = charset_collation(item.this.name)
        for item in (node.args.get("properties") or exp.Properties(expressions=[])).expressions:
            if isinstance(item, exp.CollateProperty):
                collation = collation_id(item.this.name)
        name = node.this.name

        async def body(meta: MetaWriter) -> None:
            if name.lower() in self._catalog.schema.databases or name.lower() == "information_schema":
                raise DatabaseExists(f"Can't create database '{name}'; database exists")
            ids = await meta.next_ids(1)
            meta.put_database(DatabaseInfo(ids[0], name, collation))

        await self._tolerant(self._change(body), DatabaseExists, tolerant=bool(node.args.get("exists")))

    async def _tolerant(self, work: Awaitable[None], kind: type[SqlError], *, tolerant: bool) -> None:
        try:
            await work
        except kind as error:
            if not tolerant:
                raise
            self._warn(error)

    async def _drop(self, node: Node, kind: str, database: str) -> None:
        tables = node.args.get("tables") or ([node.this] if node.this is not None else [])
        tolerant = bool(node.args.get("exists"))
        if kind in ("DATABASE", "SCHEMA"):
            await self._tolerant(self._drop_database(tables[0].name), DatabaseDropMissing, tolerant=tolerant)
        elif kind == "TABLE":
            await self._drop_tables([self._name(t, database) for t in tables], tolerant=tolerant)
        elif kind == "INDEX":
            target = node.args.get("cluster") or node.args.get("this")
            table = node.find(exp.Table) if not isinstance(target, exp.Table) else target
            on = [t for t in node.find_all(exp.Table) if t is not tables[0]] or [table]
            await self._drop_index(*self._name(on[-1], database), tables[0].name)
        elif kind in ("VIEW", "SEQUENCE") and tolerant:
            return
        else:
            raise NotSupported(f"DROP {kind} is not supported")

    async def _drop_database(self, name: str) -> None:
        async def body(meta: MetaWriter) -> None:
            database = self._catalog.schema.databases.get(name.lower())
            if database is None:
                raise DatabaseDropMissing(f"Can't drop database '{name}'; database doesn't exist")
            for table in self._catalog.schema.tables(name):
                meta.drop_table(database.id, table.id)
            meta.drop_database(database)

        await self._change(body)

    async def _drop_tables(self, names: Sequence[tuple[str, str]], *, tolerant: bool) -> None:
        missing: list[SqlError] = []
        for database, name in names:

            async def body(meta: MetaWriter, database: str = database, name: str = name) -> None:
                table = self._catalog.schema.find(database, name)
                if table is None:
                    raise BadTable(f"Unknown table '{database}.{name}'")
                meta.drop_table(self._catalog.schema.database(database).id, table.id)
                self._catalog.forget_ids(table.id)

            try:
                await self._change(body)
            except BadTable as error:
                missing.append(error)
        if missing and not tolerant:
            raise missing[0]
        for unknown in missing:
            self._warn(unknown)

    # -- tables -----------------------------------------------------------------------------------------------

    async def _create_table(self, node: Node, database: str) -> None:
        target = node.this.this if isinstance(node.this, exp.Schema) else node.this
        where, name = self._name(target, database)
        properties = {type(p): p for p in (node.args.get("properties") or exp.Properties(expressions=[])).expressions}
        if node.expression is not None:
            raise NotSupported("CREATE TABLE ... SELECT is not supported")

        async def body(meta: MetaWriter) -> None:
            info = self._catalog.schema.database(where)
            if self._catalog.schema.find(where, name) is not None:
                raise TableExists(f"Table '{where}.{name}' already exists")
            ids = await meta.next_ids(1)
            if exp.LikeProperty in properties:
                source = self._catalog.schema.table(*self._name(properties[exp.LikeProperty].this, database))
                table = replace(source, id=ids[0], name=name, auto_inc_start=0, foreign_keys=(), by_name={})
            else:
                table = self._draft(node, ids[0], name, info.collation, properties)
            meta.put_table(info.id, table)

        await self._tolerant(self._change(body), TableExists, tolerant=bool(node.args.get("exists")))

    def _draft(self, node: Node, table_id: int, name: str, collation: int, properties: dict[type, Node]) -> TableInfo:
        if exp.CharacterSetProperty in properties:
            collation = charset_collation(properties[exp.CharacterSetProperty].this.name)
        if exp.CollateProperty in properties:
            collation = collation_id(properties[exp.CollateProperty].this.name)
        comment = properties[exp.SchemaCommentProperty].this.name if exp.SchemaCommentProperty in properties else ""
        start = properties.get(exp.AutoIncrementProperty)
        draft = TableDraft()
        for item in node.this.expressions if isinstance(node.this, exp.Schema) else ():
            if isinstance(item, exp.ColumnDef):
                at = len(draft.columns)
                draft.columns.append(column_info(item, at, at + 1, collation, draft))
            elif not key_definition(item, draft):
                raise NotSupported(f"{type(item).__name__} is not supported in CREATE TABLE")
        if not draft.columns:
            raise NotSupported("A table must have at least 1 column")
        table = TableInfo(
            id=table_id, name=name, columns=tuple(draft.columns), collation=collation, comment=comment,
            auto_inc_start=int(start.this.name) if start is not None else 0, max_column_id=len(draft.columns),
        )  # fmt: skip
        return finish_table(table, draft)

    async def _truncate(self, database: str, name: str) -> None:
        async def body(meta: MetaWriter) -> None:
            info, table = self._catalog.schema.database(database), self._catalog.schema.table(database, name)
            ids = await meta.next_ids(1)
            meta.drop_table(info.id, table.id)
            meta.put_table(info.id, replace(table, id=ids[0], auto_inc_start=0, by_name={}))
            self._catalog.forget_ids(table.id)

        await self._change(body)

    async def _alter_table(self, database: str, name: str, change: TableChange) -> TableInfo:
        done: list[TableInfo] = []

        async def body(meta: MetaWriter) -> None:
            info, table = self._catalog.schema.database(database), self._catalog.schema.table(database, name)
            done[:] = [await change(table, meta)]
            meta.put_table(info.id, done[0])

        await self._change(body)
        return done[0]

    # -- indexes ----------------------------------------------------------------------------------------------

    async def _create_index(self, node: Node, database: str) -> None:
        index = node.this
        where, name = self._name(index.args["table"], database)
        draft = TableDraft()
        columns = index.args["params"].args.get("columns") or []
        schema = exp.Schema(expressions=list(columns))
        key_definition(exp.UniqueColumnConstraint(this=schema), draft)
        kind = "unique" if node.args.get("unique") else "index"
        await self._add_index(where, name, index.name, draft.keys[0][1], kind)

    async def _add_index(self, database: str, name: str, index: str, parts: list[tuple[str, int]], kind: str) -> None:
        async def start(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            new = replace(make_index(table, table.max_index_id + 1, index, parts, kind), state=WRITE_ONLY)
            return replace(table, indexes=(*table.indexes, new), max_index_id=new.id, by_name={})

        table = await self._alter_table(database, name, start)
        added = table.indexes[-1]
        await asyncio.sleep(SETTLE_S)  # commits that looked at the schema just before it changed are through
        try:
            await Backfill(self._storage, table, added).run()
        except BaseException:
            await self._drop_index(database, name, added.name)
            raise

        async def publish(current: TableInfo, _meta: MetaWriter) -> TableInfo:
            indexes = tuple(replace(i, state=PUBLIC) if i.id == added.id else i for i in current.indexes)
            return replace(current, indexes=indexes, by_name={})

        await self._alter_table(database, name, publish)

    async def _drop_index(self, database: str, name: str, index: str) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            found = table.index(index)
            if found is None:
                raise CantDrop(f"Can't DROP '{index}'; check that column/key exists")
            return replace(table, indexes=tuple(i for i in table.indexes if i is not found), by_name={})

        await self._alter_table(database, name, change)

    # -- ALTER TABLE ------------------------------------------------------------------------------------------

    async def _alter(self, node: Node, database: str) -> None:
        where, name = self._name(node.this, database)
        self._catalog.schema.table(where, name)
        for action in node.args.get("actions") or ():
            await self._action(action, where, name)

    async def _action(self, action: Node, where: str, name: str) -> None:
        if isinstance(action, exp.ColumnDef):
            await self._add_column(where, name, action)
        elif isinstance(action, exp.AddConstraint):
            for item in action.expressions:
                await self._add_constraint(where, name, item)
        elif isinstance(action, exp.Drop):
            kind = str(action.args.get("kind") or "COLUMN").upper()
            dropped = action.args.get("tables") or [action.this]
            if kind == "COLUMN":
                await self._drop_column(where, name, dropped[0].name)
            elif kind in ("INDEX", "KEY"):
                await self._drop_index(where, name, dropped[0].name)
            else:
                await self._drop_foreign_key(where, name, dropped[0].name)
        elif isinstance(action, exp.AlterRename):
            await self._rename(where, name, action.this)
        elif isinstance(action, exp.RenameColumn):
            await self._rename_column(where, name, action.this.name, action.args["to"].name)
        elif isinstance(action, (exp.ModifyColumn,)):
            await self._modify_column(where, name, action.this)
        else:
            raise NotSupported(f"ALTER TABLE ... {action.sql('mysql')[:40]} is not supported")

    async def _add_constraint(self, where: str, name: str, item: Node) -> None:
        draft = TableDraft()
        if not key_definition(item, draft):
            raise NotSupported("this kind of constraint is not supported")
        for index, parts, kind in draft.keys:
            await self._add_index(where, name, index, parts, kind)
        if draft.foreign_keys:

            async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
                return replace(table, foreign_keys=(*table.foreign_keys, *draft.foreign_keys), by_name={})

            await self._alter_table(where, name, change)

    async def _drop_foreign_key(self, where: str, name: str, key: str) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            left = tuple(f for f in table.foreign_keys if f["fk_name"]["L"] != key.lower())
            return replace(table, foreign_keys=left, by_name={})

        await self._alter_table(where, name, change)

    async def _add_column(self, where: str, name: str, node: Node) -> None:
        draft = TableDraft()

        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            draft.keys.clear()
            if table.column(node.name) is not None:
                raise DuplicateColumn(f"Duplicate column name '{node.name}'")
            column = column_info(node, len(table.columns), table.max_column_id + 1, table.collation, draft)
            origin = column.default
            if column.default_is_expr:
                now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
                origin = now
            if origin is None and column.not_null:
                origin = value_text(zero_value(column.ft), column.ft).decode()
            return _placed(table, replace(column, origin_default=origin), node.args.get("position"))

        await self._alter_table(where, name, change)
        for index, parts, kind in draft.keys:
            await self._add_index(where, name, index, parts, kind)

    async def _drop_column(self, where: str, name: str, column_name: str) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            column = table.column(column_name)
            if column is None:
                raise CantDrop(f"Can't DROP '{column_name}'; check that column/key exists")
            if column.ft.flags & PRI_KEY_FLAG:
                raise NotSupported(f"can't drop column {column_name}, it is part of the primary key")
            kept_indexes = [i for i in table.indexes if all(c.offset != column.offset for c in i.columns)]
            if any(len(i.columns) > 1 for i in table.indexes if i not in kept_indexes):
                raise NotSupported(f"can't drop column {column_name} with composite index covered")
            return _renumbered(table, [c for c in table.columns if c is not column], kept_indexes)

        await self._alter_table(where, name, change)

    async def _rename(self, where: str, name: str, target: Node) -> None:
        to_database, to_name = self._name(target, where)

        async def body(meta: MetaWriter) -> None:
            schema = self._catalog.schema
            source, destination = schema.database(where), schema.database(to_database)
            table = schema.table(where, name)
            if schema.find(to_database, to_name) is not None:
                raise TableExists(f"Table '{to_database}.{to_name}' already exists")
            if source.id != destination.id:
                raise NotSupported("a table cannot be moved to another database")
            meta.put_table(destination.id, replace(table, name=to_name, by_name={}))

        await self._change(body)

    async def _rename_column(self, where: str, name: str, old: str, new: str) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            column = table.column(old)
            if column is None:
                raise UnknownColumn(f"Unknown column '{old}' in '{name}'")
            if table.column(new) not in (None, column):
                raise DuplicateColumn(f"Duplicate column name '{new}'")
            columns = [replace(c, name=new) if c is column else c for c in table.columns]
            return _renumbered(table, columns, list(table.indexes))

        await self._alter_table(where, name, change)

    async def _modify_column(self, where: str, name: str, node: Node) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            old = table.column(node.name)
            if old is None:
                raise UnknownColumn(f"Unknown column '{node.name}' in '{name}'")
            new = column_info(node, old.offset, old.id, table.collation, TableDraft())
            if not _compatible(old.ft, new.ft):
                raise NotSupported(f"the type of column '{node.name}' cannot be changed without rewriting the table")
            keys = old.ft.flags & PRI_KEY_FLAG
            flags = new.ft.flags | keys | (NOT_NULL_FLAG if keys else 0)
            new = replace(new, ft=replace(new.ft, flags=flags), origin_default=old.origin_default)
            columns = [new if c is old else c for c in table.columns]
            return replace(table, columns=tuple(columns), by_name={})

        await self._alter_table(where, name, change)


def _compatible(old: FieldType, new: FieldType) -> bool:
    """Whether values stored as `old` read right as `new`."""
    if old.eval_type is not new.eval_type or old.unsigned != new.unsigned:
        return False
    if old.tp == new.tp and old.eval_type.name in ("DECIMAL", "TIME", "DURATION"):
        return (old.flen, old.decimal) == (new.flen, new.decimal)
    same_kind = old.tp == new.tp or (old.tp not in (247, 248, 16, 13, 10) and new.tp not in (247, 248, 16, 13, 10))
    return same_kind and abs(old.collation) == abs(new.collation) and new.flen >= old.flen


def _placed(table: TableInfo, column: ColumnInfo, position: Node | None) -> TableInfo:
    columns = list(table.columns)
    at = len(columns)
    if position is not None:
        where = str(position.args.get("position") or "").upper()
        if where == "FIRST":
            at = 0
        elif where == "AFTER":
            before = table.column(position.this.name)
            if before is None:
                raise UnknownColumn(f"Unknown column '{position.this.name}' in '{table.name}'")
            at = before.offset + 1
    columns.insert(at, column)
    return replace(_renumbered(table, columns, list(table.indexes)), max_column_id=column.id, by_name={})


def _renumbered(table: TableInfo, columns: list[ColumnInfo], indexes: list[IndexInfo]) -> TableInfo:
    """The table with its columns in a new order; indexes follow by column id."""
    ids = {c.offset: c.id for c in table.columns}
    at = {c.id: i for i, c in enumerate(columns)}
    moved = tuple(replace(c, offset=i) for i, c in enumerate(columns))
    new_indexes = tuple(
        replace(i, columns=tuple(
            replace(c, offset=at[ids[c.offset]], name=columns[at[ids[c.offset]]].name) for c in i.columns
        )) for i in indexes
    )  # fmt: skip
    return replace(table, columns=moved, indexes=new_indexes, by_name={})
