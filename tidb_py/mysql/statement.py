"""Parameters of COM_STMT_EXECUTE: NULL bitmap, types, values; types may be sent once and left out afterwards.

A decoded parameter is a Python value: None, int, float, bytes, or for date and time types the text MySQL would print
(so that the SQL layer has one way to read times). `StatementParams` belongs to one prepared statement and remembers the
types bound last and the long data sent since the last execution, of which it keeps no more than `max_long_data` bytes.
"""

from __future__ import annotations

from tidb_py.mysql.constants import ColumnType
from tidb_py.mysql.errors import PacketTooLarge, ProtocolError
from tidb_py.mysql.wire import Reader

ParamValue = int | float | bytes | str | None

_INT_SIZES = {
    ColumnType.TINY: 1,
    ColumnType.SHORT: 2,
    ColumnType.YEAR: 2,
    ColumnType.LONG: 4,
    ColumnType.INT24: 4,
    ColumnType.LONGLONG: 8,
}
_TEXT = {ColumnType.DATE, ColumnType.DATETIME, ColumnType.TIMESTAMP, ColumnType.TIME}


class StatementParams:
    """What must be kept between executions to read the parameters of the next one."""

    __slots__ = ("_long_data", "_long_size", "_types", "count", "max_long_data")

    def __init__(self, count: int, max_long_data: int = 64 << 20) -> None:
        self.count = count
        self.max_long_data = max_long_data  # of all parameters of one execution together
        self._long_size = 0
        self._types: list[tuple[int, bool]] = []
        self._long_data: dict[int, bytearray] = {}

    def append_long_data(self, parameter: int, data: bytes) -> None:
        """Take a piece sent by COM_STMT_SEND_LONG_DATA."""
        if parameter >= self.count:
            raise ProtocolError(f"long data for parameter {parameter} of {self.count}")
        self._long_size += len(data)
        if self._long_size > self.max_long_data:
            raise PacketTooLarge(
                "Parameter of prepared statement which is set through mysql_send_long_data() is too long"
            )
        self._long_data.setdefault(parameter, bytearray()).extend(data)

    def reset(self) -> None:
        """Forget long data."""
        self._long_data.clear()
        self._long_size = 0

    def decode(self, body: bytes) -> list[ParamValue]:
        """Read the parameters of one execution; long data is used up by it."""
        if not self.count:
            return []
        reader = Reader(body)
        nulls = reader.take((self.count + 7) // 8)
        if reader.uint(1):
            types = []
            for _ in range(self.count):
                number = reader.uint(1)
                types.append((number, bool(reader.uint(1) & 0x80)))
            self._types = types
        elif len(self._types) != self.count:
            raise ProtocolError("parameters are executed before their types were bound")
        values: list[ParamValue] = []
        for i, (number, unsigned) in enumerate(self._types):
            if i in self._long_data:
                values.append(bytes(self._long_data[i]))
            elif nulls[i >> 3] >> (i & 7) & 1:
                values.append(None)
            else:
                values.append(_read_value(reader, number, unsigned=unsigned))
        self.reset()
        return values


def _read_value(reader: Reader, number: int, *, unsigned: bool) -> ParamValue:
    size = _INT_SIZES.get(number)  # type: ignore[call-overload]
    if size is not None:
        return reader.uint(size) if unsigned else reader.sint(size)
    if number == ColumnType.DOUBLE:
        return reader.float64()
    if number == ColumnType.FLOAT:
        return reader.float32()
    if number == ColumnType.NULL:
        return None
    if number == ColumnType.TIME:
        return _read_time(reader)
    if number in _TEXT:
        return _read_datetime(reader)
    if number in (ColumnType.NEWDECIMAL, ColumnType.DECIMAL):
        return reader.text(reader.lenenc_bytes())
    if number >= ColumnType.JSON or number in (ColumnType.VARCHAR, ColumnType.BIT):
        return reader.lenenc_bytes()
    raise ProtocolError(f"parameter type {number} is unknown")


def _read_datetime(reader: Reader) -> str:
    size = reader.uint(1)
    if size == 0:
        return "0000-00-00 00:00:00"
    if size not in (4, 7, 11):
        raise ProtocolError(f"a datetime parameter of {size} bytes")
    text = f"{reader.uint(2):04d}-{reader.uint(1):02d}-{reader.uint(1):02d}"
    if size >= 7:
        text += f" {reader.uint(1):02d}:{reader.uint(1):02d}:{reader.uint(1):02d}"
    if size == 11:
        text += f".{reader.uint(4):06d}"
    return text


def _read_time(reader: Reader) -> str:
    size = reader.uint(1)
    if size == 0:
        return "00:00:00"
    if size not in (8, 12):
        raise ProtocolError(f"a time parameter of {size} bytes")
    sign = "-" if reader.uint(1) else ""
    days = reader.uint(4)
    text = f"{sign}{days * 24 + reader.uint(1):02d}:{reader.uint(1):02d}:{reader.uint(1):02d}"
    if size == 12:
        text += f".{reader.uint(4):06d}"
    return text
