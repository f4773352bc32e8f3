"""What a store says when it finds its own records damaged, and how they are read with that in mind.

A store that finds damage stops: at start with a DataCorruption, later with a broken invariant. Going on would be guessing: a log
with a hole has forgotten promises, two regions on one range would answer for each other. The other replicas are whole, so
nothing is lost by replacing the store; the messages say so, and how to look closer.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from core_py.errors import DataCorruption, InvariantViolation
from protos.kvproto import metapb_pb2
from tikv_py.engine.port import CF_DEFAULT, Engine
from tikv_py.raftstore import keys
from tikv_py.raftstore.region import overlaps

if TYPE_CHECKING:
    from core_py.raft.messages import Entry
    from tikv_py.raftstore.peer import Peer

M = TypeVar("M", bound=Message)

ADVICE = (
    "look at it with `tikv-py ctl --data-dir ... bad-regions`; to repair, replace this store:"
    " delete it in PD, empty its data directory and start it as a new one"
)


def damaged(region_id: int, what: str) -> DataCorruption:
    """The error for damage found in a region's records."""
    return DataCorruption(f"region {region_id}: {what}; {ADVICE}")


def parsed(kind: type[M], data: bytes, region_id: int, what: str) -> M:
    """A record read from disk. Raises DataCorruption when it is not one."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise damaged(region_id, f"its {what} cannot be read ({error}): {data[:64].hex()}") from error


def unreadable_entry(peer: Peer, entry: Entry, error: DecodeError) -> InvariantViolation:
    """A committed entry that no replica can apply."""
    return InvariantViolation(
        f"region {peer.region.id}: committed entry {entry.index} of term {entry.term} cannot be read ({error}); {ADVICE}"
    )


def broken_peer(peer: Peer, error: InvariantViolation) -> InvariantViolation:
    """The broken invariant, of the same type, with where its peer stands."""
    storage, hard = peer.storage, peer.storage.hard_state
    return type(error)(
        f"region {peer.region.id}, peer {peer.peer_id}, term {hard.term}, applied {storage.apply_state.applied_index},"
        f" committed {hard.commit}, last index {storage.last}: {error}"
    )


def check_log(raft_db: Engine, region_id: int, first: int, last: int, needed: Collection[int]) -> None:
    """The log has its ends and the entries that are needed at once. Raises DataCorruption.

    The entries between are looked at when they are used; reading a whole log would make every start slow.
    """
    for index in sorted({first, last, *needed}):
        if first <= index <= last and raft_db.get(CF_DEFAULT, keys.log_key(region_id, index)) is None:
            raise damaged(region_id, f"entry {index} is missing from its raft log, which has {first} to {last}")


def check_overlap(regions: Collection[metapb_pb2.Region]) -> None:
    """No two regions on this store hold the same keys. Raises DataCorruption."""
    ordered = sorted(regions, key=lambda region: region.start_key)
    for left, right in pairwise(ordered):
        if overlaps(left, right):
            raise damaged(
                right.id,
                f"its range [{right.start_key.hex()}, {right.end_key.hex() or '+inf'}) overlaps with region {left.id}"
                f" [{left.start_key.hex()}, {left.end_key.hex() or '+inf'})",
            )
