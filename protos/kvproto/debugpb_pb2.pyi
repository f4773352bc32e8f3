from protos.kvproto import eraftpb_pb2 as _eraftpb_pb2
from protos.kvproto import kvrpcpb_pb2 as _kvrpcpb_pb2
from protos.kvproto import raft_serverpb_pb2 as _raft_serverpb_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DB(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVALID: _ClassVar[DB]
    KV: _ClassVar[DB]
    RAFT: _ClassVar[DB]

class MODULE(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNUSED: _ClassVar[MODULE]
    KVDB: _ClassVar[MODULE]
    RAFTDB: _ClassVar[MODULE]
    READPOOL: _ClassVar[MODULE]
    SERVER: _ClassVar[MODULE]
    STORAGE: _ClassVar[MODULE]
    PD: _ClassVar[MODULE]
    METRIC: _ClassVar[MODULE]
    COPROCESSOR: _ClassVar[MODULE]
    SECURITY: _ClassVar[MODULE]
    IMPORT: _ClassVar[MODULE]

class BottommostLevelCompaction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    Skip: _ClassVar[BottommostLevelCompaction]
    Force: _ClassVar[BottommostLevelCompaction]
    IfHaveCompactionFilter: _ClassVar[BottommostLevelCompaction]
INVALID: DB
KV: DB
RAFT: DB
UNUSED: MODULE
KVDB: MODULE
RAFTDB: MODULE
READPOOL: MODULE
SERVER: MODULE
STORAGE: MODULE
PD: MODULE
METRIC: MODULE
COPROCESSOR: MODULE
SECURITY: MODULE
IMPORT: MODULE
Skip: BottommostLevelCompaction
Force: BottommostLevelCompaction
IfHaveCompactionFilter: BottommostLevelCompaction

class GetRequest(_message.Message):
    __slots__ = ("db", "cf", "key")
    DB_FIELD_NUMBER: _ClassVar[int]
    CF_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    db: DB
    cf: str
    key: bytes
    def __init__(self, db: _Optional[_Union[DB, str]] = ..., cf: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class RaftLogRequest(_message.Message):
    __slots__ = ("region_id", "log_index")
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    log_index: int
    def __init__(self, region_id: _Optional[int] = ..., log_index: _Optional[int] = ...) -> None: ...

class RaftLogResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: _eraftpb_pb2.Entry
    def __init__(self, entry: _Optional[_Union[_eraftpb_pb2.Entry, _Mapping]] = ...) -> None: ...

class RegionInfoRequest(_message.Message):
    __slots__ = ("region_id",)
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    def __init__(self, region_id: _Optional[int] = ...) -> None: ...

class RegionInfoResponse(_message.Message):
    __slots__ = ("raft_local_state", "raft_apply_state", "region_local_state")
    RAFT_LOCAL_STATE_FIELD_NUMBER: _ClassVar[int]
    RAFT_APPLY_STATE_FIELD_NUMBER: _ClassVar[int]
    REGION_LOCAL_STATE_FIELD_NUMBER: _ClassVar[int]
    raft_local_state: _raft_serverpb_pb2.RaftLocalState
    raft_apply_state: _raft_serverpb_pb2.RaftApplyState
    region_local_state: _raft_serverpb_pb2.RegionLocalState
    def __init__(self, raft_local_state: _Optional[_Union[_raft_serverpb_pb2.RaftLocalState, _Mapping]] = ..., raft_apply_state: _Optional[_Union[_raft_serverpb_pb2.RaftApplyState, _Mapping]] = ..., region_local_state: _Optional[_Union[_raft_serverpb_pb2.RegionLocalState, _Mapping]] = ...) -> None: ...

class RegionSizeRequest(_message.Message):
    __slots__ = ("region_id", "cfs")
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    CFS_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    cfs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, region_id: _Optional[int] = ..., cfs: _Optional[_Iterable[str]] = ...) -> None: ...

class RegionSizeResponse(_message.Message):
    __slots__ = ("entries",)
    class Entry(_message.Message):
        __slots__ = ("cf", "size")
        CF_FIELD_NUMBER: _ClassVar[int]
        SIZE_FIELD_NUMBER: _ClassVar[int]
        cf: str
        size: int
        def __init__(self, cf: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[RegionSizeResponse.Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[RegionSizeResponse.Entry, _Mapping]]] = ...) -> None: ...

class ScanMvccRequest(_message.Message):
    __slots__ = ("from_key", "to_key", "limit")
    FROM_KEY_FIELD_NUMBER: _ClassVar[int]
    TO_KEY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    from_key: bytes
    to_key: bytes
    limit: int
    def __init__(self, from_key: _Optional[bytes] = ..., to_key: _Optional[bytes] = ..., limit: _Optional[int] = ...) -> None: ...

class ScanMvccResponse(_message.Message):
    __slots__ = ("key", "info")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    info: _kvrpcpb_pb2.MvccInfo
    def __init__(self, key: _Optional[bytes] = ..., info: _Optional[_Union[_kvrpcpb_pb2.MvccInfo, _Mapping]] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("db", "cf", "from_key", "to_key", "threads", "bottommost_level_compaction")
    DB_FIELD_NUMBER: _ClassVar[int]
    CF_FIELD_NUMBER: _ClassVar[int]
    FROM_KEY_FIELD_NUMBER: _ClassVar[int]
    TO_KEY_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    BOTTOMMOST_LEVEL_COMPACTION_FIELD_NUMBER: _ClassVar[int]
    db: DB
    cf: str
    from_key: bytes
    to_key: bytes
    threads: int
    bottommost_level_compaction: BottommostLevelCompaction
    def __init__(self, db: _Optional[_Union[DB, str]] = ..., cf: _Optional[str] = ..., from_key: _Optional[bytes] = ..., to_key: _Optional[bytes] = ..., threads: _Optional[int] = ..., bottommost_level_compaction: _Optional[_Union[BottommostLevelCompaction, str]] = ...) -> None: ...

class CompactResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InjectFailPointRequest(_message.Message):
    __slots__ = ("name", "actions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    actions: str
    def __init__(self, name: _Optional[str] = ..., actions: _Optional[str] = ...) -> None: ...

class InjectFailPointResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecoverFailPointRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RecoverFailPointResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFailPointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFailPointsResponse(_message.Message):
    __slots__ = ("entries",)
    class Entry(_message.Message):
        __slots__ = ("name", "actions")
        NAME_FIELD_NUMBER: _ClassVar[int]
        ACTIONS_FIELD_NUMBER: _ClassVar[int]
        name: str
        actions: str
        def __init__(self, name: _Optional[str] = ..., actions: _Optional[str] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ListFailPointsResponse.Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[ListFailPointsResponse.Entry, _Mapping]]] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ("all",)
    ALL_FIELD_NUMBER: _ClassVar[int]
    all: bool
    def __init__(self, all: _Optional[bool] = ...) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("prometheus", "rocksdb_kv", "rocksdb_raft", "jemalloc", "store_id")
    PROMETHEUS_FIELD_NUMBER: _ClassVar[int]
    ROCKSDB_KV_FIELD_NUMBER: _ClassVar[int]
    ROCKSDB_RAFT_FIELD_NUMBER: _ClassVar[int]
    JEMALLOC_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    prometheus: str
    rocksdb_kv: str
    rocksdb_raft: str
    jemalloc: str
    store_id: int
    def __init__(self, prometheus: _Optional[str] = ..., rocksdb_kv: _Optional[str] = ..., rocksdb_raft: _Optional[str] = ..., jemalloc: _Optional[str] = ..., store_id: _Optional[int] = ...) -> None: ...

class RegionConsistencyCheckRequest(_message.Message):
    __slots__ = ("region_id",)
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    def __init__(self, region_id: _Optional[int] = ...) -> None: ...

class RegionConsistencyCheckResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModifyTikvConfigRequest(_message.Message):
    __slots__ = ("module", "config_name", "config_value")
    MODULE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VALUE_FIELD_NUMBER: _ClassVar[int]
    module: MODULE
    config_name: str
    config_value: str
    def __init__(self, module: _Optional[_Union[MODULE, str]] = ..., config_name: _Optional[str] = ..., config_value: _Optional[str] = ...) -> None: ...

class ModifyTikvConfigResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Property(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class GetRegionPropertiesRequest(_message.Message):
    __slots__ = ("region_id",)
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    def __init__(self, region_id: _Optional[int] = ...) -> None: ...

class GetRegionPropertiesResponse(_message.Message):
    __slots__ = ("props",)
    PROPS_FIELD_NUMBER: _ClassVar[int]
    props: _containers.RepeatedCompositeFieldContainer[Property]
    def __init__(self, props: _Optional[_Iterable[_Union[Property, _Mapping]]] = ...) -> None: ...

class GetStoreInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStoreInfoResponse(_message.Message):
    __slots__ = ("store_id", "api_version")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    API_VERSION_FIELD_NUMBER: _ClassVar[int]
    store_id: int
    api_version: _kvrpcpb_pb2.APIVersion
    def __init__(self, store_id: _Optional[int] = ..., api_version: _Optional[_Union[_kvrpcpb_pb2.APIVersion, str]] = ...) -> None: ...

class GetClusterInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetClusterInfoResponse(_message.Message):
    __slots__ = ("cluster_id",)
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    def __init__(self, cluster_id: _Optional[int] = ...) -> None: ...

class GetAllRegionsInStoreRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetAllRegionsInStoreResponse(_message.Message):
    __slots__ = ("regions",)
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    regions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, regions: _Optional[_Iterable[int]] = ...) -> None: ...

class ResetToVersionRequest(_message.Message):
    __slots__ = ("ts",)
    TS_FIELD_NUMBER: _ClassVar[int]
    ts: int
    def __init__(self, ts: _Optional[int] = ...) -> None: ...

class ResetToVersionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRangePropertiesRequest(_message.Message):
    __slots__ = ("start_key", "end_key")
    START_KEY_FIELD_NUMBER: _ClassVar[int]
    END_KEY_FIELD_NUMBER: _ClassVar[int]
    start_key: bytes
    end_key: bytes
    def __init__(self, start_key: _Optional[bytes] = ..., end_key: _Optional[bytes] = ...) -> None: ...

class GetRangePropertiesResponse(_message.Message):
    __slots__ = ("properties",)
    class RangeProperty(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    properties: _containers.RepeatedCompositeFieldContainer[GetRangePropertiesResponse.RangeProperty]
    def __init__(self, properties: _Optional[_Iterable[_Union[GetRangePropertiesResponse.RangeProperty, _Mapping]]] = ...) -> None: ...

class FlashbackToVersionRequest(_message.Message):
    __slots__ = ("context", "version", "region_id", "start_key", "end_key", "start_ts", "commit_ts")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    START_KEY_FIELD_NUMBER: _ClassVar[int]
    END_KEY_FIELD_NUMBER: _ClassVar[int]
    START_TS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TS_FIELD_NUMBER: _ClassVar[int]
    context: _kvrpcpb_pb2.Context
    version: int
    region_id: int
    start_key: bytes
    end_key: bytes
    start_ts: int
    commit_ts: int
    def __init__(self, context: _Optional[_Union[_kvrpcpb_pb2.Context, _Mapping]] = ..., version: _Optional[int] = ..., region_id: _Optional[int] = ..., start_key: _Optional[bytes] = ..., end_key: _Optional[bytes] = ..., start_ts: _Optional[int] = ..., commit_ts: _Optional[int] = ...) -> None: ...

class FlashbackToVersionResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: str
    def __init__(self, error: _Optional[str] = ...) -> None: ...

class GetRegionReadProgressRequest(_message.Message):
    __slots__ = ("region_id", "log_locks", "min_start_ts")
    REGION_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_LOCKS_FIELD_NUMBER: _ClassVar[int]
    MIN_START_TS_FIELD_NUMBER: _ClassVar[int]
    region_id: int
    log_locks: bool
    min_start_ts: int
    def __init__(self, region_id: _Optional[int] = ..., log_locks: _Optional[bool] = ..., min_start_ts: _Optional[int] = ...) -> None: ...

class GetRegionReadProgressResponse(_message.Message):
    __slots__ = ("safe_ts", "applied_index", "pending_front_applied_index", "pending_front_ts", "pending_back_applied_index", "pending_back_ts", "region_read_progress_paused", "duration_to_last_update_safe_ts_ms", "duration_to_last_consume_leader_ms", "region_read_progress_exist", "read_state_ts", "read_state_apply_index", "discard", "resolved_ts", "resolver_tracked_index", "resolver_exist", "resolver_stopped", "num_locks", "num_transactions", "error")
    SAFE_TS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    PENDING_FRONT_APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    PENDING_FRONT_TS_FIELD_NUMBER: _ClassVar[int]
    PENDING_BACK_APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    PENDING_BACK_TS_FIELD_NUMBER: _ClassVar[int]
    REGION_READ_PROGRESS_PAUSED_FIELD_NUMBER: _ClassVar[int]
    DURATION_TO_LAST_UPDATE_SAFE_TS_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_TO_LAST_CONSUME_LEADER_MS_FIELD_NUMBER: _ClassVar[int]
    REGION_READ_PROGRESS_EXIST_FIELD_NUMBER: _ClassVar[int]
    READ_STATE_TS_FIELD_NUMBER: _ClassVar[int]
    READ_STATE_APPLY_INDEX_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_TS_FIELD_NUMBER: _ClassVar[int]
    RESOLVER_TRACKED_INDEX_FIELD_NUMBER: _ClassVar[int]
    RESOLVER_EXIST_FIELD_NUMBER: _ClassVar[int]
    RESOLVER_STOPPED_FIELD_NUMBER: _ClassVar[int]
    NUM_LOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    safe_ts: int
    applied_index: int
    pending_front_applied_index: int
    pending_front_ts: int
    pending_back_applied_index: int
    pending_back_ts: int
    region_read_progress_paused: bool
    duration_to_last_update_safe_ts_ms: int
    duration_to_last_consume_leader_ms: int
    region_read_progress_exist: bool
    read_state_ts: int
    read_state_apply_index: int
    discard: bool
    resolved_ts: int
    resolver_tracked_index: int
    resolver_exist: bool
    resolver_stopped: bool
    num_locks: int
    num_transactions: int
    error: str
    def __init__(self, safe_ts: _Optional[int] = ..., applied_index: _Optional[int] = ..., pending_front_applied_index: _Optional[int] = ..., pending_front_ts: _Optional[int] = ..., pending_back_applied_index: _Optional[int] = ..., pending_back_ts: _Optional[int] = ..., region_read_progress_paused: _Optional[bool] = ..., duration_to_last_update_safe_ts_ms: _Optional[int] = ..., duration_to_last_consume_leader_ms: _Optional[int] = ..., region_read_progress_exist: _Optional[bool] = ..., read_state_ts: _Optional[int] = ..., read_state_apply_index: _Optional[int] = ..., discard: _Optional[bool] = ..., resolved_ts: _Optional[int] = ..., resolver_tracked_index: _Optional[int] = ..., resolver_exist: _Optional[bool] = ..., resolver_stopped: _Optional[bool] = ..., num_locks: _Optional[int] = ..., num_transactions: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...
