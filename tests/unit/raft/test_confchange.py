"""Membership changes from configuration to configuration."""

from __future__ import annotations

import pytest

from core_py.raft.confchange import apply_change
from core_py.raft.errors import ConfChangeRefused
from core_py.raft.messages import ConfChange, ConfState
from tests.golden.raft_runner import parse_change, show_conf

THREE = ConfState(voters=(1, 2, 3))


@pytest.mark.parametrize(
    ("start", "change", "expected"),
    [
        (THREE, "add=4", "voters=[1, 2, 3, 4]"),
        (THREE, "remove=3", "voters=[1, 2]"),
        (THREE, "remove=9", "voters=[1, 2, 3]"),
        (THREE, "learner=4", "voters=[1, 2, 3] learners=[4]"),
        (THREE, "learner=3", "voters=[1, 2] learners=[3]"),
        (ConfState(voters=(1,), learners=(2,)), "add=2", "voters=[1, 2]"),
        (THREE, "add=4 remove=1", "voters=[2, 3, 4] outgoing=[1, 2, 3] auto_leave"),
        (THREE, "explicit add=4", "voters=[1, 2, 3, 4] outgoing=[1, 2, 3]"),
        (THREE, "learner=3 add=4", "voters=[1, 2, 4] outgoing=[1, 2, 3] learners_next=[3] auto_leave"),
        (THREE, "learner=3 add=3 add=4", "voters=[1, 2, 3, 4] outgoing=[1, 2, 3] auto_leave"),
    ],
)
def test_change(start: ConfState, change: str, expected: str) -> None:
    assert show_conf(apply_change(start, parse_change(change))) == expected


def test_leaving_makes_learners_of_demoted_voters() -> None:
    joint = apply_change(THREE, parse_change("learner=3 add=4"))
    assert apply_change(joint, ConfChange()) == ConfState(voters=(1, 2, 4), learners=(3,))


@pytest.mark.parametrize("change", ["", "remove=1 remove=2 remove=3"])
def test_refused(change: str) -> None:
    with pytest.raises(ConfChangeRefused):
        apply_change(THREE, parse_change(change))


def test_joint_refuses_all_but_leaving() -> None:
    joint = apply_change(THREE, parse_change("explicit add=4"))
    for change in ("add=5", "explicit add=5"):
        with pytest.raises(ConfChangeRefused):
            apply_change(joint, parse_change(change))


def test_the_last_voter_stays() -> None:
    with pytest.raises(ConfChangeRefused):
        apply_change(ConfState(voters=(1,)), parse_change("remove=1"))
