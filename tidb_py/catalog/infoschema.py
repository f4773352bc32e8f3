"""The schema as one immutable snapshot, looked up by name; cached by version, reloaded when the version moved.

Invariant: an `InfoSchema` never changes; a statement uses one from beginning to end. `Catalog` holds the newest one this
server has seen, and the auto-id ranges it has reserved.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidb_py.catalog import meta
from tidb_py.catalog.model import DatabaseInfo, TableInfo
from tidb_py.errors import NoSuchTable, UnknownDatabase, WriteConflict
from tidb_py.session.storage import MAX_TS, Reader, Storage

AUTO_ID_STEP = 30_000  # ids reserved at a time; what a crashed server had reserved stays unused
SYSTEM_DATABASES = ("information_schema", "performance_schema", "mysql")


class InfoSchema:
    """All databases and tables at one version."""

    def __init__(self, version: int, content: Iterable[tuple[DatabaseInfo, list[TableInfo]]]) -> None:
        self.version = version
        self.databases: dict[str, DatabaseInfo] = {}
        self._tables: dict[str, dict[str, TableInfo]] = {}
        for database, tables in content:
            self.databases[database.name.lower()] = database
            self._tables[database.name.lower()] = {t.name.lower(): t for t in tables}
        self._by_id = {t.id: t for tables in self._tables.values() for t in tables.values()}

    def database(self, name: str) -> DatabaseInfo:
        """A database by name."""
        found = self.databases.get(name.lower())
        if found is None:
            raise UnknownDatabase(f"Unknown database '{name}'")
        return found

    def find(self, database: str, table: str) -> TableInfo | None:
        """A table by name, or None."""
        return self._tables.get(database.lower(), {}).get(table.lower())

    def table(self, database: str, table: str) -> TableInfo:
        """A table by name."""
        found = self.find(database, table)
        if found is None:
            raise NoSuchTable(f"Table '{database}.{table}' doesn't exist")
        return found

    def by_id(self, table_id: int) -> TableInfo | None:
        """A table by id, or None."""
        return self._by_id.get(table_id)

    def tables(self, database: str) -> list[TableInfo]:
        """The tables of a database, by name."""
        return [t for _, t in sorted(self._tables.get(database.lower(), {}).items())]


class Catalog:
    """The newest schema this server knows."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.schema = InfoSchema(-1, [])
        self._auto_ids: dict[int, tuple[int, int]] = {}  # table id: next, end (exclusive)

    async def reload(self, reader: Reader | None = None) -> InfoSchema:
        """Read the schema again if its version moved."""
        newest = reader or self._storage.snapshot(MAX_TS)
        version = await meta.schema_version(newest)
        if version != self.schema.version:
            snapshot = self._storage.snapshot(await self._storage.timestamp())
            loaded = InfoSchema(await meta.schema_version(snapshot), await meta.load(snapshot))
            if loaded.version > self.schema.version:  # another reload may have been faster, and later
                self.schema = loaded
        return self.schema

    async def take_ids(self, database_id: int, table: TableInfo, count: int) -> int:
        """Reserve `count` row ids (or AUTO_INCREMENT values); the first of them."""
        start, end = self._auto_ids.get(table.id, (0, 0))
        if start + count > end:
            start, end = await self._reserve(database_id, table, max(count, AUTO_ID_STEP), 0)
        self._auto_ids[table.id] = (start + count, end)
        return start

    async def rebase_ids(self, database_id: int, table: TableInfo, used: int) -> None:
        """An explicit value was written; later ones must be larger."""
        start, end = self._auto_ids.get(table.id, (0, 0))
        if used < start:
            return
        if used < end:
            self._auto_ids[table.id] = (used + 1, end)
        else:
            self._auto_ids[table.id] = await self._reserve(database_id, table, AUTO_ID_STEP, used)

    async def _reserve(self, database_id: int, table: TableInfo, count: int, at_least: int) -> tuple[int, int]:
        key = meta.auto_id_key(database_id, table.id)
        while True:
            txn = await self._storage.begin(pessimistic=True)
            try:
                await txn.refresh_for_update_ts()
                await txn.lock([key])
                raw = await self._storage.snapshot(txn.for_update_ts).get(key)
                last = max(int(raw) if raw else 0, at_least, table.auto_inc_start - 1)
                txn.write({key: b"%d" % (last + count)})
                await txn.commit()
            except WriteConflict:
                await txn.rollback()  # another server reserved between the timestamp and the lock
                continue
            except BaseException:
                await txn.rollback()
                raise
            return last + 1, last + count + 1

    def forget_ids(self, table_id: int) -> None:
        """A table is gone or was emptied."""
        self._auto_ids.pop(table_id, None)
