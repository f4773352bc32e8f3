"""Region errors: a request reached the wrong peer, an old epoch, or a store that cannot serve it now.

Each class is one variant of errorpb.Error and converts both ways, so that stores raise them and clients catch the same types.
What a client does about each is its `retry` class; the details are in `tikv_py.client.region`.
"""

from __future__ import annotations

from typing import ClassVar

from core_py.errors import DbError, RetryClass
from protos.kvproto import errorpb_pb2, metapb_pb2


class RegionError(DbError):
    """Base; also the type for a variant this version does not know."""

    code = "KV:Raftstore:Unknown"
    retry: ClassVar[RetryClass] = RetryClass.REFRESH_REGION
    mysql_code = 9005

    def to_pb(self) -> errorpb_pb2.Error:
        """The wire form."""
        error = errorpb_pb2.Error(message=self.message)
        self._fill(error)
        return error

    def _fill(self, error: errorpb_pb2.Error) -> None:
        """Set the variant; the base has none."""


class NotLeader(RegionError):
    """The peer does not lead its region; `leader` is who it believes does."""

    code = "KV:Raftstore:NotLeader"

    def __init__(self, region_id: int, leader: metapb_pb2.Peer | None = None) -> None:
        known = f"peer {leader.id} on store {leader.store_id} is" if leader is not None else "nobody is known to be"
        super().__init__(f"peer is not leader of region {region_id}; {known}")
        self.region_id, self.leader = region_id, leader

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.not_leader.region_id = self.region_id
        if self.leader is not None:
            error.not_leader.leader.CopyFrom(self.leader)


class RegionNotFound(RegionError):
    """The store has no peer of the region."""

    code = "KV:Raftstore:RegionNotFound"

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} is not on this store")
        self.region_id = region_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.region_not_found.region_id = self.region_id


class RegionNotInitialized(RegionError):
    """The peer was created by a message and waits for its first snapshot."""

    code = "KV:Raftstore:RegionNotInitialized"
    retry = RetryClass.BACKOFF

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} waits for its first snapshot on this store")
        self.region_id = region_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.region_not_initialized.region_id = self.region_id


class KeyNotInRegion(RegionError):
    """The key lies outside the region's bounds (both in the encoding of region bounds)."""

    code = "KV:Raftstore:KeyNotInRegion"

    def __init__(self, key: bytes, region: metapb_pb2.Region) -> None:
        super().__init__(
            f"key {key.hex()} is not in region {region.id} [{region.start_key.hex()}, {region.end_key.hex() or '+inf'})"
        )
        self.key, self.region = key, region

    def _fill(self, error: errorpb_pb2.Error) -> None:
        variant = error.key_not_in_region
        variant.key, variant.region_id = self.key, self.region.id
        variant.start_key, variant.end_key = self.region.start_key, self.region.end_key


class EpochNotMatch(RegionError):
    """The region changed since the caller learned of it; `current_regions` are what stands in its place here."""

    code = "KV:Raftstore:EpochNotMatch"

    def __init__(self, message: str, current_regions: tuple[metapb_pb2.Region, ...] = ()) -> None:
        super().__init__(message)
        self.current_regions = current_regions

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.epoch_not_match.SetInParent()
        error.epoch_not_match.current_regions.extend(self.current_regions)


class ServerIsBusy(RegionError):
    """A bounded queue is full or a deadline has passed; nothing was done. The two times are hints: 0 says nothing."""

    code = "KV:Raftstore:ServerIsBusy"
    retry = RetryClass.BACKOFF
    mysql_code = 9003

    def __init__(self, reason: str, backoff_ms: int = 0, estimated_wait_ms: int = 0) -> None:
        super().__init__(f"server is busy: {reason}")
        self.reason, self.backoff_ms, self.estimated_wait_ms = reason, backoff_ms, estimated_wait_ms

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.server_is_busy.reason, error.server_is_busy.backoff_ms = self.reason, self.backoff_ms
        error.server_is_busy.estimated_wait_ms = min(self.estimated_wait_ms, 0xFFFFFFFF)


class StaleCommand(RegionError):
    """The proposal was dropped before it could be known to commit, without effect; propose it again."""

    code = "KV:Raftstore:StaleCommand"
    retry = RetryClass.BACKOFF

    def __init__(self, region_id: int) -> None:
        super().__init__(f"command of region {region_id} was dropped by a change of leader or term")

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.stale_command.SetInParent()


