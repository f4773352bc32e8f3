from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[LogLevel]
    Debug: _ClassVar[LogLevel]
    Info: _ClassVar[LogLevel]
    Warn: _ClassVar[LogLevel]
    Trace: _ClassVar[LogLevel]
    Critical: _ClassVar[LogLevel]
    Error: _ClassVar[LogLevel]

class ServerInfoType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    All: _ClassVar[ServerInfoType]
    HardwareInfo: _ClassVar[ServerInfoType]
    SystemInfo: _ClassVar[ServerInfoType]
    LoadInfo: _ClassVar[ServerInfoType]
UNKNOWN: LogLevel
Debug: LogLevel
Info: LogLevel
Warn: LogLevel
Trace: LogLevel
Critical: LogLevel
Error: LogLevel
All: ServerInfoType
HardwareInfo: ServerInfoType
SystemInfo: ServerInfoType
LoadInfo: ServerInfoType

class SearchLogRequest(_message.Message):
    __slots__ = ("start_time", "end_time", "levels", "patterns", "target")
    class Target(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        Normal: _ClassVar[SearchLogRequest.Target]
        Slow: _ClassVar[SearchLogRequest.Target]
    Normal: SearchLogRequest.Target
    Slow: SearchLogRequest.Target
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    start_time: int
    end_time: int
    levels: _containers.RepeatedScalarFieldContainer[LogLevel]
    patterns: _containers.RepeatedScalarFieldContainer[str]
    target: SearchLogRequest.Target
    def __init__(self, start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., levels: _Optional[_Iterable[_Union[LogLevel, str]]] = ..., patterns: _Optional[_Iterable[str]] = ..., target: _Optional[_Union[SearchLogRequest.Target, str]] = ...) -> None: ...

class SearchLogResponse(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[LogMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[LogMessage, _Mapping]]] = ...) -> None: ...

class LogMessage(_message.Message):
    __slots__ = ("time", "level", "message")
    TIME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time: int
    level: LogLevel
    message: str
    def __init__(self, time: _Optional[int] = ..., level: _Optional[_Union[LogLevel, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ServerInfoRequest(_message.Message):
    __slots__ = ("tp",)
    TP_FIELD_NUMBER: _ClassVar[int]
    tp: ServerInfoType
    def __init__(self, tp: _Optional[_Union[ServerInfoType, str]] = ...) -> None: ...

class ServerInfoPair(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ServerInfoItem(_message.Message):
    __slots__ = ("tp", "name", "pairs")
    TP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    tp: str
    name: str
    pairs: _containers.RepeatedCompositeFieldContainer[ServerInfoPair]
    def __init__(self, tp: _Optional[str] = ..., name: _Optional[str] = ..., pairs: _Optional[_Iterable[_Union[ServerInfoPair, _Mapping]]] = ...) -> None: ...

class ServerInfoResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ServerInfoItem]
    def __init__(self, items: _Optional[_Iterable[_Union[ServerInfoItem, _Mapping]]] = ...) -> None: ...
