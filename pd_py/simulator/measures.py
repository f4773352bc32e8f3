"""What runs are judged by: how even stores are, how regions stand, what carries the flow. Dead stores do not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from pd_py.schedule.view import Role
from pd_py.simulator.simulation import Simulation
from pd_py.simulator.world import SimRegion, World


def living(world: World) -> list[int]:
    """Stores that live."""
    return [store.store_id for store in world.stores.values() if store.alive]


def replicas(world: World) -> dict[int, int]:
    """Replicas by living store."""
    held = Counter(store_id for region in world.regions.values() for store_id in region.peers)
    return {store_id: held[store_id] for store_id in living(world)}


def leaders(world: World) -> dict[int, int]:
    """Leaders by living store."""
    led = Counter(region.leader for region in world.regions.values())
    return {store_id: led[store_id] for store_id in living(world)}


def spread(values: Iterable[float]) -> float:
    """The distance of the largest from the smallest, as a share of the mean."""
    values = list(values)
    mean = sum(values) / max(len(values), 1)
    return (max(values) - min(values)) / mean if mean else 0.0


def peak(values: Iterable[float]) -> float:
    """The largest, as a multiple of the mean."""
    values = list(values)
    mean = sum(values) / max(len(values), 1)
    return max(values) / mean if mean else 0.0


def carried(world: World, rate: Callable[[SimRegion], float]) -> dict[int, float]:
    """What the leaders of each living store carry of a flow."""
    load = dict.fromkeys(living(world), 0.0)
    for region in world.regions.values():
        if region.leader in load:
            load[region.leader] += rate(region)
    return load


def sick_regions(world: World, wanted: int) -> list[int]:
    """Regions that have not all their replicas, as caught-up voters on stores that live."""
    out = []
    for region in world.regions.values():
        well = [
            peer
            for peer in region.peers.values()
            if peer.role is Role.VOTER and world.stores[peer.store_id].alive and peer.peer_id not in region.pending
        ]
        if len(well) != wanted or len(region.peers) != wanted or region.leader not in region.peers:
            out.append(region.region_id)
    return out


def crowded_regions(world: World, label: str) -> list[int]:
    """Regions with two replicas that share a label's value."""

    def value(store_id: int) -> str:
        return dict(world.stores[store_id].labels).get(label, "")

    return [
        region.region_id
        for region in world.regions.values()
        if len({value(store_id) for store_id in region.peers}) < len(region.peers)
    ]


def least_moves(counts: dict[int, int]) -> int:
    """How many replicas must move at least for all stores to hold as many."""
    mean = sum(counts.values()) / max(len(counts), 1)
    return round(sum(count - mean for count in counts.values() if count > mean))


def views_agree(simulation: Simulation) -> bool:
    """Whether PD knows every region as it is."""
    tree, world = simulation.cluster.tree, simulation.world
    if len(tree) != len(world.regions):
        return False
    for region in world.regions.values():
        known = tree.get(region.region_id)
        if known is None or (known.conf_ver, known.version) != (region.conf_ver, region.version):
            return False
    return True
