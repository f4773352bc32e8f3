from protos.tipb import schema_pb2 as _schema_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnalyzeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TypeIndex: _ClassVar[AnalyzeType]
    TypeColumn: _ClassVar[AnalyzeType]
    TypeCommonHandle: _ClassVar[AnalyzeType]
    TypeSampleIndex: _ClassVar[AnalyzeType]
    TypeMixed: _ClassVar[AnalyzeType]
    TypeFullSampling: _ClassVar[AnalyzeType]
TypeIndex: AnalyzeType
TypeColumn: AnalyzeType
TypeCommonHandle: AnalyzeType
TypeSampleIndex: AnalyzeType
TypeMixed: AnalyzeType
TypeFullSampling: AnalyzeType

class AnalyzeReq(_message.Message):
    __slots__ = ("tp", "start_ts_fallback", "flags", "time_zone_offset", "idx_req", "col_req")
    TP_FIELD_NUMBER: _ClassVar[int]
    START_TS_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    IDX_REQ_FIELD_NUMBER: _ClassVar[int]
    COL_REQ_FIELD_NUMBER: _ClassVar[int]
    tp: AnalyzeType
    start_ts_fallback: int
    flags: int
    time_zone_offset: int
    idx_req: AnalyzeIndexReq
    col_req: AnalyzeColumnsReq
    def __init__(self, tp: _Optional[_Union[AnalyzeType, str]] = ..., start_ts_fallback: _Optional[int] = ..., flags: _Optional[int] = ..., time_zone_offset: _Optional[int] = ..., idx_req: _Optional[_Union[AnalyzeIndexReq, _Mapping]] = ..., col_req: _Optional[_Union[AnalyzeColumnsReq, _Mapping]] = ...) -> None: ...

