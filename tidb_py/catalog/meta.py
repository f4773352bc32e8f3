"""The meta key space: ids, databases, tables, schema version, inside a transaction.

Layout as TiDB's: hash `DBs` of `DB:<id>`, hash `DB:<id>` of `Table:<id>` and the auto-id counters `TID:<table id>`, and the
strings `NextGlobalID`, `SchemaVersionKey`. Every change bumps the schema version in the same transaction.
"""

from __future__ import annotations

from core_py.codec import tablecodec
from tidb_py.catalog.model import (
    DatabaseInfo,
    TableInfo,
    database_from_json,
    database_to_json,
    table_from_json,
    table_to_json,
)
from tidb_py.session.storage import Reader, Transaction

_NEXT_ID = tablecodec.meta_string_key(b"NextGlobalID")
VERSION_KEY = tablecodec.meta_string_key(b"SchemaVersionKey")
BOOTSTRAP_KEY = tablecodec.meta_string_key(b"BootstrapKey")


def _db_key(database_id: int) -> bytes:
    return b"DB:%d" % database_id


def auto_id_key(database_id: int, table_id: int) -> bytes:
    """The counter of a table's row ids and AUTO_INCREMENT values."""
    return tablecodec.meta_hash_key(_db_key(database_id), b"TID:%d" % table_id)


async def schema_version(reader: Reader) -> int:
    """The version of the schema."""
    raw = await reader.get(VERSION_KEY)
    return int(raw) if raw else 0


async def load(reader: Reader) -> list[tuple[DatabaseInfo, list[TableInfo]]]:
    """All databases with their tables."""
    out = []
    prefix = tablecodec.meta_hash_prefix(b"DBs")
    databases = [database_from_json(v) async for _, v in reader.scan(prefix, tablecodec.prefix_next(prefix))]
    for database in databases:
        inner = tablecodec.meta_hash_prefix(_db_key(database.id))
        tables = []
        async for key, value in reader.scan(inner, tablecodec.prefix_next(inner)):
            if tablecodec.decode_meta_hash_field(key).startswith(b"Table:"):
                tables.append(table_from_json(value))
        out.append((database, tables))
    return out


class MetaWriter:
    """Changes the schema inside one transaction."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn

    async def next_ids(self, count: int) -> list[int]:
        """Fresh ids for databases and tables."""
        raw = await self._txn.get(_NEXT_ID)
        first = (int(raw) if raw else 100) + 1
        self._txn.write({_NEXT_ID: b"%d" % (first + count - 1)})
        return list(range(first, first + count))

    async def bump(self) -> int:
        """The next schema version."""
        version = await schema_version(self._txn) + 1
        self._txn.write({VERSION_KEY: b"%d" % version})
        return version

    def put_database(self, database: DatabaseInfo) -> None:
        """Create or change a database."""
        key = tablecodec.meta_hash_key(b"DBs", _db_key(database.id))
        self._txn.write({key: database_to_json(database)})

    def drop_database(self, database: DatabaseInfo) -> None:
        """Remove a database; its tables are removed by the caller."""
        self._txn.write({tablecodec.meta_hash_key(b"DBs", _db_key(database.id)): None})

    def put_table(self, database_id: int, table: TableInfo) -> None:
        """Create or change a table."""
        key = tablecodec.meta_hash_key(_db_key(database_id), b"Table:%d" % table.id)
        self._txn.write({key: table_to_json(table)})

    def drop_table(self, database_id: int, table_id: int) -> None:
        """Remove a table and its counter."""
        key = tablecodec.meta_hash_key(_db_key(database_id), b"Table:%d" % table_id)
        self._txn.write({key: None, auto_id_key(database_id, table_id): None})
