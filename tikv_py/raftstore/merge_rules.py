"""What a merge does to regions, as values; every replica must come to the same result from the same entries.

A merge of a source region into its neighbour, the target, takes one entry in each log. PrepareMerge closes the source: it gets a
new epoch, so that nothing proposed before is taken any more. CommitMerge in the target's log, proposed at the epoch that
PrepareMerge named, gives the target the source's range. RollbackMerge opens the source again when the target changed first.

Invariant that everything else leans on: for each key, the versions of the regions that held it only grow (a split adds, a
merge takes the greater one plus one). What it does not do: look at logs, progress or other peers; that is `merge`.
"""

from __future__ import annotations

from collections.abc import Iterable

from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.raftstore.region import VOTER, AdminRefused

MERGED_RECORDS_MAX = 256
"""How many merges a region remembers; a peer that slept through more of them is left to the peers of its own region."""


def check_neighbours(source: metapb_pb2.Region, target: metapb_pb2.Region) -> None:
    """Raise AdminRefused unless the two touch and are replicated by voters on the same stores."""
    if source.id == target.id:
        raise AdminRefused(f"region {source.id} cannot be merged into itself")
    left_of = bool(source.end_key) and source.end_key == target.start_key
    right_of = bool(target.end_key) and target.end_key == source.start_key
    if not left_of and not right_of:
        raise AdminRefused(f"regions {source.id} and {target.id} do not touch")
    for region in (source, target):
        if any(peer.role != VOTER for peer in region.peers):
            raise AdminRefused(f"region {region.id} has peers that are not voters; finish its membership change first")
    if sorted(peer.store_id for peer in source.peers) != sorted(peer.store_id for peer in target.peers):
        raise AdminRefused(f"regions {source.id} and {target.id} are not on the same stores")


def closed(source: metapb_pb2.Region) -> metapb_pb2.Region:
    """The source after PrepareMerge: both parts of its epoch move, so that commands proposed earlier are void."""
    region = metapb_pb2.Region()
    region.CopyFrom(source)
    region.region_epoch.conf_ver += 1
    region.region_epoch.version += 1
    return region


def reopened(source: metapb_pb2.Region) -> metapb_pb2.Region:
    """The source after RollbackMerge; the version moves, so that a rollback is not done twice."""
    region = metapb_pb2.Region()
    region.CopyFrom(source)
    region.region_epoch.version += 1
    return region


def merged(source: metapb_pb2.Region, target: metapb_pb2.Region) -> metapb_pb2.Region:
    """The target after CommitMerge."""
    region = metapb_pb2.Region()
    region.CopyFrom(target)
    region.region_epoch.version = max(source.region_epoch.version, target.region_epoch.version) + 1
    if source.end_key and source.end_key == target.start_key:
        region.start_key = source.start_key
    else:
        region.end_key = source.end_key
    return region


def with_records(
    own: tuple[serverpb.MergedRecord, ...],
    theirs: tuple[serverpb.MergedRecord, ...],
    source: metapb_pb2.Region,
    target: metapb_pb2.Region,
) -> tuple[serverpb.MergedRecord, ...]:
    """What the merged region remembers: its own merges, the source's, and this one; the newest are kept."""
    record = serverpb.MergedRecord(
        source_region_id=source.id,
        source_epoch=source.region_epoch,
        target_region_id=target.id,
        target_epoch=target.region_epoch,
    )
    return (*own, *theirs, record)[-MERGED_RECORDS_MAX:]


def sources(records: Iterable[serverpb.MergedRecord]) -> frozenset[int]:
    """The regions that the records say are gone for good: an id is never used again."""
    return frozenset(record.source_region_id for record in records)