class AnalyzeIndexReq(_message.Message):
    __slots__ = ("bucket_size", "num_columns", "cmsketch_depth", "cmsketch_width", "sample_size", "sketch_size", "top_n_size", "version")
    BUCKET_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CMSKETCH_DEPTH_FIELD_NUMBER: _ClassVar[int]
    CMSKETCH_WIDTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SKETCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    TOP_N_SIZE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    bucket_size: int
    num_columns: int
    cmsketch_depth: int
    cmsketch_width: int
    sample_size: int
    sketch_size: int
    top_n_size: int
    version: int
    def __init__(self, bucket_size: _Optional[int] = ..., num_columns: _Optional[int] = ..., cmsketch_depth: _Optional[int] = ..., cmsketch_width: _Optional[int] = ..., sample_size: _Optional[int] = ..., sketch_size: _Optional[int] = ..., top_n_size: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class AnalyzeColumnsReq(_message.Message):
    __slots__ = ("bucket_size", "sample_size", "sketch_size", "columns_info", "cmsketch_depth", "cmsketch_width", "primary_column_ids", "version", "primary_prefix_column_ids", "column_groups", "sample_rate", "ndv_rate")
    BUCKET_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SKETCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_INFO_FIELD_NUMBER: _ClassVar[int]
    CMSKETCH_DEPTH_FIELD_NUMBER: _ClassVar[int]
    CMSKETCH_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_COLUMN_IDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_PREFIX_COLUMN_IDS_FIELD_NUMBER: _ClassVar[int]
    COLUMN_GROUPS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    NDV_RATE_FIELD_NUMBER: _ClassVar[int]
    bucket_size: int
    sample_size: int
    sketch_size: int
    columns_info: _containers.RepeatedCompositeFieldContainer[_schema_pb2.ColumnInfo]
    cmsketch_depth: int
    cmsketch_width: int
    primary_column_ids: _containers.RepeatedScalarFieldContainer[int]
    version: int
    primary_prefix_column_ids: _containers.RepeatedScalarFieldContainer[int]
    column_groups: _containers.RepeatedCompositeFieldContainer[AnalyzeColumnGroup]
    sample_rate: float
    ndv_rate: float
    def __init__(self, bucket_size: _Optional[int] = ..., sample_size: _Optional[int] = ..., sketch_size: _Optional[int] = ..., columns_info: _Optional[_Iterable[_Union[_schema_pb2.ColumnInfo, _Mapping]]] = ..., cmsketch_depth: _Optional[int] = ..., cmsketch_width: _Optional[int] = ..., primary_column_ids: _Optional[_Iterable[int]] = ..., version: _Optional[int] = ..., primary_prefix_column_ids: _Optional[_Iterable[int]] = ..., column_groups: _Optional[_Iterable[_Union[AnalyzeColumnGroup, _Mapping]]] = ..., sample_rate: _Optional[float] = ..., ndv_rate: _Optional[float] = ...) -> None: ...

class AnalyzeMixedResp(_message.Message):
    __slots__ = ("columns_resp", "index_resp")
    COLUMNS_RESP_FIELD_NUMBER: _ClassVar[int]
    INDEX_RESP_FIELD_NUMBER: _ClassVar[int]
    columns_resp: AnalyzeColumnsResp
    index_resp: AnalyzeIndexResp
    def __init__(self, columns_resp: _Optional[_Union[AnalyzeColumnsResp, _Mapping]] = ..., index_resp: _Optional[_Union[AnalyzeIndexResp, _Mapping]] = ...) -> None: ...

class AnalyzeColumnGroup(_message.Message):
    __slots__ = ("column_offsets", "prefix_lengths")
    COLUMN_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    column_offsets: _containers.RepeatedScalarFieldContainer[int]
    prefix_lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, column_offsets: _Optional[_Iterable[int]] = ..., prefix_lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class AnalyzeColumnsResp(_message.Message):
    __slots__ = ("collectors", "pk_hist", "row_collector")
    COLLECTORS_FIELD_NUMBER: _ClassVar[int]
    PK_HIST_FIELD_NUMBER: _ClassVar[int]
    ROW_COLLECTOR_FIELD_NUMBER: _ClassVar[int]
    collectors: _containers.RepeatedCompositeFieldContainer[SampleCollector]
    pk_hist: Histogram
    row_collector: RowSampleCollector
    def __init__(self, collectors: _Optional[_Iterable[_Union[SampleCollector, _Mapping]]] = ..., pk_hist: _Optional[_Union[Histogram, _Mapping]] = ..., row_collector: _Optional[_Union[RowSampleCollector, _Mapping]] = ...) -> None: ...

class AnalyzeIndexResp(_message.Message):
    __slots__ = ("hist", "cms", "collector")
    HIST_FIELD_NUMBER: _ClassVar[int]
    CMS_FIELD_NUMBER: _ClassVar[int]
    COLLECTOR_FIELD_NUMBER: _ClassVar[int]
    hist: Histogram
    cms: CMSketch
    collector: SampleCollector
    def __init__(self, hist: _Optional[_Union[Histogram, _Mapping]] = ..., cms: _Optional[_Union[CMSketch, _Mapping]] = ..., collector: _Optional[_Union[SampleCollector, _Mapping]] = ...) -> None: ...

class Bucket(_message.Message):
    __slots__ = ("count", "lower_bound", "upper_bound", "repeats", "ndv")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LOWER_BOUND_FIELD_NUMBER: _ClassVar[int]
    UPPER_BOUND_FIELD_NUMBER: _ClassVar[int]
    REPEATS_FIELD_NUMBER: _ClassVar[int]
    NDV_FIELD_NUMBER: _ClassVar[int]
    count: int
    lower_bound: bytes
    upper_bound: bytes
    repeats: int
    ndv: int
    def __init__(self, count: _Optional[int] = ..., lower_bound: _Optional[bytes] = ..., upper_bound: _Optional[bytes] = ..., repeats: _Optional[int] = ..., ndv: _Optional[int] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("ndv", "buckets")
    NDV_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    ndv: int
    buckets: _containers.RepeatedCompositeFieldContainer[Bucket]
    def __init__(self, ndv: _Optional[int] = ..., buckets: _Optional[_Iterable[_Union[Bucket, _Mapping]]] = ...) -> None: ...

class FMSketch(_message.Message):
    __slots__ = ("mask", "hashset")
    MASK_FIELD_NUMBER: _ClassVar[int]
    HASHSET_FIELD_NUMBER: _ClassVar[int]
    mask: int
    hashset: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, mask: _Optional[int] = ..., hashset: _Optional[_Iterable[int]] = ...) -> None: ...

class SampleCollector(_message.Message):
    __slots__ = ("samples", "null_count", "count", "fm_sketch", "cm_sketch", "total_size")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NULL_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FM_SKETCH_FIELD_NUMBER: _ClassVar[int]
    CM_SKETCH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedScalarFieldContainer[bytes]
    null_count: int
    count: int
    fm_sketch: FMSketch
    cm_sketch: CMSketch
    total_size: int
    def __init__(self, samples: _Optional[_Iterable[bytes]] = ..., null_count: _Optional[int] = ..., count: _Optional[int] = ..., fm_sketch: _Optional[_Union[FMSketch, _Mapping]] = ..., cm_sketch: _Optional[_Union[CMSketch, _Mapping]] = ..., total_size: _Optional[int] = ...) -> None: ...

class RowSampleCollector(_message.Message):
    __slots__ = ("samples", "null_counts", "count", "fm_sketch", "total_size", "singleton_sketch", "sketch_sample_count")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NULL_COUNTS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FM_SKETCH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    SINGLETON_SKETCH_FIELD_NUMBER: _ClassVar[int]
    SKETCH_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[RowSample]
    null_counts: _containers.RepeatedScalarFieldContainer[int]
    count: int
    fm_sketch: _containers.RepeatedCompositeFieldContainer[FMSketch]
    total_size: _containers.RepeatedScalarFieldContainer[int]
    singleton_sketch: _containers.RepeatedCompositeFieldContainer[FMSketch]
    sketch_sample_count: int
    def __init__(self, samples: _Optional[_Iterable[_Union[RowSample, _Mapping]]] = ..., null_counts: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ..., fm_sketch: _Optional[_Iterable[_Union[FMSketch, _Mapping]]] = ..., total_size: _Optional[_Iterable[int]] = ..., singleton_sketch: _Optional[_Iterable[_Union[FMSketch, _Mapping]]] = ..., sketch_sample_count: _Optional[int] = ...) -> None: ...

class RowSample(_message.Message):
    __slots__ = ("row", "weight")
    ROW_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    row: _containers.RepeatedScalarFieldContainer[bytes]
    weight: int
    def __init__(self, row: _Optional[_Iterable[bytes]] = ..., weight: _Optional[int] = ...) -> None: ...

class CMSketchRow(_message.Message):
    __slots__ = ("counters",)
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    counters: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, counters: _Optional[_Iterable[int]] = ...) -> None: ...

class CMSketchTopN(_message.Message):
    __slots__ = ("data", "count")
    DATA_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    count: int
    def __init__(self, data: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class CMSketch(_message.Message):
    __slots__ = ("rows", "top_n", "default_value")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOP_N_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[CMSketchRow]
    top_n: _containers.RepeatedCompositeFieldContainer[CMSketchTopN]
    default_value: int
    def __init__(self, rows: _Optional[_Iterable[_Union[CMSketchRow, _Mapping]]] = ..., top_n: _Optional[_Iterable[_Union[CMSketchTopN, _Mapping]]] = ..., default_value: _Optional[int] = ...) -> None: ...
