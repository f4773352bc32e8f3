from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeadlockRequestType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    Detect: _ClassVar[DeadlockRequestType]
    CleanUpWaitFor: _ClassVar[DeadlockRequestType]
    CleanUp: _ClassVar[DeadlockRequestType]
Detect: DeadlockRequestType
CleanUpWaitFor: DeadlockRequestType
CleanUp: DeadlockRequestType

class WaitForEntriesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WaitForEntriesResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[WaitForEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[WaitForEntry, _Mapping]]] = ...) -> None: ...

class WaitForEntry(_message.Message):
    __slots__ = ("txn", "wait_for_txn", "key_hash", "key", "resource_group_tag", "wait_time")
    TXN_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_TXN_FIELD_NUMBER: _ClassVar[int]
    KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_GROUP_TAG_FIELD_NUMBER: _ClassVar[int]
    WAIT_TIME_FIELD_NUMBER: _ClassVar[int]
    txn: int
    wait_for_txn: int
    key_hash: int
    key: bytes
    resource_group_tag: bytes
    wait_time: int
    def __init__(self, txn: _Optional[int] = ..., wait_for_txn: _Optional[int] = ..., key_hash: _Optional[int] = ..., key: _Optional[bytes] = ..., resource_group_tag: _Optional[bytes] = ..., wait_time: _Optional[int] = ...) -> None: ...

class ReplaceLockByKeyItem(_message.Message):
    __slots__ = ("key_hash", "key", "old_lock_ts", "new_lock_ts")
    KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OLD_LOCK_TS_FIELD_NUMBER: _ClassVar[int]
    NEW_LOCK_TS_FIELD_NUMBER: _ClassVar[int]
    key_hash: int
    key: bytes
    old_lock_ts: int
    new_lock_ts: int
    def __init__(self, key_hash: _Optional[int] = ..., key: _Optional[bytes] = ..., old_lock_ts: _Optional[int] = ..., new_lock_ts: _Optional[int] = ...) -> None: ...

class ReplaceLocksByKeysRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ReplaceLockByKeyItem]
    def __init__(self, items: _Optional[_Iterable[_Union[ReplaceLockByKeyItem, _Mapping]]] = ...) -> None: ...

class DeadlockRequest(_message.Message):
    __slots__ = ("tp", "entry", "replace_locks_by_keys")
    TP_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    REPLACE_LOCKS_BY_KEYS_FIELD_NUMBER: _ClassVar[int]
    tp: DeadlockRequestType
    entry: WaitForEntry
    replace_locks_by_keys: ReplaceLocksByKeysRequest
    def __init__(self, tp: _Optional[_Union[DeadlockRequestType, str]] = ..., entry: _Optional[_Union[WaitForEntry, _Mapping]] = ..., replace_locks_by_keys: _Optional[_Union[ReplaceLocksByKeysRequest, _Mapping]] = ...) -> None: ...

class DeadlockResponse(_message.Message):
    __slots__ = ("entry", "deadlock_key_hash", "wait_chain", "deadlock_key")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    DEADLOCK_KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    WAIT_CHAIN_FIELD_NUMBER: _ClassVar[int]
    DEADLOCK_KEY_FIELD_NUMBER: _ClassVar[int]
    entry: WaitForEntry
    deadlock_key_hash: int
    wait_chain: _containers.RepeatedCompositeFieldContainer[WaitForEntry]
    deadlock_key: bytes
    def __init__(self, entry: _Optional[_Union[WaitForEntry, _Mapping]] = ..., deadlock_key_hash: _Optional[int] = ..., wait_chain: _Optional[_Iterable[_Union[WaitForEntry, _Mapping]]] = ..., deadlock_key: _Optional[bytes] = ...) -> None: ...
