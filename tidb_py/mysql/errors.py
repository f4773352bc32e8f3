"""What goes wrong on the wire, and the SQLSTATE that belongs to a MySQL error number.

`ProtocolError` means the peer broke the protocol: the connection is closed after one ERR packet, the server lives.
"""

from __future__ import annotations

from typing import Final

from core_py.errors import DbError


class ProtocolError(DbError):
    """The peer sent bytes that no client of the protocol sends."""

    code = "Tidb:Protocol:Malformed"
    mysql_code = 1835
    sqlstate = "HY000"


class PacketTooLarge(ProtocolError):
    """A packet is larger than max_allowed_packet; it was refused before memory was taken for it."""

    code = "Tidb:Protocol:PacketTooLarge"
    mysql_code = 1153
    sqlstate = "08S01"


class PacketsOutOfOrder(ProtocolError):
    """A sequence number is not the one that must come next."""

    code = "Tidb:Protocol:OutOfOrder"
    mysql_code = 1156
    sqlstate = "08S01"


SQLSTATES: Final[dict[int, str]] = {
    1022: "23000", 1040: "08004", 1042: "08S01", 1043: "08S01", 1044: "42000", 1045: "28000", 1046: "3D000",
    1047: "08S01", 1048: "23000", 1049: "42000", 1050: "42S01", 1051: "42S02", 1052: "23000", 1053: "08S01",
    1054: "42S22", 1055: "42000", 1056: "42000", 1060: "42S21", 1061: "42000", 1062: "23000", 1064: "42000",
    1065: "42000", 1066: "42000", 1068: "42000", 1072: "42000", 1075: "42000", 1091: "42000", 1101: "42000",
    1109: "42S02", 1110: "42000", 1111: "HY000", 1136: "21S01", 1146: "42S02", 1149: "42000", 1153: "08S01",
    1156: "08S01", 1171: "42000", 1203: "42000", 1205: "HY000", 1213: "40001", 1222: "21000", 1231: "42000",
    1235: "42000", 1241: "21000", 1242: "21000", 1248: "42000", 1264: "22003", 1265: "01000", 1292: "22007",
    1305: "42000", 1317: "70100", 1364: "HY000", 1365: "22012", 1366: "HY000", 1367: "22007", 1396: "HY000",
    1406: "22001", 1451: "23000", 1452: "23000", 1582: "42000", 1690: "22003",
}  # fmt: skip


def sqlstate_of(mysql_code: int) -> str:
    """The SQLSTATE of an error number; `HY000` where MySQL has no special one."""
    return SQLSTATES.get(mysql_code, "HY000")
