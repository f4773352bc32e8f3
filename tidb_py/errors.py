"""SQL errors with the MySQL number, SQLSTATE and wording that clients and their drivers look for.

Each class is one MySQL error. Messages are MySQL's own, with the names in quotes, because drivers and ORMs match on them.
"""

from __future__ import annotations

from core_py.errors import DbError


class SqlError(DbError):
    """Base of what SQL can do wrong; nothing is written by a statement that fails."""

    code = "Sql:Unknown"
    mysql_code = 1105
    sqlstate = "HY000"


class ParseError(SqlError):
    """The text is not SQL."""

    code = "Sql:ParseError"
    mysql_code = 1064
    sqlstate = "42000"


class EmptyQuery(SqlError):
    """There is no statement."""

    code = "Sql:EmptyQuery"
    mysql_code = 1065
    sqlstate = "42000"


class NotSupported(SqlError):
    """Correct SQL that this server does not do."""

    code = "Sql:NotSupported"
    mysql_code = 1235
    sqlstate = "42000"


class NoDatabase(SqlError):
    """No database is selected."""

    code = "Sql:NoDatabase"
    mysql_code = 1046
    sqlstate = "3D000"


class UnknownDatabase(SqlError):
    """The database does not exist."""

    code = "Sql:UnknownDatabase"
    mysql_code = 1049
    sqlstate = "42000"


class DatabaseExists(SqlError):
    """The database exists already."""

    code = "Sql:DatabaseExists"
    mysql_code = 1007
    sqlstate = "HY000"


class DatabaseDropMissing(SqlError):
    """The database to drop does not exist."""

    code = "Sql:DatabaseDropMissing"
    mysql_code = 1008
    sqlstate = "HY000"


class TableExists(SqlError):
    """The table exists already."""

    code = "Sql:TableExists"
    mysql_code = 1050
    sqlstate = "42S01"


class BadTable(SqlError):
    """The table to drop does not exist."""

    code = "Sql:BadTable"
    mysql_code = 1051
    sqlstate = "42S02"


class NoSuchTable(SqlError):
    """The table does not exist."""

    code = "Sql:NoSuchTable"
    mysql_code = 1146
    sqlstate = "42S02"


class UnknownColumn(SqlError):
    """The column does not exist."""

    code = "Sql:UnknownColumn"
    mysql_code = 1054
    sqlstate = "42S22"


class AmbiguousColumn(SqlError):
    """The name fits several columns."""

    code = "Sql:AmbiguousColumn"
    mysql_code = 1052
    sqlstate = "23000"


class DuplicateColumn(SqlError):
    """A column name occurs twice."""

    code = "Sql:DuplicateColumn"
    mysql_code = 1060
    sqlstate = "42S21"


class DuplicateKeyName(SqlError):
    """An index name occurs twice."""

    code = "Sql:DuplicateKeyName"
    mysql_code = 1061
    sqlstate = "42000"


class KeyColumnMissing(SqlError):
    """An index names a column that is not there."""

    code = "Sql:KeyColumnMissing"
    mysql_code = 1072
    sqlstate = "42000"


class MultiplePrimaryKey(SqlError):
    """A table has one primary key."""

    code = "Sql:MultiplePrimaryKey"
    mysql_code = 1068
    sqlstate = "42000"


class CantDrop(SqlError):
    """The column or index to drop does not exist."""

    code = "Sql:CantDrop"
    mysql_code = 1091
    sqlstate = "42000"


class DuplicateEntry(SqlError):
    """A unique key holds the value already."""

    code = "Sql:DuplicateEntry"
    mysql_code = 1062
    sqlstate = "23000"


class NotNullViolation(SqlError):
    """NULL in a NOT NULL column."""

    code = "Sql:NotNullViolation"
    mysql_code = 1048
    sqlstate = "23000"


class NoDefault(SqlError):
    """A column without default got no value."""

    code = "Sql:NoDefault"
    mysql_code = 1364
    sqlstate = "HY000"


class DataTooLong(SqlError):
    """A string is longer than its column."""

    code = "Sql:DataTooLong"
    mysql_code = 1406
    sqlstate = "22001"


class DataOutOfRange(SqlError):
    """A number does not fit its column."""

    code = "Sql:DataOutOfRange"
    mysql_code = 1264
    sqlstate = "22003"


class WrongValue(SqlError):
    """A text is not the number its column needs."""

    code = "Sql:WrongValue"
    mysql_code = 1366
    sqlstate = "HY000"


class WrongTime(SqlError):
    """A text is not the time its column needs."""

    code = "Sql:WrongTime"
    mysql_code = 1292
    sqlstate = "22007"


class DataTruncated(SqlError):
    """A value is not one of the column's."""

    code = "Sql:DataTruncated"
    mysql_code = 1265
    sqlstate = "01000"


