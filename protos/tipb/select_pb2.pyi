from protos.tipb import executor_pb2 as _executor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncodeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TypeDefault: _ClassVar[EncodeType]
    TypeChunk: _ClassVar[EncodeType]
    TypeCHBlock: _ClassVar[EncodeType]

class Endian(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LittleEndian: _ClassVar[Endian]
    BigEndian: _ClassVar[Endian]
TypeDefault: EncodeType
TypeChunk: EncodeType
TypeCHBlock: EncodeType
LittleEndian: Endian
BigEndian: Endian

class Row(_message.Message):
    __slots__ = ("handle", "data")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    data: bytes
    def __init__(self, handle: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "msg")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    code: int
    msg: str
    def __init__(self, code: _Optional[int] = ..., msg: _Optional[str] = ...) -> None: ...

class IntermediateOutput(_message.Message):
    __slots__ = ("encode_type", "chunks")
    ENCODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    encode_type: EncodeType
    chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
    def __init__(self, encode_type: _Optional[_Union[EncodeType, str]] = ..., chunks: _Optional[_Iterable[_Union[Chunk, _Mapping]]] = ...) -> None: ...

class SelectResponse(_message.Message):
    __slots__ = ("error", "rows", "chunks", "warnings", "output_counts", "warning_count", "execution_summaries", "encode_type", "ndvs", "intermediate_outputs")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    WARNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    ENCODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NDVS_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATE_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    error: Error
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
    warnings: _containers.RepeatedCompositeFieldContainer[Error]
    output_counts: _containers.RepeatedScalarFieldContainer[int]
    warning_count: int
    execution_summaries: _containers.RepeatedCompositeFieldContainer[_executor_pb2.ExecutorExecutionSummary]
    encode_type: EncodeType
    ndvs: _containers.RepeatedScalarFieldContainer[int]
    intermediate_outputs: _containers.RepeatedCompositeFieldContainer[IntermediateOutput]
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[Chunk, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[Error, _Mapping]]] = ..., output_counts: _Optional[_Iterable[int]] = ..., warning_count: _Optional[int] = ..., execution_summaries: _Optional[_Iterable[_Union[_executor_pb2.ExecutorExecutionSummary, _Mapping]]] = ..., encode_type: _Optional[_Union[EncodeType, str]] = ..., ndvs: _Optional[_Iterable[int]] = ..., intermediate_outputs: _Optional[_Iterable[_Union[IntermediateOutput, _Mapping]]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("rows_data", "rows_meta")
    ROWS_DATA_FIELD_NUMBER: _ClassVar[int]
    ROWS_META_FIELD_NUMBER: _ClassVar[int]
    rows_data: bytes
    rows_meta: _containers.RepeatedCompositeFieldContainer[RowMeta]
    def __init__(self, rows_data: _Optional[bytes] = ..., rows_meta: _Optional[_Iterable[_Union[RowMeta, _Mapping]]] = ...) -> None: ...

class IntermediateOutputChannel(_message.Message):
    __slots__ = ("executor_idx", "output_offsets")
    EXECUTOR_IDX_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    executor_idx: int
    output_offsets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, executor_idx: _Optional[int] = ..., output_offsets: _Optional[_Iterable[int]] = ...) -> None: ...

class RowMeta(_message.Message):
    __slots__ = ("handle", "length")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    handle: int
    length: int
    def __init__(self, handle: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class DAGRequest(_message.Message):
    __slots__ = ("start_ts_fallback", "executors", "time_zone_offset", "flags", "output_offsets", "collect_range_counts", "max_warning_count", "encode_type", "sql_mode", "time_zone_name", "collect_execution_summaries", "max_allowed_packet", "chunk_memory_layout", "is_rpn_expr", "root_executor", "force_encode_type", "div_precision_increment", "intermediate_output_channels")
    START_TS_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    COLLECT_RANGE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    MAX_WARNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENCODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    SQL_MODE_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_NAME_FIELD_NUMBER: _ClassVar[int]
    COLLECT_EXECUTION_SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    MAX_ALLOWED_PACKET_FIELD_NUMBER: _ClassVar[int]
    CHUNK_MEMORY_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    IS_RPN_EXPR_FIELD_NUMBER: _ClassVar[int]
    ROOT_EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    FORCE_ENCODE_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIV_PRECISION_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATE_OUTPUT_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    start_ts_fallback: int
    executors: _containers.RepeatedCompositeFieldContainer[_executor_pb2.Executor]
    time_zone_offset: int
    flags: int
    output_offsets: _containers.RepeatedScalarFieldContainer[int]
    collect_range_counts: bool
    max_warning_count: int
    encode_type: EncodeType
    sql_mode: int
    time_zone_name: str
    collect_execution_summaries: bool
    max_allowed_packet: int
    chunk_memory_layout: ChunkMemoryLayout
    is_rpn_expr: bool
    root_executor: _executor_pb2.Executor
    force_encode_type: bool
    div_precision_increment: int
    intermediate_output_channels: _containers.RepeatedCompositeFieldContainer[IntermediateOutputChannel]
    def __init__(self, start_ts_fallback: _Optional[int] = ..., executors: _Optional[_Iterable[_Union[_executor_pb2.Executor, _Mapping]]] = ..., time_zone_offset: _Optional[int] = ..., flags: _Optional[int] = ..., output_offsets: _Optional[_Iterable[int]] = ..., collect_range_counts: _Optional[bool] = ..., max_warning_count: _Optional[int] = ..., encode_type: _Optional[_Union[EncodeType, str]] = ..., sql_mode: _Optional[int] = ..., time_zone_name: _Optional[str] = ..., collect_execution_summaries: _Optional[bool] = ..., max_allowed_packet: _Optional[int] = ..., chunk_memory_layout: _Optional[_Union[ChunkMemoryLayout, _Mapping]] = ..., is_rpn_expr: _Optional[bool] = ..., root_executor: _Optional[_Union[_executor_pb2.Executor, _Mapping]] = ..., force_encode_type: _Optional[bool] = ..., div_precision_increment: _Optional[int] = ..., intermediate_output_channels: _Optional[_Iterable[_Union[IntermediateOutputChannel, _Mapping]]] = ...) -> None: ...

class ChunkMemoryLayout(_message.Message):
    __slots__ = ("endian",)
    ENDIAN_FIELD_NUMBER: _ClassVar[int]
    endian: Endian
    def __init__(self, endian: _Optional[_Union[Endian, str]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("error", "data", "warnings", "output_counts", "warning_count", "ndvs")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    WARNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    NDVS_FIELD_NUMBER: _ClassVar[int]
    error: Error
    data: bytes
    warnings: _containers.RepeatedCompositeFieldContainer[Error]
    output_counts: _containers.RepeatedScalarFieldContainer[int]
    warning_count: int
    ndvs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ..., data: _Optional[bytes] = ..., warnings: _Optional[_Iterable[_Union[Error, _Mapping]]] = ..., output_counts: _Optional[_Iterable[int]] = ..., warning_count: _Optional[int] = ..., ndvs: _Optional[_Iterable[int]] = ...) -> None: ...
