"""Membership changes as pure functions from configuration to configuration (thesis chapter 4).

Why pure: every replica must come to the same configuration from the same entry, and refuse the same ones.

Invariants of a configuration: voters are never empty; a learner is no voter of either half; `learners_next` are
outgoing voters and not incoming ones; `learners_next` and `auto_leave` exist only while joint.

What it does not do: know logs or progress. Tests: tests/unit/raft/test_confchange.py.
"""

from __future__ import annotations

from core_py.errors import invariant
from core_py.raft.errors import ConfChangeRefused
from core_py.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
)


def apply_change(conf: ConfState, change: ConfChange) -> ConfState:
    """The configuration after `change`. Raises ConfChangeRefused."""
    if change.leaves_joint:
        return leave_joint(conf)
    if change.enters_joint:
        return enter_joint(conf, change.changes, auto_leave=change.transition != ConfChangeTransition.EXPLICIT)
    return simple(conf, change.changes)


def simple(conf: ConfState, changes: tuple[ConfChangeSingle, ...]) -> ConfState:
    """Change at most one voter directly: majorities before and after then overlap (thesis 4.1)."""
    if conf.is_joint:
        raise ConfChangeRefused("a simple conf change cannot be applied in a joint configuration; leave it first")
    result = _with_changes(conf, changes)
    if len(set(conf.voters) ^ set(result.voters)) > 1:
        raise ConfChangeRefused("more than one voter changed without entering a joint configuration")
    return result


def enter_joint(conf: ConfState, changes: tuple[ConfChangeSingle, ...], *, auto_leave: bool) -> ConfState:
    """Go to the joint configuration in which old and new majorities must both agree (thesis 4.3)."""
    if conf.is_joint:
        raise ConfChangeRefused("the configuration is joint already")
    if not conf.voters:
        raise ConfChangeRefused("a configuration without voters cannot become joint")
    base = ConfState(voters=conf.voters, learners=conf.learners, voters_outgoing=conf.voters, auto_leave=auto_leave)
    return _with_changes(base, changes)


def leave_joint(conf: ConfState) -> ConfState:
    """Drop the outgoing majority; outgoing voters that were demoted become learners."""
    if not conf.is_joint:
        raise ConfChangeRefused("the configuration is not joint")
    return ConfState(voters=conf.voters, learners=tuple(sorted({*conf.learners, *conf.learners_next})))


def _with_changes(conf: ConfState, changes: tuple[ConfChangeSingle, ...]) -> ConfState:
    voters, learners, learners_next = set(conf.voters), set(conf.learners), set(conf.learners_next)
    for change in changes:
        peer = change.node_id
        if peer == 0:
            continue  # a change voided by the applier, as in etcd
        if change.change_type == ConfChangeType.ADD_NODE:
            voters.add(peer)
            learners.discard(peer)
            learners_next.discard(peer)
            continue
        voters.discard(peer)
        learners.discard(peer)
        learners_next.discard(peer)
        if change.change_type == ConfChangeType.ADD_LEARNER:
            # An outgoing voter cannot be a learner yet: it still votes in the old half.
            (learners_next if peer in conf.voters_outgoing else learners).add(peer)
    if not voters:
        raise ConfChangeRefused("the conf change removes the last voter")
    result = ConfState(
        voters=tuple(sorted(voters)),
        learners=tuple(sorted(learners)),
        voters_outgoing=conf.voters_outgoing,
        learners_next=tuple(sorted(learners_next)),
        auto_leave=conf.auto_leave,
    )
    check_configuration(result)
    return result


def check_configuration(conf: ConfState) -> None:
    """Raise InvariantViolation if the configuration is impossible."""
    for ids in (conf.voters, conf.learners, conf.voters_outgoing, conf.learners_next):
        invariant(list(ids) == sorted(set(ids)), f"configuration ids are not sorted and unique: {ids}")
    voters, outgoing = set(conf.voters), set(conf.voters_outgoing)
    invariant(not set(conf.learners) & (voters | outgoing), "a learner votes")
    invariant(set(conf.learners_next) <= outgoing - voters, "a coming learner is no outgoing voter")
    invariant(conf.is_joint or not (conf.learners_next or conf.auto_leave), "joint leftovers in a simple configuration")
