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


def _define(name: str, number: int, state: str, doc: str) -> type[SqlError]:
    body = {"__doc__": doc, "code": f"Sql:{name}", "mysql_code": number, "sqlstate": state, "__module__": __name__}
    return type(name, (SqlError,), body)


ParseError = _define("ParseError", 1064, "42000", "The text is not SQL.")
EmptyQuery = _define("EmptyQuery", 1065, "42000", "There is no statement.")
NotSupported = _define("NotSupported", 1235, "42000", "Correct SQL that this server does not do.")
NoDatabase = _define("NoDatabase", 1046, "3D000", "No database is selected.")
UnknownDatabase = _define("UnknownDatabase", 1049, "42000", "The database does not exist.")
DatabaseExists = _define("DatabaseExists", 1007, "HY000", "The database exists already.")
DatabaseDropMissing = _define("DatabaseDropMissing", 1008, "HY000", "The database to drop does not exist.")
TableExists = _define("TableExists", 1050, "42S01", "The table exists already.")
BadTable = _define("BadTable", 1051, "42S02", "The table to drop does not exist.")
NoSuchTable = _define("NoSuchTable", 1146, "42S02", "The table does not exist.")
UnknownColumn = _define("UnknownColumn", 1054, "42S22", "The column does not exist.")
AmbiguousColumn = _define("AmbiguousColumn", 1052, "23000", "The name fits several columns.")
DuplicateColumn = _define("DuplicateColumn", 1060, "42S21", "A column name occurs twice.")
DuplicateKeyName = _define("DuplicateKeyName", 1061, "42000", "An index name occurs twice.")
KeyColumnMissing = _define("KeyColumnMissing", 1072, "42000", "An index names a column that is not there.")
MultiplePrimaryKey = _define("MultiplePrimaryKey", 1068, "42000", "A table has one primary key.")
CantDrop = _define("CantDrop", 1091, "42000", "The column or index to drop does not exist.")
DuplicateEntry = _define("DuplicateEntry", 1062, "23000", "A unique key holds the value already.")
NotNullViolation = _define("NotNullViolation", 1048, "23000", "NULL in a NOT NULL column.")
NoDefault = _define("NoDefault", 1364, "HY000", "A column without default got no value.")
DataTooLong = _define("DataTooLong", 1406, "22001", "A string is longer than its column.")
DataOutOfRange = _define("DataOutOfRange", 1264, "22003", "A number does not fit its column.")
WrongValue = _define("WrongValue", 1366, "HY000", "A text is not the number its column needs.")
WrongTime = _define("WrongTime", 1292, "22007", "A text is not the time its column needs.")
DataTruncated = _define("DataTruncated", 1265, "01000", "A value is not one of the column's.")
ColumnCount = _define("ColumnCount", 1136, "21S01", "Numbers of columns and values differ.")
OperandColumns = _define("OperandColumns", 1241, "21000", "A row where a value must be.")
SubqueryRows = _define("SubqueryRows", 1242, "21000", "A sub-query gave more than one row.")
WrongSetColumns = _define("WrongSetColumns", 1222, "21000", "SELECTs of a UNION differ in width.")
UnknownVariable = _define("UnknownVariable", 1193, "HY000", "The system variable does not exist.")
WrongVariableValue = _define("WrongVariableValue", 1231, "42000", "The variable cannot have this value.")
WrongVariableType = _define("WrongVariableType", 1232, "42000", "The variable needs a value of another type.")
ReadOnlyVariable = _define("ReadOnlyVariable", 1238, "HY000", "The variable cannot be set.")
UnknownFunction = _define("UnknownFunction", 1305, "42000", "The function does not exist.")
WrongArguments = _define("WrongArguments", 1582, "42000", "A function has the wrong number of arguments.")
GroupFunction = _define("GroupFunction", 1111, "HY000", "An aggregate where none may be.")
NotGrouped = _define("NotGrouped", 1055, "42000", "A column is neither grouped nor aggregated.")
NonUniqueTable = _define("NonUniqueTable", 1066, "42000", "Two tables have one name.")
UnknownTable = _define("UnknownTable", 1109, "42S02", "A table that the query does not name.")
UnknownCollation = _define("UnknownCollation", 1273, "HY000", "The collation does not exist.")
UnknownCharset = _define("UnknownCharset", 1115, "42000", "The character set does not exist.")
UnknownPrepared = _define("UnknownPrepared", 1243, "HY000", "The prepared statement does not exist.")
SavepointMissing = _define("SavepointMissing", 1305, "42000", "The savepoint does not exist.")
WriteConflict = _define("WriteConflict", 9007, "HY000", "Another transaction wrote the row first.")
QueryInterrupted = _define("QueryInterrupted", 1317, "70100", "The statement was stopped.")
InvalidDefault = _define("InvalidDefault", 1067, "42000", "A default that its column cannot have.")
CannotUser = _define("CannotUser", 1396, "HY000", "The account cannot be created, changed or dropped.")
FileNotAllowed = _define("FileNotAllowed", 3948, "42000", "The client does not send local files.")
AutoIncrementKey = _define("AutoIncrementKey", 1075, "42000", "AUTO_INCREMENT needs a key, and only one.")
BlobKeyLength = _define("BlobKeyLength", 1170, "42000", "A text in a key needs a length.")
Deadlock = _define("Deadlock", 1213, "40001", "Two transactions wait for each other.")
