from protos.tipb import expression_pb2 as _expression_pb2
from protos.tipb import schema_pb2 as _schema_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TypeTableScan: _ClassVar[ExecType]
    TypeIndexScan: _ClassVar[ExecType]
    TypeSelection: _ClassVar[ExecType]
    TypeAggregation: _ClassVar[ExecType]
    TypeTopN: _ClassVar[ExecType]
    TypeLimit: _ClassVar[ExecType]
    TypeStreamAgg: _ClassVar[ExecType]
    TypeJoin: _ClassVar[ExecType]
    TypeKill: _ClassVar[ExecType]
    TypeExchangeSender: _ClassVar[ExecType]
    TypeExchangeReceiver: _ClassVar[ExecType]
    TypeProjection: _ClassVar[ExecType]
    TypePartitionTableScan: _ClassVar[ExecType]
    TypeSort: _ClassVar[ExecType]
    TypeWindow: _ClassVar[ExecType]
    TypeExpand: _ClassVar[ExecType]
    TypeExpand2: _ClassVar[ExecType]
    TypeBroadcastQuery: _ClassVar[ExecType]
    TypeCTESink: _ClassVar[ExecType]
    TypeCTESource: _ClassVar[ExecType]
    TypeIndexLookUp: _ClassVar[ExecType]
    TypeExplainForConnection: _ClassVar[ExecType]

class EngineType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    Local: _ClassVar[EngineType]
    TiKV: _ClassVar[EngineType]
    TiFlash: _ClassVar[EngineType]

class RuntimeFilterType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IN: _ClassVar[RuntimeFilterType]
    MIN_MAX: _ClassVar[RuntimeFilterType]
    BLOOM_FILTER: _ClassVar[RuntimeFilterType]

class RuntimeFilterMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCAL: _ClassVar[RuntimeFilterMode]
    GLOBAL: _ClassVar[RuntimeFilterMode]

class TiFlashPreAggMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ForcePreAgg: _ClassVar[TiFlashPreAggMode]
    Auto: _ClassVar[TiFlashPreAggMode]
    ForceStreaming: _ClassVar[TiFlashPreAggMode]
TypeTableScan: ExecType
TypeIndexScan: ExecType
TypeSelection: ExecType
TypeAggregation: ExecType
TypeTopN: ExecType
TypeLimit: ExecType
TypeStreamAgg: ExecType
TypeJoin: ExecType
TypeKill: ExecType
TypeExchangeSender: ExecType
TypeExchangeReceiver: ExecType
TypeProjection: ExecType
TypePartitionTableScan: ExecType
TypeSort: ExecType
TypeWindow: ExecType
TypeExpand: ExecType
TypeExpand2: ExecType
TypeBroadcastQuery: ExecType
TypeCTESink: ExecType
TypeCTESource: ExecType
TypeIndexLookUp: ExecType
TypeExplainForConnection: ExecType
Local: EngineType
TiKV: EngineType
TiFlash: EngineType
IN: RuntimeFilterType
MIN_MAX: RuntimeFilterType
BLOOM_FILTER: RuntimeFilterType
LOCAL: RuntimeFilterMode
GLOBAL: RuntimeFilterMode
ForcePreAgg: TiFlashPreAggMode
Auto: TiFlashPreAggMode
ForceStreaming: TiFlashPreAggMode

class Executor(_message.Message):
    __slots__ = ("tp", "tbl_scan", "idx_scan", "selection", "aggregation", "topN", "limit", "executor_id", "Projection", "sort", "fine_grained_shuffle_stream_count", "fine_grained_shuffle_batch_size", "index_lookup", "parent_idx", "explain_for_connection")
    TP_FIELD_NUMBER: _ClassVar[int]
    TBL_SCAN_FIELD_NUMBER: _ClassVar[int]
    IDX_SCAN_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    TOPN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    SORT_FIELD_NUMBER: _ClassVar[int]
    FINE_GRAINED_SHUFFLE_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINE_GRAINED_SHUFFLE_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    INDEX_LOOKUP_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDX_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FOR_CONNECTION_FIELD_NUMBER: _ClassVar[int]
    tp: ExecType
    tbl_scan: TableScan
    idx_scan: IndexScan
    selection: Selection
    aggregation: Aggregation
    topN: TopN
    limit: Limit
    executor_id: str
    Projection: Projection
    sort: Sort
    fine_grained_shuffle_stream_count: int
    fine_grained_shuffle_batch_size: int
    index_lookup: IndexLookUp
    parent_idx: int
    explain_for_connection: ExplainForConnection
    def __init__(self, tp: _Optional[_Union[ExecType, str]] = ..., tbl_scan: _Optional[_Union[TableScan, _Mapping]] = ..., idx_scan: _Optional[_Union[IndexScan, _Mapping]] = ..., selection: _Optional[_Union[Selection, _Mapping]] = ..., aggregation: _Optional[_Union[Aggregation, _Mapping]] = ..., topN: _Optional[_Union[TopN, _Mapping]] = ..., limit: _Optional[_Union[Limit, _Mapping]] = ..., executor_id: _Optional[str] = ..., Projection: _Optional[_Union[Projection, _Mapping]] = ..., sort: _Optional[_Union[Sort, _Mapping]] = ..., fine_grained_shuffle_stream_count: _Optional[int] = ..., fine_grained_shuffle_batch_size: _Optional[int] = ..., index_lookup: _Optional[_Union[IndexLookUp, _Mapping]] = ..., parent_idx: _Optional[int] = ..., explain_for_connection: _Optional[_Union[ExplainForConnection, _Mapping]] = ...) -> None: ...

