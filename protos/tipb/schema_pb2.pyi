from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ColumnInfo(_message.Message):
    __slots__ = ("column_id", "tp", "collation", "columnLen", "decimal", "flag", "elems", "default_val", "pk_handle", "array")
    COLUMN_ID_FIELD_NUMBER: _ClassVar[int]
    TP_FIELD_NUMBER: _ClassVar[int]
    COLLATION_FIELD_NUMBER: _ClassVar[int]
    COLUMNLEN_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    ELEMS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VAL_FIELD_NUMBER: _ClassVar[int]
    PK_HANDLE_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    column_id: int
    tp: int
    collation: int
    columnLen: int
    decimal: int
    flag: int
    elems: _containers.RepeatedScalarFieldContainer[str]
    default_val: bytes
    pk_handle: bool
    array: bool
    def __init__(self, column_id: _Optional[int] = ..., tp: _Optional[int] = ..., collation: _Optional[int] = ..., columnLen: _Optional[int] = ..., decimal: _Optional[int] = ..., flag: _Optional[int] = ..., elems: _Optional[_Iterable[str]] = ..., default_val: _Optional[bytes] = ..., pk_handle: _Optional[bool] = ..., array: _Optional[bool] = ...) -> None: ...

class KeyRange(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: bytes
    high: bytes
    def __init__(self, low: _Optional[bytes] = ..., high: _Optional[bytes] = ...) -> None: ...
