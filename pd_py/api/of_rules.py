"""`RulesPort` over the coordinator's placement rules and region labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pd_py.api.region_json import peer_json
from pd_py.cluster.coordinator import Coordinator
from pd_py.schedule.placement.fit import RegionFit, fit_region
from pd_py.schedule.placement.manager import action_from_json, bundle_from_json
from pd_py.schedule.placement.region_label import RegionRuleNotFound
from pd_py.schedule.placement.rule import Rule, RuleError, group_from_json, rule_from_json
from pd_py.schedule.view import PeerView, RegionView

EXPRESSION_MAX = 256


class RulesOfCoordinator:
    """See the port for the methods."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._rules = coordinator.rules
        self._labels = coordinator.labels

    # placement rules

    def rule(self, group: str, rule_id: str) -> Any | None:
        """See the port."""
        found = self._rules.rule(group, rule_id)
        return None if found is None else found.to_json()

    def rules(self, group: str | None) -> list[Any]:
        """See the port."""
        return _json(self._rules.all() if group is None else self._rules.of_group(group))

    def rules_at(self, key: bytes) -> list[Any]:
        """See the port."""
        return _json(self._rules.by_key(key))

    def rules_for(self, region: RegionView) -> list[Any]:
        """See the port."""
        return _json(self._rules.for_range(region.start_key, region.end_key))

    def fit(self, region: RegionView) -> Any:
        """See the port."""
        stores = {store.store_id: store for store in self._coordinator.view.stores()}
        rules = self._rules.for_range(region.start_key, region.end_key)
        return _fit_json(
            fit_region(
                region,
                rules,
                {peer.store_id: stores[peer.store_id] for peer in region.peers if peer.store_id in stores},
            )
        )

    async def set_rules(self, rules: Sequence[Any]) -> None:
        """See the port."""
        parsed = [rule_from_json(one) for one in rules]
        await self._coordinator.change_rules(lambda manager: manager.plan_set(parsed, self._coordinator.view.stores()))

    async def delete_rule(self, group: str, rule_id: str) -> None:
        """See the port."""
        await self._coordinator.change_rules(lambda manager: manager.plan_delete(group, rule_id))

    async def batch(self, actions: Sequence[Any]) -> None:
        """See the port."""
        parsed = [action_from_json(one) for one in actions]
        await self._coordinator.change_rules(
            lambda manager: manager.plan_batch(parsed, self._coordinator.view.stores())
        )

    def groups(self) -> list[Any]:
        """See the port."""
        return [group.to_json() for group in self._rules.groups()]

    def group(self, group_id: str) -> Any | None:
        """See the port."""
        found = self._rules.group(group_id)
        return None if found is None else found.to_json()

    async def set_group(self, group: Any) -> None:
        """See the port."""
        parsed = group_from_json(group)
        await self._coordinator.change_rules(lambda manager: manager.plan_group(parsed))

    async def delete_group(self, group_id: str) -> None:
        """See the port."""
        await self._coordinator.change_rules(lambda manager: manager.plan_delete_group(group_id))

    def bundles(self) -> list[Any]:
        """See the port."""
        return [bundle.to_json() for bundle in self._rules.bundles()]

    def bundle(self, group_id: str) -> Any:
        """See the port."""
        return self._rules.bundle(group_id).to_json()

    async def set_bundles(self, bundles: Sequence[Any], *, replace_all: bool) -> None:
        """See the port."""
        parsed = [bundle_from_json(one) for one in bundles]
        await self._coordinator.change_rules(
            lambda manager: manager.plan_bundles(parsed, self._coordinator.view.stores(), replace_all=replace_all)
        )

    async def delete_bundle(self, group_id: str, *, regex: bool) -> None:
        """See the port."""
        if regex and len(group_id) > EXPRESSION_MAX:
            raise RuleError(f"a regular expression of {len(group_id)} characters")
        await self._coordinator.change_rules(lambda manager: manager.plan_delete_bundle(group_id, regex=regex))

    # region labels

    def label_rules(self) -> list[Any]:
        """See the port."""
        return [rule.to_json() for rule in self._labels.rules()]

    def label_rule(self, rule_id: str) -> Any | None:
        """See the port."""
        try:
            return self._labels.rule(rule_id).to_json()
        except RegionRuleNotFound:
            return None

    async def patch_label_rules(self, sets: Sequence[Any], deletes: Sequence[str]) -> None:
        """See the port."""
        await self._coordinator.change_labels([self._labels.parse(one) for one in sets], deletes)

    def region_labels(self, region: RegionView) -> Mapping[str, str]:
        """See the port."""
        return self._labels.labels(region)


def _json(rules: Sequence[Rule]) -> list[Any]:
    return [rule.to_json() for rule in rules]


def _peer(peer: PeerView) -> dict[str, Any]:
    """A replica as the plain metapb struct."""
    shown = peer_json(peer)
    return {name: shown[name] for name in ("id", "store_id", "role") if name in shown}


def _fit_json(fit: RegionFit) -> Any:
    return {
        "rule-fits": [
            {
                "rule": one.rule.to_json(),
                "peers": [_peer(peer) for peer in one.peers],
                "peers-different-role": [_peer(peer) for peer in one.wrong_role] or None,
                "isolation-score": one.isolation,
                "witness-score": 0,
            }
            for one in fit.rules
        ],
        "orphan-peers": [_peer(peer) for peer in fit.orphans] or None,
    }
