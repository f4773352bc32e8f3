"""DDL statements: each changes the schema in one transaction and bumps the schema version.

Dropped data is not deleted: table ids are never used again, and the stores' garbage collection does not know them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import expressions as exp

from tidb_py.catalog.meta import MetaWriter
from tidb_py.catalog.model import DatabaseInfo, TableInfo
from tidb_py.ddl.alter import AlterExecutor
from tidb_py.ddl.columns import (
    TableDraft,
    charset_collation,
    collation_id,
    column_info,
    finish_table,
    key_definition,
)  # fmt: skip
from tidb_py.errors import (
    BadTable,
    DatabaseDropMissing,
    DatabaseExists,
    NotSupported,
    SqlError,
    TableExists,
)  # fmt: skip

Node = Any


class DdlExecutor(AlterExecutor):
    """Runs DDL for a session."""

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
        if exp.TemporaryProperty in properties:
            raise NotSupported("temporary tables are not supported")
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