class StoreNotMatch(RegionError):
    """The request was meant for another store (an address was reused)."""

    code = "KV:Raftstore:StoreNotMatch"

    def __init__(self, request_store_id: int, actual_store_id: int) -> None:
        super().__init__(f"request is for store {request_store_id}, this is store {actual_store_id}")
        self.request_store_id, self.actual_store_id = request_store_id, actual_store_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.store_not_match.request_store_id = self.request_store_id
        error.store_not_match.actual_store_id = self.actual_store_id


class RaftEntryTooLarge(RegionError):
    """The write does not fit one raft entry: split the transaction."""

    code = "KV:Raftstore:EntryTooLarge"
    retry = RetryClass.NEVER
    mysql_code = 8025

    def __init__(self, region_id: int, entry_size: int) -> None:
        super().__init__(f"raft entry of {entry_size} bytes is too large for region {region_id}; write less at once")
        self.region_id, self.entry_size = region_id, entry_size

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.raft_entry_too_large.region_id = self.region_id
        error.raft_entry_too_large.entry_size = self.entry_size


class MismatchPeerId(RegionError):
    """The store has another peer of the region than the one asked for."""

    code = "KV:Raftstore:MismatchPeerId"

    def __init__(self, request_peer_id: int, store_peer_id: int) -> None:
        super().__init__(f"request is for peer {request_peer_id}, this store has peer {store_peer_id}")
        self.request_peer_id, self.store_peer_id = request_peer_id, store_peer_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.mismatch_peer_id.request_peer_id = self.request_peer_id
        error.mismatch_peer_id.store_peer_id = self.store_peer_id


class UndeterminedResult(RegionError):
    """The proposal may or may not take effect: leadership was lost after it was appended."""

    code = "KV:Raftstore:UndeterminedResult"
    retry = RetryClass.NEVER
    mysql_code = 8501

    def __init__(self, region_id: int) -> None:
        super().__init__(
            f"the outcome of a command of region {region_id} is unknown: leadership was lost after it was appended"
        )

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.undetermined_result.message = self.message


class ReadIndexNotReady(RegionError):
    """The leader cannot confirm a read just now."""

    code = "KV:Raftstore:ReadIndexNotReady"
    retry = RetryClass.BACKOFF

    def __init__(self, region_id: int, reason: str) -> None:
        super().__init__(f"region {region_id} cannot confirm a read: {reason}")
        self.region_id, self.reason = region_id, reason

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.read_index_not_ready.region_id, error.read_index_not_ready.reason = self.region_id, self.reason


class ProposalInMergingMode(RegionError):
    """The region is being merged into a neighbour and takes no commands until that is done or undone."""

    code = "KV:Raftstore:ProposalInMergingMode"
    retry = RetryClass.BACKOFF
    deterministic = True

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} is being merged into its neighbour; ask again")
        self.region_id = region_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.proposal_in_merging_mode.region_id = self.region_id


class DataIsNotReady(RegionError):
    """A stale read asked for a time that this replica has not reached yet; the leader can answer."""

    code = "KV:Raftstore:DataIsNotReady"
    retry = RetryClass.BACKOFF

    def __init__(self, region_id: int, peer_id: int, safe_ts: int) -> None:
        super().__init__(f"peer {peer_id} of region {region_id} is complete up to {safe_ts} only; read from the leader")
        self.region_id, self.peer_id, self.safe_ts = region_id, peer_id, safe_ts

    def _fill(self, error: errorpb_pb2.Error) -> None:
        variant = error.data_is_not_ready
        variant.region_id, variant.peer_id, variant.safe_ts = self.region_id, self.peer_id, self.safe_ts


class DiskFull(RegionError):
    """A store that replicates the region has no space left for more data."""

    code = "KV:Raftstore:DiskFull"
    retry = RetryClass.BACKOFF
    mysql_code = 9003

    def __init__(self, store_ids: tuple[int, ...], reason: str) -> None:
        super().__init__(f"disk of store {', '.join(map(str, store_ids))} is full: {reason}")
        self.store_ids, self.reason = store_ids, reason

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.disk_full.store_id.extend(self.store_ids)
        error.disk_full.reason = self.reason