class IndexLookUp(_message.Message):
    __slots__ = ("index_handle_offsets", "keep_order", "children")
    INDEX_HANDLE_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ORDER_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    index_handle_offsets: _containers.RepeatedScalarFieldContainer[int]
    keep_order: bool
    children: _containers.RepeatedCompositeFieldContainer[Executor]
    def __init__(self, index_handle_offsets: _Optional[_Iterable[int]] = ..., keep_order: _Optional[bool] = ..., children: _Optional[_Iterable[_Union[Executor, _Mapping]]] = ...) -> None: ...

class TableScan(_message.Message):
    __slots__ = ("table_id", "columns", "desc", "primary_column_ids", "next_read_engine", "ranges", "primary_prefix_column_ids", "keep_order", "is_fast_scan", "pushed_down_filter_conditions", "runtime_filter_list", "max_wait_time_ms")
    TABLE_ID_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DESC_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_COLUMN_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_READ_ENGINE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_PREFIX_COLUMN_IDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ORDER_FIELD_NUMBER: _ClassVar[int]
    IS_FAST_SCAN_FIELD_NUMBER: _ClassVar[int]
    PUSHED_DOWN_FILTER_CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FILTER_LIST_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    table_id: int
    columns: _containers.RepeatedCompositeFieldContainer[_schema_pb2.ColumnInfo]
    desc: bool
    primary_column_ids: _containers.RepeatedScalarFieldContainer[int]
    next_read_engine: EngineType
    ranges: _containers.RepeatedCompositeFieldContainer[_schema_pb2.KeyRange]
    primary_prefix_column_ids: _containers.RepeatedScalarFieldContainer[int]
    keep_order: bool
    is_fast_scan: bool
    pushed_down_filter_conditions: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    runtime_filter_list: _containers.RepeatedCompositeFieldContainer[RuntimeFilter]
    max_wait_time_ms: int
    def __init__(self, table_id: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[_schema_pb2.ColumnInfo, _Mapping]]] = ..., desc: _Optional[bool] = ..., primary_column_ids: _Optional[_Iterable[int]] = ..., next_read_engine: _Optional[_Union[EngineType, str]] = ..., ranges: _Optional[_Iterable[_Union[_schema_pb2.KeyRange, _Mapping]]] = ..., primary_prefix_column_ids: _Optional[_Iterable[int]] = ..., keep_order: _Optional[bool] = ..., is_fast_scan: _Optional[bool] = ..., pushed_down_filter_conditions: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., runtime_filter_list: _Optional[_Iterable[_Union[RuntimeFilter, _Mapping]]] = ..., max_wait_time_ms: _Optional[int] = ...) -> None: ...

class RuntimeFilter(_message.Message):
    __slots__ = ("id", "source_expr_list", "target_expr_list", "source_executor_id", "target_executor_id", "rf_type", "rf_mode")
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_EXPR_LIST_FIELD_NUMBER: _ClassVar[int]
    TARGET_EXPR_LIST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_EXECUTOR_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_EXECUTOR_ID_FIELD_NUMBER: _ClassVar[int]
    RF_TYPE_FIELD_NUMBER: _ClassVar[int]
    RF_MODE_FIELD_NUMBER: _ClassVar[int]
    id: int
    source_expr_list: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    target_expr_list: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    source_executor_id: str
    target_executor_id: str
    rf_type: RuntimeFilterType
    rf_mode: RuntimeFilterMode
    def __init__(self, id: _Optional[int] = ..., source_expr_list: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., target_expr_list: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., source_executor_id: _Optional[str] = ..., target_executor_id: _Optional[str] = ..., rf_type: _Optional[_Union[RuntimeFilterType, str]] = ..., rf_mode: _Optional[_Union[RuntimeFilterMode, str]] = ...) -> None: ...

