from protos.kvproto import eraftpb_pb2 as _eraftpb_pb2
from protos.private import metastore_pb2 as _metastore_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerBatch(_message.Message):
    __slots__ = ("group_id", "from_member", "to_member", "messages", "part")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_MEMBER_FIELD_NUMBER: _ClassVar[int]
    TO_MEMBER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    group_id: int
    from_member: int
    to_member: int
    messages: _containers.RepeatedCompositeFieldContainer[_eraftpb_pb2.Message]
    part: SnapshotPart
    def __init__(self, group_id: _Optional[int] = ..., from_member: _Optional[int] = ..., to_member: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[_eraftpb_pb2.Message, _Mapping]]] = ..., part: _Optional[_Union[SnapshotPart, _Mapping]] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("message", "total_bytes", "data")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    message: _eraftpb_pb2.Message
    total_bytes: int
    data: bytes
    def __init__(self, message: _Optional[_Union[_eraftpb_pb2.Message, _Mapping]] = ..., total_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PeerDone(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProposeRequest(_message.Message):
    __slots__ = ("group_id", "command", "member_change")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    MEMBER_CHANGE_FIELD_NUMBER: _ClassVar[int]
    group_id: int
    command: _metastore_pb2.Command
    member_change: MemberChange
    def __init__(self, group_id: _Optional[int] = ..., command: _Optional[_Union[_metastore_pb2.Command, _Mapping]] = ..., member_change: _Optional[_Union[MemberChange, _Mapping]] = ...) -> None: ...

class ProposeResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _metastore_pb2.Result
    def __init__(self, result: _Optional[_Union[_metastore_pb2.Result, _Mapping]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("group_id",)
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: int
    def __init__(self, group_id: _Optional[int] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("group_id", "member_id", "members")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    group_id: int
    member_id: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, group_id: _Optional[int] = ..., member_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("id", "name", "peer_urls", "client_urls", "is_learner")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_URLS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_URLS_FIELD_NUMBER: _ClassVar[int]
    IS_LEARNER_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    peer_urls: _containers.RepeatedScalarFieldContainer[str]
    client_urls: _containers.RepeatedScalarFieldContainer[str]
    is_learner: bool
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., peer_urls: _Optional[_Iterable[str]] = ..., client_urls: _Optional[_Iterable[str]] = ..., is_learner: _Optional[bool] = ...) -> None: ...

class MemberChange(_message.Message):
    __slots__ = ("kind", "member")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UPDATE: _ClassVar[MemberChange.Kind]
        ADD_LEARNER: _ClassVar[MemberChange.Kind]
        PROMOTE: _ClassVar[MemberChange.Kind]
        REMOVE: _ClassVar[MemberChange.Kind]
    UPDATE: MemberChange.Kind
    ADD_LEARNER: MemberChange.Kind
    PROMOTE: MemberChange.Kind
    REMOVE: MemberChange.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    kind: MemberChange.Kind
    member: Member
    def __init__(self, kind: _Optional[_Union[MemberChange.Kind, str]] = ..., member: _Optional[_Union[Member, _Mapping]] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("command", "member_change")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    MEMBER_CHANGE_FIELD_NUMBER: _ClassVar[int]
    command: _metastore_pb2.Command
    member_change: MemberChange
    def __init__(self, command: _Optional[_Union[_metastore_pb2.Command, _Mapping]] = ..., member_change: _Optional[_Union[MemberChange, _Mapping]] = ...) -> None: ...

class LogRecord(_message.Message):
    __slots__ = ("snapshot", "entries", "hard_state")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    HARD_STATE_FIELD_NUMBER: _ClassVar[int]
    snapshot: _eraftpb_pb2.Snapshot
    entries: _containers.RepeatedCompositeFieldContainer[_eraftpb_pb2.Entry]
    hard_state: _eraftpb_pb2.HardState
    def __init__(self, snapshot: _Optional[_Union[_eraftpb_pb2.Snapshot, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[_eraftpb_pb2.Entry, _Mapping]]] = ..., hard_state: _Optional[_Union[_eraftpb_pb2.HardState, _Mapping]] = ...) -> None: ...

class StateImage(_message.Message):
    __slots__ = ("kv", "members")
    KV_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    kv: bytes
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, kv: _Optional[bytes] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("group_id", "member_id", "members")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    group_id: int
    member_id: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, group_id: _Optional[int] = ..., member_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...
