"""A region in flashback: closed to every command but those of one flashback. Pure.

The state is part of the region's meta data (`is_in_flashback`, `flashback_start_ts`), set and cleared by admin commands in the
log, so every replica, a new leader and a restarted store know it. It is checked when a command arrives, and again when its
entry is applied: what was proposed before the region closed, and comes behind it in the log, has no effect.

Rules, as in the public servers: a read below the flashback's start_ts sees what it always saw and is let through; splits and
merges wait; membership may change. Neither command moves the epoch, and both may be repeated.
"""

from __future__ import annotations

from core_py.region_errors import FlashbackInProgress, FlashbackNotPrepared
from protos.kvproto import metapb_pb2
from tikv_py.raftstore.commands import WriteKind


def in_progress(region: metapb_pb2.Region) -> FlashbackInProgress:
    """What those who have to wait are told."""
    return FlashbackInProgress(region.id, region.flashback_start_ts)


def check_write(region: metapb_pb2.Region, kind: WriteKind) -> None:
    """Whether a write may be proposed or applied. Raises FlashbackInProgress, FlashbackNotPrepared."""
    if region.is_in_flashback and not kind.is_flashback:
        raise in_progress(region)
    if kind.is_flashback and not region.is_in_flashback:
        raise FlashbackNotPrepared(region.id)


def check_read(region: metapb_pb2.Region, read_ts: int | None) -> None:
    """Whether a region in flashback may be read at `read_ts`, None for its newest state. Raises FlashbackInProgress."""
    if read_ts is None or read_ts >= region.flashback_start_ts:
        raise in_progress(region)


def prepared(region: metapb_pb2.Region, start_ts: int) -> metapb_pb2.Region:
    """The region closed for the flashback of `start_ts`. Raises FlashbackInProgress while another one is under way."""
    if region.is_in_flashback and region.flashback_start_ts != start_ts:
        raise in_progress(region)
    changed = metapb_pb2.Region()
    changed.CopyFrom(region)
    changed.is_in_flashback, changed.flashback_start_ts = True, start_ts
    return changed


def finished(region: metapb_pb2.Region) -> metapb_pb2.Region:
    """The region open again."""
    changed = metapb_pb2.Region()
    changed.CopyFrom(region)
    changed.ClearField("is_in_flashback")
    changed.ClearField("flashback_start_ts")
    return changed