class ColumnCount(SqlError):
    """Numbers of columns and values differ."""

    code = "Sql:ColumnCount"
    mysql_code = 1136
    sqlstate = "21S01"


class OperandColumns(SqlError):
    """A row where a value must be."""

    code = "Sql:OperandColumns"
    mysql_code = 1241
    sqlstate = "21000"


class SubqueryRows(SqlError):
    """A sub-query gave more than one row."""

    code = "Sql:SubqueryRows"
    mysql_code = 1242
    sqlstate = "21000"


class WrongSetColumns(SqlError):
    """SELECTs of a UNION differ in width."""

    code = "Sql:WrongSetColumns"
    mysql_code = 1222
    sqlstate = "21000"


class UnknownVariable(SqlError):
    """The system variable does not exist."""

    code = "Sql:UnknownVariable"
    mysql_code = 1193
    sqlstate = "HY000"


class WrongVariableValue(SqlError):
    """The variable cannot have this value."""

    code = "Sql:WrongVariableValue"
    mysql_code = 1231
    sqlstate = "42000"


class WrongVariableType(SqlError):
    """The variable needs a value of another type."""

    code = "Sql:WrongVariableType"
    mysql_code = 1232
    sqlstate = "42000"


class ReadOnlyVariable(SqlError):
    """The variable cannot be set."""

    code = "Sql:ReadOnlyVariable"
    mysql_code = 1238
    sqlstate = "HY000"


class UnknownFunction(SqlError):
    """The function does not exist."""

    code = "Sql:UnknownFunction"
    mysql_code = 1305
    sqlstate = "42000"


class WrongArguments(SqlError):
    """A function has the wrong number of arguments."""

    code = "Sql:WrongArguments"
    mysql_code = 1582
    sqlstate = "42000"


class GroupFunction(SqlError):
    """An aggregate where none may be."""

    code = "Sql:GroupFunction"
    mysql_code = 1111
    sqlstate = "HY000"


class NotGrouped(SqlError):
    """A column is neither grouped nor aggregated."""

    code = "Sql:NotGrouped"
    mysql_code = 1055
    sqlstate = "42000"


class NonUniqueTable(SqlError):
    """Two tables have one name."""

    code = "Sql:NonUniqueTable"
    mysql_code = 1066
    sqlstate = "42000"


class UnknownTable(SqlError):
    """A table that the query does not name."""

    code = "Sql:UnknownTable"
    mysql_code = 1109
    sqlstate = "42S02"


class UnknownCollation(SqlError):
    """The collation does not exist."""

    code = "Sql:UnknownCollation"
    mysql_code = 1273
    sqlstate = "HY000"


class UnknownCharset(SqlError):
    """The character set does not exist."""

    code = "Sql:UnknownCharset"
    mysql_code = 1115
    sqlstate = "42000"


class UnknownPrepared(SqlError):
    """The prepared statement does not exist."""

    code = "Sql:UnknownPrepared"
    mysql_code = 1243
    sqlstate = "HY000"


class SavepointMissing(SqlError):
    """The savepoint does not exist."""

    code = "Sql:SavepointMissing"
    mysql_code = 1305
    sqlstate = "42000"


class WriteConflict(SqlError):
    """Another transaction wrote the row first."""

    code = "Sql:WriteConflict"
    mysql_code = 9007
    sqlstate = "HY000"


class QueryInterrupted(SqlError):
    """The statement was stopped."""

    code = "Sql:QueryInterrupted"
    mysql_code = 1317
    sqlstate = "70100"


class InvalidDefault(SqlError):
    """A default that its column cannot have."""

    code = "Sql:InvalidDefault"
    mysql_code = 1067
    sqlstate = "42000"


class CannotUser(SqlError):
    """The account cannot be created, changed or dropped."""

    code = "Sql:CannotUser"
    mysql_code = 1396
    sqlstate = "HY000"


class FileNotAllowed(SqlError):
    """The client does not send local files."""

    code = "Sql:FileNotAllowed"
    mysql_code = 3948
    sqlstate = "42000"


class AutoIncrementKey(SqlError):
    """AUTO_INCREMENT needs a key, and only one."""

    code = "Sql:AutoIncrementKey"
    mysql_code = 1075
    sqlstate = "42000"


class BlobKeyLength(SqlError):
    """A text in a key needs a length."""

    code = "Sql:BlobKeyLength"
    mysql_code = 1170
    sqlstate = "42000"


class SchemaChanged(SqlError):
    """A table that the transaction wrote was changed meanwhile; run the transaction again."""

    code = "Sql:SchemaChanged"
    mysql_code = 8028
    sqlstate = "HY000"


class Deadlock(SqlError):
    """Two transactions wait for each other."""

    code = "Sql:Deadlock"
    mysql_code = 1213
    sqlstate = "40001"
