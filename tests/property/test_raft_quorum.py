"""Quorum arithmetic against an oracle that tries everything."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from core_py.raft.confchange import apply_change, check_configuration
from core_py.raft.errors import ConfChangeRefused
from core_py.raft.messages import ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfState
from core_py.raft.quorum import NO_LIMIT, VoteResult, joint_index, joint_vote, majority_index, majority_vote

PEERS = st.sets(st.integers(1, 7), max_size=7).map(lambda ids: tuple(sorted(ids)))
VALUES = st.dictionaries(st.integers(1, 7), st.integers(0, 9))
VOTES = st.dictionaries(st.integers(1, 7), st.booleans())


def quorums(voters: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(combinations(voters, len(voters) // 2 + 1))


def oracle_index(voters: tuple[int, ...], values: dict[int, int]) -> int:
    if not voters:
        return NO_LIMIT
    return max(min(values.get(peer, 0) for peer in quorum) for quorum in quorums(voters))


def oracle_vote(voters: tuple[int, ...], votes: dict[int, bool]) -> VoteResult:
    if not voters or any(all(votes.get(peer) is True for peer in quorum) for quorum in quorums(voters)):
        return VoteResult.WON
    if any(all(votes.get(peer) is not False for peer in quorum) for quorum in quorums(voters)):
        return VoteResult.PENDING
    return VoteResult.LOST


@given(PEERS, VALUES)
def test_majority_index(voters: tuple[int, ...], values: dict[int, int]) -> None:
    assert majority_index(voters, values) == oracle_index(voters, values)


@given(PEERS, PEERS, VALUES)
def test_joint_index(voters: tuple[int, ...], outgoing: tuple[int, ...], values: dict[int, int]) -> None:
    expected = min(oracle_index(voters, values), oracle_index(outgoing, values))
    assert joint_index(voters, outgoing, values) == expected
    assert joint_index(outgoing, voters, values) == expected
    assert joint_index(voters, voters, values) == majority_index(voters, values)


@given(PEERS, VALUES, st.integers(1, 7))
def test_index_grows_with_values(voters: tuple[int, ...], values: dict[int, int], peer: int) -> None:
    raised = {**values, peer: values.get(peer, 0) + 1}
    assert majority_index(voters, raised) >= majority_index(voters, values)


@given(PEERS, VOTES)
def test_majority_vote(voters: tuple[int, ...], votes: dict[int, bool]) -> None:
    assert majority_vote(voters, votes) is oracle_vote(voters, votes)


@given(PEERS, PEERS, VOTES)
def test_joint_vote(voters: tuple[int, ...], outgoing: tuple[int, ...], votes: dict[int, bool]) -> None:
    halves = {oracle_vote(voters, votes), oracle_vote(outgoing, votes)}
    result = joint_vote(voters, outgoing, votes)
    if VoteResult.LOST in halves:
        assert result is VoteResult.LOST
    elif VoteResult.PENDING in halves:
        assert result is VoteResult.PENDING
    else:
        assert result is VoteResult.WON


CHANGES = st.builds(
    lambda singles, transition: ConfChange(tuple(singles), transition=transition),
    st.lists(st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), st.integers(1, 6)), max_size=4),
    st.sampled_from(ConfChangeTransition),
)


@given(st.lists(CHANGES, max_size=12))
def test_neighbouring_configurations_share_every_quorum(changes: list[ConfChange]) -> None:
    """Two nodes one conf change apart can never elect, or commit, apart from each other."""
    conf = ConfState(voters=(1, 2, 3))
    for change in changes:
        try:
            after = apply_change(conf, change)
        except ConfChangeRefused:
            continue
        check_configuration(after)
        everybody = {*conf.members(), *after.members()}
        for size in range(len(everybody) + 1):
            for granted in combinations(sorted(everybody), size):
                votes = dict.fromkeys(granted, True)
                rest = dict.fromkeys(everybody - set(granted), True)
                old_wins = joint_vote(conf.voters, conf.voters_outgoing, votes) is VoteResult.WON
                new_wins = joint_vote(after.voters, after.voters_outgoing, rest) is VoteResult.WON
                assert not (old_wins and new_wins), f"{granted} under {conf}, the rest under {after}"
        conf = after


IDS = (1, 2, 3, 4, 5)


@cache
def winning(conf: ConfState) -> frozenset[frozenset[int]]:
    """Every set of peers that can elect and commit, counted by hand: more than half of each half that is not empty."""
    halves = [set(half) for half in (conf.voters, conf.voters_outgoing) if half]
    return frozenset(
        group
        for size in range(len(IDS) + 1)
        for group in map(frozenset, combinations(IDS, size))
        if all(2 * len(half & group) > len(half) for half in halves)
    )


def simple_configurations() -> list[ConfState]:
    """Every way in which five peers vote, learn or stay away, with a voter at least."""
    found: list[ConfState] = []
    for roles in product("v-l", repeat=len(IDS)):
        voters = tuple(peer for peer, role in zip(IDS, roles, strict=True) if role == "v")
        learners = tuple(peer for peer, role in zip(IDS, roles, strict=True) if role == "l")
        if voters:
            found.append(ConfState(voters, learners))
    return found


def test_all_changes_of_two_steps_among_five_peers() -> None:
    """Every quorum of the configuration before and every one after share a voter, joint configurations on the way too."""
    steps = [ConfChangeSingle(kind, peer) for kind in ConfChangeType for peer in IDS]
    changes = [ConfChange((one,), transition=way) for one in steps for way in ConfChangeTransition]
    changes += [ConfChange(pair) for pair in combinations(steps, 2) if pair[0].node_id != pair[1].node_id]
    seen: set[tuple[ConfState, ConfState]] = set()
    for conf in simple_configurations():
        for change in changes:
            try:
                after = apply_change(conf, change)
            except ConfChangeRefused:
                continue
            seen.add((conf, after))
            if after.is_joint:
                seen.add((after, apply_change(after, ConfChange())))
    assert len(seen) > 10_000
    for before, after in seen:
        check_configuration(after)
        assert after.voters
        apart = [group for group in winning(before) if frozenset(IDS) - group in winning(after)]
        assert not apart, f"{apart[0]} suffice under {before}, the rest under {after}"


def test_ties_and_empty_halves() -> None:
    """Half of an even number is no majority; an empty half never decides."""
    even, values = (1, 2, 3, 4), {1: 9, 2: 9, 3: 5, 4: 5}
    assert majority_index(even, values) == 5
    assert majority_vote(even, {1: True, 2: True, 3: False, 4: False}) is VoteResult.LOST
    assert majority_vote(even, {1: True, 2: True, 3: False}) is VoteResult.PENDING
    assert joint_index(even, (), values) == 5
    assert joint_index((), (), values) == NO_LIMIT
    assert joint_vote((1, 2, 3), (), {1: True, 2: True}) is VoteResult.WON
    assert joint_vote((1, 2, 3), (3, 4, 5), {1: True, 2: True, 3: False}) is VoteResult.PENDING
    assert joint_vote((1, 2, 3), (3, 4, 5), {1: True, 2: True, 4: False, 5: False}) is VoteResult.LOST