class IndexScan(_message.Message):
    __slots__ = ("table_id", "index_id", "columns", "desc", "unique", "primary_column_ids")
    TABLE_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_ID_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DESC_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_COLUMN_IDS_FIELD_NUMBER: _ClassVar[int]
    table_id: int
    index_id: int
    columns: _containers.RepeatedCompositeFieldContainer[_schema_pb2.ColumnInfo]
    desc: bool
    unique: bool
    primary_column_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, table_id: _Optional[int] = ..., index_id: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[_schema_pb2.ColumnInfo, _Mapping]]] = ..., desc: _Optional[bool] = ..., unique: _Optional[bool] = ..., primary_column_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Selection(_message.Message):
    __slots__ = ("conditions", "rpn_conditions", "child")
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    RPN_CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    conditions: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    rpn_conditions: _containers.RepeatedCompositeFieldContainer[_expression_pb2.RpnExpr]
    child: Executor
    def __init__(self, conditions: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., rpn_conditions: _Optional[_Iterable[_Union[_expression_pb2.RpnExpr, _Mapping]]] = ..., child: _Optional[_Union[Executor, _Mapping]] = ...) -> None: ...

class Projection(_message.Message):
    __slots__ = ("exprs", "rpn_exprs", "child")
    EXPRS_FIELD_NUMBER: _ClassVar[int]
    RPN_EXPRS_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    exprs: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    rpn_exprs: _containers.RepeatedCompositeFieldContainer[_expression_pb2.RpnExpr]
    child: Executor
    def __init__(self, exprs: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., rpn_exprs: _Optional[_Iterable[_Union[_expression_pb2.RpnExpr, _Mapping]]] = ..., child: _Optional[_Union[Executor, _Mapping]] = ...) -> None: ...

class Aggregation(_message.Message):
    __slots__ = ("group_by", "rpn_group_by", "agg_func", "rpn_agg_func", "streamed", "child", "pre_agg_mode")
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    RPN_GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    AGG_FUNC_FIELD_NUMBER: _ClassVar[int]
    RPN_AGG_FUNC_FIELD_NUMBER: _ClassVar[int]
    STREAMED_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    PRE_AGG_MODE_FIELD_NUMBER: _ClassVar[int]
    group_by: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    rpn_group_by: _containers.RepeatedCompositeFieldContainer[_expression_pb2.RpnExpr]
    agg_func: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    rpn_agg_func: _containers.RepeatedCompositeFieldContainer[_expression_pb2.RpnExpr]
    streamed: bool
    child: Executor
    pre_agg_mode: TiFlashPreAggMode
    def __init__(self, group_by: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., rpn_group_by: _Optional[_Iterable[_Union[_expression_pb2.RpnExpr, _Mapping]]] = ..., agg_func: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ..., rpn_agg_func: _Optional[_Iterable[_Union[_expression_pb2.RpnExpr, _Mapping]]] = ..., streamed: _Optional[bool] = ..., child: _Optional[_Union[Executor, _Mapping]] = ..., pre_agg_mode: _Optional[_Union[TiFlashPreAggMode, str]] = ...) -> None: ...