class MaxTimestampNotSynced(RegionError):
    """A new leader does not know the newest timestamps yet; only async commit needs them."""

    code = "KV:Raftstore:MaxTimestampNotSynced"
    retry = RetryClass.BACKOFF

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} does not know the newest timestamp yet")

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.max_timestamp_not_synced.SetInParent()


class FlashbackInProgress(RegionError):
    """The region is being set back to an earlier version; only that command may use it until it is done."""

    code = "KV:Raftstore:FlashbackInProgress"
    retry = RetryClass.NEVER
    deterministic = True

    def __init__(self, region_id: int, flashback_start_ts: int) -> None:
        super().__init__(f"region {region_id} is in flashback progress with start_ts {flashback_start_ts}")
        self.region_id, self.flashback_start_ts = region_id, flashback_start_ts

    def _fill(self, error: errorpb_pb2.Error) -> None:
        variant = error.FlashbackInProgress
        variant.region_id, variant.flashback_start_ts = self.region_id, self.flashback_start_ts


class FlashbackNotPrepared(RegionError):
    """A flashback command reached a region that is not closed for it: prepare it first."""

    code = "KV:Raftstore:FlashbackNotPrepared"
    retry = RetryClass.NEVER
    deterministic = True

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} is not prepared for the flashback")
        self.region_id = region_id

    def _fill(self, error: errorpb_pb2.Error) -> None:
        error.FlashbackNotPrepared.region_id = self.region_id


def from_pb(error: errorpb_pb2.Error) -> RegionError:
    """The typed form of a wire error; an unknown or empty variant becomes a plain RegionError with its text."""
    made = _from_variant(error)
    made.args = (error.message or made.message,)
    return made


def _from_variant(error: errorpb_pb2.Error) -> RegionError:
    if error.HasField("not_leader"):
        leader = error.not_leader.leader if error.not_leader.HasField("leader") else None
        return NotLeader(error.not_leader.region_id, leader)
    if error.HasField("region_not_found"):
        return RegionNotFound(error.region_not_found.region_id)
    if error.HasField("region_not_initialized"):
        return RegionNotInitialized(error.region_not_initialized.region_id)
    if error.HasField("key_not_in_region"):
        variant = error.key_not_in_region
        region = metapb_pb2.Region(id=variant.region_id, start_key=variant.start_key, end_key=variant.end_key)
        return KeyNotInRegion(variant.key, region)
    if error.HasField("epoch_not_match"):
        return EpochNotMatch(error.message, tuple(error.epoch_not_match.current_regions))
    if error.HasField("server_is_busy"):
        busy = error.server_is_busy
        return ServerIsBusy(busy.reason, busy.backoff_ms, busy.estimated_wait_ms)
    if error.HasField("stale_command"):
        return StaleCommand(0)
    if error.HasField("store_not_match"):
        return StoreNotMatch(error.store_not_match.request_store_id, error.store_not_match.actual_store_id)
    if error.HasField("raft_entry_too_large"):
        return RaftEntryTooLarge(error.raft_entry_too_large.region_id, error.raft_entry_too_large.entry_size)
    if error.HasField("mismatch_peer_id"):
        return MismatchPeerId(error.mismatch_peer_id.request_peer_id, error.mismatch_peer_id.store_peer_id)
    if error.HasField("undetermined_result"):
        return UndeterminedResult(0)
    if error.HasField("read_index_not_ready"):
        return ReadIndexNotReady(error.read_index_not_ready.region_id, error.read_index_not_ready.reason)
    if error.HasField("proposal_in_merging_mode"):
        return ProposalInMergingMode(error.proposal_in_merging_mode.region_id)
    if error.HasField("data_is_not_ready"):
        not_ready = error.data_is_not_ready
        return DataIsNotReady(not_ready.region_id, not_ready.peer_id, not_ready.safe_ts)
    if error.HasField("disk_full"):
        return DiskFull(tuple(error.disk_full.store_id), error.disk_full.reason)
    if error.HasField("max_timestamp_not_synced"):
        return MaxTimestampNotSynced(0)
    if error.HasField("FlashbackInProgress"):
        return FlashbackInProgress(error.FlashbackInProgress.region_id, error.FlashbackInProgress.flashback_start_ts)
    if error.HasField("FlashbackNotPrepared"):
        return FlashbackNotPrepared(error.FlashbackNotPrepared.region_id)
    return RegionError(error.message)
