"""Where the PUT or DELETE before a LOCK record is: kept in the record, so that readers need not walk over long chains of them.

Reading a key whose row is locked again and again (`SELECT ... FOR UPDATE`, foreign keys, unique checks) would otherwise pass one
LOCK record for each of these transactions. The answer is known when a lock is taken, because the newest record is looked at then
anyway; the lock carries it and the commit copies it into the LOCK record.

A ROLLBACK record never carries one. It sits at its start_ts, and an asynchronous commit may later put a change *below* it, at a
timestamp that no reader had seen yet; what the rollback had written down would then be wrong. Below a LOCK record nothing can be
committed any more: whoever wants to commit there meets it as a newer commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tikv_py.mvcc.write import Write, WriteType

if TYPE_CHECKING:
    from tikv_py.mvcc.reader import MvccReader


class LastChange(NamedTuple):
    """`ts` is the change's commit_ts. `versions` says about how many records down it is, or with ts 0 whether none is known of.

    (0, 0) is unknown; (0, more) means there is no change, or the last is a DELETE; else both are positive.
    """

    ts: int
    versions: int


UNKNOWN = LastChange(0, 0)
NOT_EXIST = LastChange(0, 1)


def last_change_above(reader: MvccReader, key: bytes, newest: tuple[int, Write] | None) -> LastChange:
    """What a LOCK record would carry that is put on top of `newest`, the newest record (commit_ts, write) of a data key."""
    found, passed = newest, 0
    while found is not None:
        commit_ts, write = found
        if write.write_type is WriteType.PUT or write.write_type is WriteType.DELETE:
            return LastChange(commit_ts, passed + 1)
        if write.last_change_ts:
            return LastChange(write.last_change_ts, write.versions_to_last_change + passed + 1)
        if write.versions_to_last_change or not commit_ts:
            return NOT_EXIST
        found = reader.seek_write(key, commit_ts - 1)
        passed += 1
    return NOT_EXIST
