"""Quorum arithmetic: what a majority, or both majorities of a joint configuration, agree on.

Why functions over tuples and dicts: the same arithmetic serves the commit index, heartbeat rounds, votes and the
CheckQuorum rule, and is small enough to be compared with a brute-force oracle (tests/property/test_raft_quorum.py).

Invariants: an empty half agrees to everything, so a joint configuration with an empty outgoing half is the simple one;
a peer without a value counts as 0 (index) or as not having voted.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

NO_LIMIT = 1 << 63
"""What an empty half agrees to: greater than any index."""


class VoteResult(enum.Enum):
    """The state of a vote."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_index(voters: tuple[int, ...], values: Mapping[int, int]) -> int:
    """The greatest value that a majority of `voters` has reached (paper figure 2, rules for leaders)."""
    if not voters:
        return NO_LIMIT
    reached = sorted([values.get(peer, 0) for peer in voters])
    return reached[(len(reached) - 1) // 2]


def joint_index(voters: tuple[int, ...], outgoing: tuple[int, ...], values: Mapping[int, int]) -> int:
    """The greatest value that both majorities have reached (thesis 4.3)."""
    index = majority_index(voters, values)
    return index if not outgoing else min(index, majority_index(outgoing, values))


def majority_vote(voters: tuple[int, ...], votes: Mapping[int, bool]) -> VoteResult:
    """The result of a vote among one majority's voters."""
    if not voters:
        return VoteResult.WON
    needed = len(voters) // 2 + 1
    granted = refused = 0
    for peer in voters:
        vote = votes.get(peer)
        if vote is True:
            granted += 1
        elif vote is False:
            refused += 1
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if len(voters) - refused >= needed else VoteResult.LOST


def joint_vote(voters: tuple[int, ...], outgoing: tuple[int, ...], votes: Mapping[int, bool]) -> VoteResult:
    """The result of a vote that both majorities must grant."""
    results = (majority_vote(voters, votes), majority_vote(outgoing, votes))
    if VoteResult.LOST in results:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON
