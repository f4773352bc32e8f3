"""ALTER TABLE and indexes: changes of one table's definition, and how every schema change is made and loaded again.

CREATE INDEX first makes the index write-only, so that every write keeps it up to date, then fills it, then makes it public.
DROP INDEX goes the same way back: write-only until no server reads it, then gone.
Changes of column types are limited to those that leave stored values as they are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.fieldtype import NOT_NULL_FLAG, PRI_KEY_FLAG, FieldType
from core_py.vector.text import value_text
from tidb_py.catalog.infoschema import Catalog
from tidb_py.catalog.meta import MetaWriter
from tidb_py.catalog.model import PUBLIC, WRITE_ONLY, ColumnInfo, IndexInfo, TableInfo
from tidb_py.ddl.backfill import Backfill
from tidb_py.ddl.columns import (
    TableDraft,
    column_info,
    key_definition,
    make_index,
    with_default,
    with_foreign_keys,
)  # fmt: skip
from tidb_py.ddl.transaction import run_in_transaction
from tidb_py.errors import (
    CantDrop,
    DuplicateColumn,
    DuplicateKeyName,
    NoDatabase,
    NotSupported,
    SqlError,
    TableExists,
    UnknownColumn,
)  # fmt: skip
from tidb_py.executor.insert import zero_value
from tidb_py.session.storage import Storage, Transaction

Node = Any
LEASE_S = 1.5  # within it every server has looked at the schema (`server.app.RELOAD_INTERVAL_S`)
TableChange = Callable[[TableInfo, MetaWriter], Awaitable[TableInfo]]


class AlterExecutor:
    """Changes tables; the base of `DdlExecutor`."""

    def __init__(self, storage: Storage, catalog: Catalog, warn: Callable[[SqlError], None]) -> None:
        self._storage, self._catalog, self._warn = storage, catalog, warn

    def _name(self, node: Node, database: str) -> tuple[str, str]:
        name = node.text("db") or database
        if not name:
            raise NoDatabase("No database selected")
        return name, node.name

    async def _change(self, body: Callable[[MetaWriter], Awaitable[None]]) -> None:
        """Run a change in a transaction, again when another DDL was faster, and load the new schema."""

        async def in_transaction(txn: Transaction) -> None:
            await self._catalog.reload()
            meta = MetaWriter(txn)
            await body(meta)
            await meta.bump()

        await run_in_transaction(self._storage, in_transaction)
        await self._catalog.reload()

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
        try:
            await Backfill(self._storage, table, added).run()
        except BaseException:
            await self._drop_index(database, name, added.name)
            raise

        async def publish(current: TableInfo, _meta: MetaWriter) -> TableInfo:
            indexes = tuple(replace(i, state=PUBLIC) if i.id == added.id else i for i in current.indexes)
            return replace(current, indexes=indexes, by_name={})

        await self._alter_table(database, name, publish)

    async def _retire(self, database: str, name: str, chosen: Callable[[IndexInfo], bool]) -> None:
        """Make indexes write-only and wait until no server reads them: only then may writers leave out their entries."""
        retired = False

        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            nonlocal retired
            retired = any(chosen(i) and i.state == PUBLIC for i in table.indexes)
            indexes = tuple(replace(i, state=WRITE_ONLY) if chosen(i) else i for i in table.indexes)
            return replace(table, indexes=indexes, by_name={})

        if any(chosen(i) and i.state == PUBLIC for i in self._catalog.schema.table(database, name).indexes):
            await self._alter_table(database, name, change)
        if retired:
            await asyncio.sleep(LEASE_S)

    async def _drop_index(self, database: str, name: str, index: str) -> None:
        await self._retire(database, name, lambda i: i.name.lower() == index.lower())

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
        for option in node.args.get("options") or ():
            await self._option(option, where, name)

    async def _option(self, option: Node, where: str, name: str) -> None:
        """A table option in ALTER TABLE."""
        if isinstance(option, (exp.EngineProperty, exp.RowFormatProperty)):
            return
        if not isinstance(option, (exp.SchemaCommentProperty, exp.AutoIncrementProperty)):
            raise NotSupported(f"ALTER TABLE ... {option.sql('mysql')[:40]} is not supported")

        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            if isinstance(option, exp.SchemaCommentProperty):
                return replace(table, comment=option.this.name, by_name={})
            return replace(table, auto_inc_start=int(option.this.name), by_name={})

        table = await self._alter_table(where, name, change)
        if isinstance(option, exp.AutoIncrementProperty):
            database = self._catalog.schema.database(where)
            await self._catalog.rebase_ids(database.id, table, table.auto_inc_start - 1)

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
            await self.rename(where, name, *self._name(action.this, where))
        elif isinstance(action, exp.RenameColumn):
            await self._rename_column(where, name, action.this.name, action.args["to"].name)
        elif isinstance(action, exp.ModifyColumn):
            old = action.args.get("rename_from")
            await self._modify_column(where, name, action.this, old.name if old is not None else action.this.name)
        elif isinstance(action, exp.AlterColumn) and ("default" in action.args or action.args.get("drop")):
            await self._alter_default(where, name, action)
        elif isinstance(action, exp.RenameIndex):
            await self._rename_index(where, name, action.this.name, action.args["to"].name)
        else:
            raise NotSupported(f"ALTER TABLE ... {action.sql('mysql')[:40]} is not supported")

    async def _add_constraint(self, where: str, name: str, item: Node) -> None:
        draft = TableDraft()
        if not key_definition(item, draft):
            raise NotSupported("this kind of constraint is not supported")
        if any(kind == "primary" for _, _, kind in draft.keys):
            raise NotSupported("a primary key cannot be added to a table")
        for index, parts, kind in draft.keys:
            await self._add_index(where, name, index, parts, kind)
        if draft.foreign_keys:

            async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
                return with_foreign_keys(table, draft)

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
        dropped = self._catalog.schema.table(where, name).column(column_name)
        if dropped is not None and not dropped.ft.flags & PRI_KEY_FLAG:
            offset = dropped.offset
            await self._retire(where, name, lambda i: len(i.columns) == 1 and i.columns[0].offset == offset)

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

    async def rename(self, where: str, name: str, to_database: str, to_name: str) -> None:
        """RENAME TABLE."""

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

    async def _alter_default(self, where: str, name: str, action: Node) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            old = table.column(action.this.name)
            if old is None:
                raise UnknownColumn(f"Unknown column '{action.this.name}' in '{name}'")
            bare = replace(old, default=None, has_default=False, default_is_expr=False)
            new = bare if action.args.get("drop") else with_default(bare, action.args["default"])
            return replace(table, columns=tuple(new if c is old else c for c in table.columns), by_name={})

        await self._alter_table(where, name, change)

    async def _rename_index(self, where: str, name: str, old: str, new: str) -> None:
        async def change(table: TableInfo, _meta: MetaWriter) -> TableInfo:
            found = table.index(old)
            if found is None:
                raise CantDrop(f"Key '{old}' doesn't exist in table '{name}'")
            if table.index(new) not in (None, found):
                raise DuplicateKeyName(f"Duplicate key name '{new}'")
            renamed = tuple(replace(i, name=new) if i is found else i for i in table.indexes)
            return replace(table, indexes=renamed, by_name={})

        await self._alter_table(where, name, change)

    async def _modify_column(self, where: str, name: str, node: Node, old_name: str) -> None:
        if old_name.lower() != node.name.lower():
            await self._rename_column(where, name, old_name, node.name)

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
            changed = replace(table, columns=tuple(columns), by_name={})
            position = node.args.get("position")
            if position is None:
                return changed
            others = [c for c in changed.columns if c.id != new.id]
            at = 0
            if str(position.args.get("position") or "").upper() == "AFTER":
                at = next(i for i, c in enumerate(others) if c.name.lower() == position.this.name.lower()) + 1
            others.insert(at, new)
            return _renumbered(changed, others, list(changed.indexes))

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
