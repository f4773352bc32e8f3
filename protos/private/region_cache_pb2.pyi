from protos.kvproto import metapb_pb2 as _metapb_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Record(_message.Message):
    __slots__ = ("region", "size_bytes", "keys")
    REGION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    region: _metapb_pb2.Region
    size_bytes: int
    keys: int
    def __init__(self, region: _Optional[_Union[_metapb_pb2.Region, _Mapping]] = ..., size_bytes: _Optional[int] = ..., keys: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("regions", "gone")
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    regions: _containers.RepeatedCompositeFieldContainer[Record]
    gone: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, regions: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., gone: _Optional[_Iterable[int]] = ...) -> None: ...
