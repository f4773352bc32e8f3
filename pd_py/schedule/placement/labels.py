"""Labels of stores as locations: how far apart stores are, by a list of label names from the widest level to the narrowest.

A store that lacks a location label is on its own at that level, as in the public server: nothing is known of what it shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from pd_py.schedule.view import StoreView

SCORE_BASE = 100.0
ENGINE_KEY = "engine"
EXCLUSIVE_KEYS = frozenset({ENGINE_KEY, "exclusive"})
SPECIAL_USE_KEY = "specialUse"


def is_exclusive_key(key: str) -> bool:
    """Whether a store with this label takes only replicas whose rule names the label."""
    return key.startswith("$") or key in EXCLUSIVE_KEYS


@lru_cache(maxsize=8192)
def _place(labels: tuple[tuple[str, str], ...], levels: tuple[str, ...]) -> tuple[str, ...]:
    """The values of the levels, for comparing; stores have few different labels and are compared often."""
    known = {name.lower(): value.lower() for name, value in reversed(labels)}
    return tuple(known.get(name.lower(), "") for name in levels)


def first_difference(one: StoreView, other: StoreView, levels: Sequence[str]) -> int:
    """The first level on which two stores differ; -1 when they share all."""
    levels = tuple(levels)
    mine, theirs = _place(one.labels, levels), _place(other.labels, levels)
    if mine == theirs and "" not in mine:
        return -1
    for at, (here, there) in enumerate(zip(mine, theirs, strict=True)):
        if here != there or not here:
            return at
    return -1


def pair_score(one: StoreView, other: StoreView, levels: Sequence[str]) -> float:
    """How far apart two stores are: a wider level outweighs all narrower ones."""
    at = first_difference(one, other, levels)
    return 0.0 if at < 0 else SCORE_BASE ** (len(levels) - at - 1)


def distinct_score(levels: Sequence[str], stores: Iterable[StoreView], other: StoreView) -> float:
    """How far a store is from all others."""
    return sum(pair_score(other, store, levels) for store in stores if store.store_id != other.store_id)


def isolation_score(levels: Sequence[str], stores: Sequence[StoreView]) -> float:
    """How far stores are from each other."""
    if not levels or len(stores) <= 1:
        return 0.0
    return sum(pair_score(one, other, levels) for at, one in enumerate(stores) for other in stores[at + 1 :])


def best_isolation(levels: Sequence[str], count: int) -> float:
    """The score of stores that all differ at the widest level."""
    return count * (count - 1) / 2 * SCORE_BASE ** (len(levels) - 1) if levels else 0.0


@lru_cache(maxsize=8192)
def exclusive_keys(labels: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The labels that keep a store for those who name them."""
    return tuple(key for key, _ in labels if is_exclusive_key(key))


def is_isolated(levels: Sequence[str], level: str, stores: Iterable[StoreView], other: StoreView) -> bool:
    """Whether a store differs from all others at the isolation level or a wider one."""
    if not level or level not in levels:
        return True
    upto = levels[: levels.index(level) + 1]
    return all(first_difference(other, store, upto) >= 0 for store in stores if store.store_id != other.store_id)
