"""Operators that people ask for by name and fields, as the HTTP API takes them. Texts of refusals are the public ones.

What came in is hostile until it is checked: types first, then regions and stores, then whether it can be built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule import create
from pd_py.schedule.context import Context
from pd_py.schedule.filters import is_healthy, is_replicated
from pd_py.schedule.operator import Operator, OpKind, SplitPolicy
from pd_py.schedule.placement.rule import RuleRole
from pd_py.schedule.scatter import Scatterer
from pd_py.schedule.view import RegionView, Role, StoreState

KEYS_MAX = 1024


class BadOperatorRequest(PdError):
    """The request is not of the form its name wants."""

    code = "PD:operator:BadRequest"
    retry = RetryClass.NEVER


class RegionUnknown(PdError):
    """No region has this id."""

    code = "PD:region:ErrRegionNotFound"
    retry = RetryClass.NEVER

    def __init__(self, region_id: int) -> None:
        super().__init__(f"region {region_id} not found")


class OperatorRefused(PdError):
    """The operator cannot be made or added now."""

    code = "PD:operator:ErrAddOperator"
    retry = RetryClass.BACKOFF


class AdminOperators:
    """Makes operators of one moment."""

    def __init__(self, context: Context, scatterer: Scatterer) -> None:
        self._context = context
        self._scatterer = scatterer
        self._makers: dict[str, Callable[[Mapping[str, Any]], tuple[Operator, ...]]] = {
            "transfer-leader": self._transfer_leader,
            "transfer-region": self._transfer_region,
            "transfer-peer": self._transfer_peer,
            "add-peer": self._add_peer,
            "add-learner": self._add_learner,
            "remove-peer": self._remove_peer,
            "merge-region": self._merge_region,
            "split-region": self._split_region,
            "scatter-region": self._scatter_region,
        }

    def make(self, name: str, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        """The operators of a request; none when there is nothing to do.

        Raises BadOperatorRequest, RegionUnknown, OperatorRefused, CannotBuild, CannotScatter.
        """
        maker = self._makers.get(name)
        if maker is None:
            raise BadOperatorRequest("unknown operator")
        return maker(fields)

    # fields

    def _region(
        self, fields: Mapping[str, Any], name: str = "region_id", what: str = "missing region id"
    ) -> RegionView:
        region_id = _number(fields, name, what)
        region = self._context.view.region(region_id)
        if region is None:
            raise RegionUnknown(region_id)
        return region

    def _target(self, store_id: int) -> int:
        store = self._context.store(store_id)
        if store is None:
            raise OperatorRefused(f"store {store_id} not found")
        if store.state in (StoreState.DOWN, StoreState.TOMBSTONE):
            raise OperatorRefused(f"store {store_id} is unhealthy")
        return store_id

    # makers

    def _transfer_leader(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        store_id = _number(fields, "to_store_id", "missing store id to transfer leader to")
        peer = region.on_store(store_id)
        if peer is None or peer.role is Role.LEARNER:
            raise OperatorRefused(f"region has no voter in store {store_id}")
        return (
            create.transfer_leader(self._context, "admin-transfer-leader", region, store_id, OpKind.ADMIN, force=True),
        )

    def _transfer_region(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        store_ids = fields.get("to_store_ids")
        if not isinstance(store_ids, list) or not all(_is_id(one) for one in store_ids):
            raise BadOperatorRequest("invalid store ids to transfer region to")
        if not store_ids:
            raise BadOperatorRequest("missing store ids to transfer region to")
        names = fields.get("peer_roles")
        if names is None and self._context.options.enable_placement_rules:
            raise OperatorRefused("transfer region without peer role is not supported when placement rules enabled")
        roles = ["voter"] * len(store_ids) if names is None else names
        known = {role.value for role in RuleRole}
        if not isinstance(roles, list) or len(roles) != len(store_ids) or not all(one in known for one in roles):
            raise BadOperatorRequest("invalid store ids to transfer region to")
        wanted = {self._target(int(one)): RuleRole(role) for one, role in zip(store_ids, roles, strict=True)}
        return (create.move_region(self._context, "admin-move-region", region, wanted, OpKind.ADMIN),)

    def _transfer_peer(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        source = _number(fields, "from_store_id", "invalid store id to transfer peer from")
        target = _number(fields, "to_store_id", "invalid store id to transfer peer to")
        if region.on_store(source) is None:
            raise OperatorRefused(f"region has no peer in store {source}")
        self._target(target)
        return (create.move_peer(self._context, "admin-move-peer", region, source, target, OpKind.ADMIN),)

    def _adding(self, fields: Mapping[str, Any]) -> tuple[RegionView, int]:
        region = self._region(fields)
        store_id = _number(fields, "store_id", "invalid store id to transfer peer to")
        if region.on_store(store_id) is not None:
            raise OperatorRefused(f"region already has peer in store {store_id}")
        return region, self._target(store_id)

    def _add_peer(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region, store_id = self._adding(fields)
        return (create.add_peer(self._context, "admin-add-peer", region, store_id, Role.VOTER, OpKind.ADMIN),)

    def _add_learner(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region, store_id = self._adding(fields)
        return (create.add_peer(self._context, "admin-add-learner", region, store_id, Role.LEARNER, OpKind.ADMIN),)

    def _remove_peer(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        store_id = _number(fields, "store_id", "invalid store id to transfer peer to")
        if region.on_store(store_id) is None:
            raise OperatorRefused(f"region has no peer in store {store_id}")
        return (create.remove_peer(self._context, "admin-remove-peer", region, store_id, OpKind.ADMIN),)

    def _merge_region(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        source = self._region(fields, "source_region_id")
        target = self._region(fields, "target_region_id", "invalid target region id to merge to")
        for region in (source, target):
            if not is_healthy(region) or not is_replicated(self._context, region):
                raise OperatorRefused(f"region {region.region_id} has abnormal peer")
        touches = (source.end_key and source.end_key == target.start_key) or (
            target.end_key and target.end_key == source.start_key
        )
        if not touches:
            raise OperatorRefused("two regions are not adjacent")
        return create.merge_regions(self._context, "admin-merge-region", source, target, OpKind.ADMIN)

    def _split_region(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        name = fields.get("policy")
        if not isinstance(name, str):
            raise BadOperatorRequest("missing split policy")
        policy = next((one for one in SplitPolicy if one.name == name.upper()), None)
        if policy is None:
            raise OperatorRefused(f"check policy {name} is not supported")
        texts = fields.get("keys") or []
        if not isinstance(texts, list) or len(texts) > KEYS_MAX or not all(isinstance(one, str) for one in texts):
            raise BadOperatorRequest("bad format keys")
        keys = tuple(_hex(one) for one in texts) if policy is SplitPolicy.USEKEY else ()
        return (create.split_region("admin-split-region", region, OpKind.ADMIN, policy, keys),)

    def _scatter_region(self, fields: Mapping[str, Any]) -> tuple[Operator, ...]:
        region = self._region(fields)
        if region.region_id in self._context.hot_regions:
            raise OperatorRefused(f"region {region.region_id} is a hot region")
        group = fields.get("group")
        operator = self._scatterer.scatter(self._context, region, group if isinstance(group, str) else "")
        return () if operator is None else (operator,)


def _is_id(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and 0 < value < 1 << 64


def _number(fields: Mapping[str, Any], name: str, what: str) -> int:
    value = fields.get(name)
    if not _is_id(value):
        raise BadOperatorRequest(what)
    return int(value)  # type: ignore[arg-type]


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise OperatorRefused(f"split key {text} is not in hex format") from error
