"""How well a region fits its rules: which replica serves which rule, and which serve none.

Rules are served in their order, each by the best combination of the replicas left: most of them, then most with the right role,
then farthest apart. Healthy replicas come first, so that of two equal ones the broken one is left over. With a handful of
replicas all combinations are tried; beyond that (a region with dozens of replicas is a mistake) only the first are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

from pd_py.schedule.placement.labels import isolation_score
from pd_py.schedule.placement.rule import Rule, RuleRole, matches_all
from pd_py.schedule.view import PeerView, RegionView, Role, StoreView

COMBINATIONS_MAX = 256


@dataclass(frozen=True, slots=True)
class RuleFit:
    """The replicas that serve one rule."""

    rule: Rule
    peers: tuple[PeerView, ...]
    stores: tuple[StoreView, ...]
    wrong_role: tuple[PeerView, ...]
    """Those of `peers` whose role can be changed to the right one."""
    isolation: float

    @property
    def is_satisfied(self) -> bool:
        """As many as wanted, and all in the right role."""
        return len(self.peers) == self.rule.count and not self.wrong_role

    @property
    def rank(self) -> tuple[int, int, float]:
        """For comparing; larger is better."""
        return (len(self.peers), -len(self.wrong_role), self.isolation)

    def holds(self, store_id: int) -> bool:
        """Whether one of the replicas is on a store."""
        return any(peer.store_id == store_id for peer in self.peers)


@dataclass(frozen=True, slots=True)
class RegionFit:
    """All rules of a region with what serves them."""

    rules: tuple[RuleFit, ...]
    orphans: tuple[PeerView, ...]
    """Replicas that serve no rule."""
    stores: Mapping[int, StoreView] = field(default_factory=dict)

    @property
    def is_satisfied(self) -> bool:
        """All rules are served and nothing is left over. Without rules nothing is."""
        return bool(self.rules) and not self.orphans and all(one.is_satisfied for one in self.rules)

    @property
    def wanted(self) -> int:
        """How many replicas the rules want."""
        return sum(one.rule.count for one in self.rules)

    def of_store(self, store_id: int) -> RuleFit | None:
        """The rule that the replica on a store serves."""
        return next((one for one in self.rules if one.holds(store_id)), None)

    def can_replace(self, source_id: int, target: StoreView) -> bool:
        """Whether a replica on `target` would serve in place of that on a store, and not be less isolated."""
        fit = self.of_store(source_id)
        if fit is None:
            return False
        if fit.holds(target.store_id):
            return True
        other = self.of_store(target.store_id)
        if other is not None and other.rule.role is fit.rule.role:
            return True
        if not matches_all(target, fit.rule.label_constraints):
            return False
        after = [target if store.store_id == source_id else store for store in fit.stores]
        return isolation_score(fit.rule.location_labels, after) >= fit.isolation


def fit_region(region: RegionView, rules: Sequence[Rule], stores: Mapping[int, StoreView]) -> RegionFit:
    """The best fit. `stores` has the stores of the region's replicas as far as they are known."""
    peers = sorted(region.peers, key=lambda peer: (-_health(region, peer), peer.peer_id))
    if not rules:
        return RegionFit((), tuple(peers), stores)
    fits, left = _best(region, rules, peers, stores)
    return RegionFit(tuple(fits), tuple(left), stores)


def _best(
    region: RegionView, rules: Sequence[Rule], peers: Sequence[PeerView], stores: Mapping[int, StoreView]
) -> tuple[list[RuleFit], list[PeerView]]:
    """The best way to serve the rules by the peers, and what is left over. Earlier rules decide, later ones break ties."""
    if not rules:
        return [], list(peers)
    rule = rules[0]
    candidates = [
        peer
        for peer in peers
        if (store := stores.get(peer.store_id)) is not None and matches_all(store, rule.label_constraints)
    ]
    count = min(rule.count, len(candidates))
    best: tuple[list[RuleFit], list[PeerView]] | None = None
    best_rank: list[tuple[int, int, float]] = []
    for chosen in islice(combinations(candidates, count), COMBINATIONS_MAX):
        fit = _rule_fit(region, rule, chosen, stores)
        if best is not None and fit.rank < best_rank[0]:
            continue
        rest = [peer for peer in peers if peer not in chosen]
        fits, left = _best(region, rules[1:], rest, stores)
        rank = [fit.rank, *(one.rank for one in fits)]
        if best is None or rank > best_rank:
            best, best_rank = ([fit, *fits], left), rank
        if not rule.location_labels and not left and all(one.is_satisfied for one in best[0]):
            break
    assert best is not None  # there is always the combination of none
    return best


def _rule_fit(region: RegionView, rule: Rule, peers: Iterable[PeerView], stores: Mapping[int, StoreView]) -> RuleFit:
    peers = tuple(peers)
    found = tuple(stores[peer.store_id] for peer in peers)
    wrong = tuple(peer for peer in peers if not _matches_role(region, peer, rule.role))
    return RuleFit(rule, peers, found, wrong, isolation_score(rule.location_labels, found))


def _matches_role(region: RegionView, peer: PeerView, role: RuleRole) -> bool:
    leads = peer.store_id == region.leader_store_id
    votes = peer.role is not Role.LEARNER
    if role is RuleRole.LEADER:
        return leads
    if role is RuleRole.FOLLOWER:
        return votes and not leads
    return votes if role is RuleRole.VOTER else not votes


def _health(region: RegionView, peer: PeerView) -> int:
    if peer.peer_id in region.down:
        return 0
    return 1 if peer.peer_id in region.pending else 2