class TopN(_message.Message):
    __slots__ = ("order_by", "limit", "child", "partition_by")
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    order_by: _containers.RepeatedCompositeFieldContainer[_expression_pb2.ByItem]
    limit: int
    child: Executor
    partition_by: _containers.RepeatedCompositeFieldContainer[_expression_pb2.ByItem]
    def __init__(self, order_by: _Optional[_Iterable[_Union[_expression_pb2.ByItem, _Mapping]]] = ..., limit: _Optional[int] = ..., child: _Optional[_Union[Executor, _Mapping]] = ..., partition_by: _Optional[_Iterable[_Union[_expression_pb2.ByItem, _Mapping]]] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("limit", "child", "partition_by", "truncate_key_expr")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    PARTITION_BY_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_KEY_EXPR_FIELD_NUMBER: _ClassVar[int]
    limit: int
    child: Executor
    partition_by: _containers.RepeatedCompositeFieldContainer[_expression_pb2.ByItem]
    truncate_key_expr: _containers.RepeatedCompositeFieldContainer[_expression_pb2.Expr]
    def __init__(self, limit: _Optional[int] = ..., child: _Optional[_Union[Executor, _Mapping]] = ..., partition_by: _Optional[_Iterable[_Union[_expression_pb2.ByItem, _Mapping]]] = ..., truncate_key_expr: _Optional[_Iterable[_Union[_expression_pb2.Expr, _Mapping]]] = ...) -> None: ...

class ExplainForConnection(_message.Message):
    __slots__ = ("connection_id",)
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    connection_id: int
    def __init__(self, connection_id: _Optional[int] = ...) -> None: ...

class ExecutorExecutionSummary(_message.Message):
    __slots__ = ("time_processed_ns", "num_produced_rows", "num_iterations", "executor_id", "concurrency", "tiflash_scan_context", "columnar_scan_context", "ru_consumption", "tiflash_wait_summary", "tiflash_network_summary")
    TIME_PROCESSED_NS_FIELD_NUMBER: _ClassVar[int]
    NUM_PRODUCED_ROWS_FIELD_NUMBER: _ClassVar[int]
    NUM_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_ID_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    TIFLASH_SCAN_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    COLUMNAR_SCAN_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RU_CONSUMPTION_FIELD_NUMBER: _ClassVar[int]
    TIFLASH_WAIT_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    TIFLASH_NETWORK_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    time_processed_ns: int
    num_produced_rows: int
    num_iterations: int
    executor_id: str
    concurrency: int
    tiflash_scan_context: TiFlashScanContext
    columnar_scan_context: ColumnarScanContext
    ru_consumption: bytes
    tiflash_wait_summary: TiFlashWaitSummary
    tiflash_network_summary: TiFlashNetWorkSummary
    def __init__(self, time_processed_ns: _Optional[int] = ..., num_produced_rows: _Optional[int] = ..., num_iterations: _Optional[int] = ..., executor_id: _Optional[str] = ..., concurrency: _Optional[int] = ..., tiflash_scan_context: _Optional[_Union[TiFlashScanContext, _Mapping]] = ..., columnar_scan_context: _Optional[_Union[ColumnarScanContext, _Mapping]] = ..., ru_consumption: _Optional[bytes] = ..., tiflash_wait_summary: _Optional[_Union[TiFlashWaitSummary, _Mapping]] = ..., tiflash_network_summary: _Optional[_Union[TiFlashNetWorkSummary, _Mapping]] = ...) -> None: ...

class TiFlashRegionNumOfInstance(_message.Message):
    __slots__ = ("instance_id", "region_num")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_NUM_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    region_num: int
    def __init__(self, instance_id: _Optional[str] = ..., region_num: _Optional[int] = ...) -> None: ...

class TiFlashScanContext(_message.Message):
    __slots__ = ("dmfile_scanned_packs", "dmfile_skipped_packs", "dmfile_data_scanned_rows", "dmfile_data_skipped_rows", "total_dmfile_rs_load_ms", "total_dmfile_read_ms", "total_build_snapshot_ms", "local_regions", "remote_regions", "user_read_bytes", "total_learner_read_ms", "disagg_read_cache_hit_bytes", "disagg_read_cache_miss_bytes", "total_dmfile_rs_check_ms", "stale_read_regions", "segments", "read_tasks", "delta_rows", "delta_bytes", "mvcc_input_rows", "mvcc_input_bytes", "mvcc_output_rows", "lm_skip_rows", "total_build_inputstream_ms", "total_build_bitmap_ms", "min_local_stream_ms", "max_local_stream_ms", "min_remote_stream_ms", "max_remote_stream_ms", "regions_of_instance", "dmfile_mvcc_scanned_rows", "dmfile_mvcc_skipped_rows", "dmfile_lm_filter_scanned_rows", "dmfile_lm_filter_skipped_rows", "vector_idx_load_from_s3", "vector_idx_load_from_disk", "vector_idx_load_from_cache", "vector_idx_load_time_ms", "vector_idx_search_time_ms", "vector_idx_search_visited_nodes", "vector_idx_search_discarded_nodes", "vector_idx_read_vec_time_ms", "vector_idx_read_others_time_ms", "inverted_idx_load_from_s3", "inverted_idx_load_from_disk", "inverted_idx_load_from_cache", "inverted_idx_load_time_ms", "inverted_idx_search_time_ms", "inverted_idx_search_skipped_packs", "inverted_idx_indexed_rows", "inverted_idx_search_selected_rows", "fts_n_from_inmemory_noindex", "fts_n_from_tiny_index", "fts_n_from_tiny_noindex", "fts_n_from_dmf_index", "fts_n_from_dmf_noindex", "fts_rows_from_inmemory_noindex", "fts_rows_from_tiny_index", "fts_rows_from_tiny_noindex", "fts_rows_from_dmf_index", "fts_rows_from_dmf_noindex", "fts_idx_load_total_ms", "fts_idx_load_from_cache", "fts_idx_load_from_column_file", "fts_idx_load_from_stable_s3", "fts_idx_load_from_stable_disk", "fts_idx_search_n", "fts_idx_search_total_ms", "fts_idx_dm_search_rows", "fts_idx_dm_total_read_fts_ms", "fts_idx_dm_total_read_others_ms", "fts_idx_tiny_search_rows", "fts_idx_tiny_total_read_fts_ms", "fts_idx_tiny_total_read_others_ms", "fts_brute_total_read_ms", "fts_brute_total_search_ms", "tici_vec_query_count", "tici_vec_search_total_ms", "tici_vec_filter_total_ms", "tici_vec_candidate_count", "tici_vec_result_count", "tici_vec_shard_count")
    DMFILE_SCANNED_PACKS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_SKIPPED_PACKS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_DATA_SCANNED_ROWS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_DATA_SKIPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DMFILE_RS_LOAD_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DMFILE_READ_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BUILD_SNAPSHOT_MS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_REGIONS_FIELD_NUMBER: _ClassVar[int]
    REMOTE_REGIONS_FIELD_NUMBER: _ClassVar[int]
    USER_READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LEARNER_READ_MS_FIELD_NUMBER: _ClassVar[int]
    DISAGG_READ_CACHE_HIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISAGG_READ_CACHE_MISS_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DMFILE_RS_CHECK_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_READ_REGIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    READ_TASKS_FIELD_NUMBER: _ClassVar[int]
    DELTA_ROWS_FIELD_NUMBER: _ClassVar[int]
    DELTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    MVCC_INPUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    MVCC_INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MVCC_OUTPUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    LM_SKIP_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BUILD_INPUTSTREAM_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BUILD_BITMAP_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_LOCAL_STREAM_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOCAL_STREAM_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_REMOTE_STREAM_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REMOTE_STREAM_MS_FIELD_NUMBER: _ClassVar[int]
    REGIONS_OF_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    DMFILE_MVCC_SCANNED_ROWS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_MVCC_SKIPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_LM_FILTER_SCANNED_ROWS_FIELD_NUMBER: _ClassVar[int]
    DMFILE_LM_FILTER_SKIPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_LOAD_FROM_S3_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_LOAD_FROM_DISK_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_LOAD_FROM_CACHE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_LOAD_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_SEARCH_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_SEARCH_VISITED_NODES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_SEARCH_DISCARDED_NODES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_READ_VEC_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_IDX_READ_OTHERS_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_LOAD_FROM_S3_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_LOAD_FROM_DISK_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_LOAD_FROM_CACHE_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_LOAD_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_SEARCH_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_SEARCH_SKIPPED_PACKS_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_INDEXED_ROWS_FIELD_NUMBER: _ClassVar[int]
    INVERTED_IDX_SEARCH_SELECTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    FTS_N_FROM_INMEMORY_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_N_FROM_TINY_INDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_N_FROM_TINY_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_N_FROM_DMF_INDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_N_FROM_DMF_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_ROWS_FROM_INMEMORY_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_ROWS_FROM_TINY_INDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_ROWS_FROM_TINY_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_ROWS_FROM_DMF_INDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_ROWS_FROM_DMF_NOINDEX_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_LOAD_TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_LOAD_FROM_CACHE_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_LOAD_FROM_COLUMN_FILE_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_LOAD_FROM_STABLE_S3_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_LOAD_FROM_STABLE_DISK_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_SEARCH_N_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_SEARCH_TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_DM_SEARCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_DM_TOTAL_READ_FTS_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_DM_TOTAL_READ_OTHERS_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_TINY_SEARCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_TINY_TOTAL_READ_FTS_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_IDX_TINY_TOTAL_READ_OTHERS_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_BRUTE_TOTAL_READ_MS_FIELD_NUMBER: _ClassVar[int]
    FTS_BRUTE_TOTAL_SEARCH_MS_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_QUERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_SEARCH_TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_FILTER_TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_RESULT_COUNT_FIELD_NUMBER: _ClassVar[int]
    TICI_VEC_SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    dmfile_scanned_packs: int
    dmfile_skipped_packs: int
    dmfile_data_scanned_rows: int
    dmfile_data_skipped_rows: int
    total_dmfile_rs_load_ms: int
    total_dmfile_read_ms: int
    total_build_snapshot_ms: int
    local_regions: int
    remote_regions: int
    user_read_bytes: int
    total_learner_read_ms: int
    disagg_read_cache_hit_bytes: int
    disagg_read_cache_miss_bytes: int
    total_dmfile_rs_check_ms: int
    stale_read_regions: int
    segments: int
    read_tasks: int
    delta_rows: int
    delta_bytes: int
    mvcc_input_rows: int
    mvcc_input_bytes: int
    mvcc_output_rows: int
    lm_skip_rows: int
    total_build_inputstream_ms: int
    total_build_bitmap_ms: int
    min_local_stream_ms: int
    max_local_stream_ms: int
    min_remote_stream_ms: int
    max_remote_stream_ms: int
    regions_of_instance: _containers.RepeatedCompositeFieldContainer[TiFlashRegionNumOfInstance]
    dmfile_mvcc_scanned_rows: int
    dmfile_mvcc_skipped_rows: int
    dmfile_lm_filter_scanned_rows: int
    dmfile_lm_filter_skipped_rows: int
    vector_idx_load_from_s3: int
    vector_idx_load_from_disk: int
    vector_idx_load_from_cache: int
    vector_idx_load_time_ms: int
    vector_idx_search_time_ms: int
    vector_idx_search_visited_nodes: int
    vector_idx_search_discarded_nodes: int
    vector_idx_read_vec_time_ms: int
    vector_idx_read_others_time_ms: int
    inverted_idx_load_from_s3: int
    inverted_idx_load_from_disk: int
    inverted_idx_load_from_cache: int
    inverted_idx_load_time_ms: int
    inverted_idx_search_time_ms: int
    inverted_idx_search_skipped_packs: int
    inverted_idx_indexed_rows: int
    inverted_idx_search_selected_rows: int
    fts_n_from_inmemory_noindex: int
    fts_n_from_tiny_index: int
    fts_n_from_tiny_noindex: int
    fts_n_from_dmf_index: int
    fts_n_from_dmf_noindex: int
    fts_rows_from_inmemory_noindex: int
    fts_rows_from_tiny_index: int
    fts_rows_from_tiny_noindex: int
    fts_rows_from_dmf_index: int
    fts_rows_from_dmf_noindex: int
    fts_idx_load_total_ms: int
    fts_idx_load_from_cache: int
    fts_idx_load_from_column_file: int
    fts_idx_load_from_stable_s3: int
    fts_idx_load_from_stable_disk: int
    fts_idx_search_n: int
    fts_idx_search_total_ms: int
    fts_idx_dm_search_rows: int
    fts_idx_dm_total_read_fts_ms: int
    fts_idx_dm_total_read_others_ms: int
    fts_idx_tiny_search_rows: int
    fts_idx_tiny_total_read_fts_ms: int
    fts_idx_tiny_total_read_others_ms: int
    fts_brute_total_read_ms: int
    fts_brute_total_search_ms: int
    tici_vec_query_count: int
    tici_vec_search_total_ms: int
    tici_vec_filter_total_ms: int
    tici_vec_candidate_count: int
    tici_vec_result_count: int
    tici_vec_shard_count: int
    def __init__(self, dmfile_scanned_packs: _Optional[int] = ..., dmfile_skipped_packs: _Optional[int] = ..., dmfile_data_scanned_rows: _Optional[int] = ..., dmfile_data_skipped_rows: _Optional[int] = ..., total_dmfile_rs_load_ms: _Optional[int] = ..., total_dmfile_read_ms: _Optional[int] = ..., total_build_snapshot_ms: _Optional[int] = ..., local_regions: _Optional[int] = ..., remote_regions: _Optional[int] = ..., user_read_bytes: _Optional[int] = ..., total_learner_read_ms: _Optional[int] = ..., disagg_read_cache_hit_bytes: _Optional[int] = ..., disagg_read_cache_miss_bytes: _Optional[int] = ..., total_dmfile_rs_check_ms: _Optional[int] = ..., stale_read_regions: _Optional[int] = ..., segments: _Optional[int] = ..., read_tasks: _Optional[int] = ..., delta_rows: _Optional[int] = ..., delta_bytes: _Optional[int] = ..., mvcc_input_rows: _Optional[int] = ..., mvcc_input_bytes: _Optional[int] = ..., mvcc_output_rows: _Optional[int] = ..., lm_skip_rows: _Optional[int] = ..., total_build_inputstream_ms: _Optional[int] = ..., total_build_bitmap_ms: _Optional[int] = ..., min_local_stream_ms: _Optional[int] = ..., max_local_stream_ms: _Optional[int] = ..., min_remote_stream_ms: _Optional[int] = ..., max_remote_stream_ms: _Optional[int] = ..., regions_of_instance: _Optional[_Iterable[_Union[TiFlashRegionNumOfInstance, _Mapping]]] = ..., dmfile_mvcc_scanned_rows: _Optional[int] = ..., dmfile_mvcc_skipped_rows: _Optional[int] = ..., dmfile_lm_filter_scanned_rows: _Optional[int] = ..., dmfile_lm_filter_skipped_rows: _Optional[int] = ..., vector_idx_load_from_s3: _Optional[int] = ..., vector_idx_load_from_disk: _Optional[int] = ..., vector_idx_load_from_cache: _Optional[int] = ..., vector_idx_load_time_ms: _Optional[int] = ..., vector_idx_search_time_ms: _Optional[int] = ..., vector_idx_search_visited_nodes: _Optional[int] = ..., vector_idx_search_discarded_nodes: _Optional[int] = ..., vector_idx_read_vec_time_ms: _Optional[int] = ..., vector_idx_read_others_time_ms: _Optional[int] = ..., inverted_idx_load_from_s3: _Optional[int] = ..., inverted_idx_load_from_disk: _Optional[int] = ..., inverted_idx_load_from_cache: _Optional[int] = ..., inverted_idx_load_time_ms: _Optional[int] = ..., inverted_idx_search_time_ms: _Optional[int] = ..., inverted_idx_search_skipped_packs: _Optional[int] = ..., inverted_idx_indexed_rows: _Optional[int] = ..., inverted_idx_search_selected_rows: _Optional[int] = ..., fts_n_from_inmemory_noindex: _Optional[int] = ..., fts_n_from_tiny_index: _Optional[int] = ..., fts_n_from_tiny_noindex: _Optional[int] = ..., fts_n_from_dmf_index: _Optional[int] = ..., fts_n_from_dmf_noindex: _Optional[int] = ..., fts_rows_from_inmemory_noindex: _Optional[int] = ..., fts_rows_from_tiny_index: _Optional[int] = ..., fts_rows_from_tiny_noindex: _Optional[int] = ..., fts_rows_from_dmf_index: _Optional[int] = ..., fts_rows_from_dmf_noindex: _Optional[int] = ..., fts_idx_load_total_ms: _Optional[int] = ..., fts_idx_load_from_cache: _Optional[int] = ..., fts_idx_load_from_column_file: _Optional[int] = ..., fts_idx_load_from_stable_s3: _Optional[int] = ..., fts_idx_load_from_stable_disk: _Optional[int] = ..., fts_idx_search_n: _Optional[int] = ..., fts_idx_search_total_ms: _Optional[int] = ..., fts_idx_dm_search_rows: _Optional[int] = ..., fts_idx_dm_total_read_fts_ms: _Optional[int] = ..., fts_idx_dm_total_read_others_ms: _Optional[int] = ..., fts_idx_tiny_search_rows: _Optional[int] = ..., fts_idx_tiny_total_read_fts_ms: _Optional[int] = ..., fts_idx_tiny_total_read_others_ms: _Optional[int] = ..., fts_brute_total_read_ms: _Optional[int] = ..., fts_brute_total_search_ms: _Optional[int] = ..., tici_vec_query_count: _Optional[int] = ..., tici_vec_search_total_ms: _Optional[int] = ..., tici_vec_filter_total_ms: _Optional[int] = ..., tici_vec_candidate_count: _Optional[int] = ..., tici_vec_result_count: _Optional[int] = ..., tici_vec_shard_count: _Optional[int] = ...) -> None: ...

class TiFlashWaitSummary(_message.Message):
    __slots__ = ("minTSO_wait_ns", "pipeline_queue_wait_ns", "pipeline_breaker_wait_ns")
    MINTSO_WAIT_NS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_QUEUE_WAIT_NS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_BREAKER_WAIT_NS_FIELD_NUMBER: _ClassVar[int]
    minTSO_wait_ns: int
    pipeline_queue_wait_ns: int
    pipeline_breaker_wait_ns: int
    def __init__(self, minTSO_wait_ns: _Optional[int] = ..., pipeline_queue_wait_ns: _Optional[int] = ..., pipeline_breaker_wait_ns: _Optional[int] = ...) -> None: ...

class ColumnarScanContext(_message.Message):
    __slots__ = ("regions", "read_tasks", "physical_tables", "columns", "user_read_bytes", "mvcc_input_rows", "mvcc_input_bytes", "mvcc_output_rows", "total_read_block_ms", "total_serialize_block_ms", "total_init_reader_ms", "total_prefetch_ms", "rough_check_total_packs", "rough_check_selected_packs", "rough_check_skipped_packs", "rough_check_unknown_packs", "remote_segments", "total_segments", "total_deserialize_block_ms")
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    READ_TASKS_FIELD_NUMBER: _ClassVar[int]
    PHYSICAL_TABLES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    USER_READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    MVCC_INPUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    MVCC_INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MVCC_OUTPUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_READ_BLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SERIALIZE_BLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_INIT_READER_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PREFETCH_MS_FIELD_NUMBER: _ClassVar[int]
    ROUGH_CHECK_TOTAL_PACKS_FIELD_NUMBER: _ClassVar[int]
    ROUGH_CHECK_SELECTED_PACKS_FIELD_NUMBER: _ClassVar[int]
    ROUGH_CHECK_SKIPPED_PACKS_FIELD_NUMBER: _ClassVar[int]
    ROUGH_CHECK_UNKNOWN_PACKS_FIELD_NUMBER: _ClassVar[int]
    REMOTE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DESERIALIZE_BLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    regions: int
    read_tasks: int
    physical_tables: int
    columns: int
    user_read_bytes: int
    mvcc_input_rows: int
    mvcc_input_bytes: int
    mvcc_output_rows: int
    total_read_block_ms: int
    total_serialize_block_ms: int
    total_init_reader_ms: int
    total_prefetch_ms: int
    rough_check_total_packs: int
    rough_check_selected_packs: int
    rough_check_skipped_packs: int
    rough_check_unknown_packs: int
    remote_segments: int
    total_segments: int
    total_deserialize_block_ms: int
    def __init__(self, regions: _Optional[int] = ..., read_tasks: _Optional[int] = ..., physical_tables: _Optional[int] = ..., columns: _Optional[int] = ..., user_read_bytes: _Optional[int] = ..., mvcc_input_rows: _Optional[int] = ..., mvcc_input_bytes: _Optional[int] = ..., mvcc_output_rows: _Optional[int] = ..., total_read_block_ms: _Optional[int] = ..., total_serialize_block_ms: _Optional[int] = ..., total_init_reader_ms: _Optional[int] = ..., total_prefetch_ms: _Optional[int] = ..., rough_check_total_packs: _Optional[int] = ..., rough_check_selected_packs: _Optional[int] = ..., rough_check_skipped_packs: _Optional[int] = ..., rough_check_unknown_packs: _Optional[int] = ..., remote_segments: _Optional[int] = ..., total_segments: _Optional[int] = ..., total_deserialize_block_ms: _Optional[int] = ...) -> None: ...

class TiFlashNetWorkSummary(_message.Message):
    __slots__ = ("inner_zone_send_bytes", "inner_zone_receive_bytes", "inter_zone_send_bytes", "inter_zone_receive_bytes")
    INNER_ZONE_SEND_BYTES_FIELD_NUMBER: _ClassVar[int]
    INNER_ZONE_RECEIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTER_ZONE_SEND_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTER_ZONE_RECEIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    inner_zone_send_bytes: int
    inner_zone_receive_bytes: int
    inter_zone_send_bytes: int
    inter_zone_receive_bytes: int
    def __init__(self, inner_zone_send_bytes: _Optional[int] = ..., inner_zone_receive_bytes: _Optional[int] = ..., inter_zone_send_bytes: _Optional[int] = ..., inter_zone_receive_bytes: _Optional[int] = ...) -> None: ...

class Sort(_message.Message):
    __slots__ = ("byItems", "isPartialSort", "child")
    BYITEMS_FIELD_NUMBER: _ClassVar[int]
    ISPARTIALSORT_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    byItems: _containers.RepeatedCompositeFieldContainer[_expression_pb2.ByItem]
    isPartialSort: bool
    child: Executor
    def __init__(self, byItems: _Optional[_Iterable[_Union[_expression_pb2.ByItem, _Mapping]]] = ..., isPartialSort: _Optional[bool] = ..., child: _Optional[_Union[Executor, _Mapping]] = ...) -> None: ...
