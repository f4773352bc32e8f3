"""Schedulers on tables: what each moves, what it leaves alone, and that balancing comes to an end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.schedule.operator import Operator, OpKind, TransferLeader
from pd_py.schedule.options import MIB
from pd_py.schedule.schedulers.balance_hot_region import BalanceHotRegion
from pd_py.schedule.schedulers.balance_leader import BalanceLeader
from pd_py.schedule.schedulers.balance_region import BalanceRegion
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError
from pd_py.schedule.schedulers.evict_leader import EvictLeader
from pd_py.schedule.schedulers.evict_slow_store import EvictSlowStore
from pd_py.schedule.schedulers.grant_leader import GrantLeader
from pd_py.schedule.schedulers.label import LabelScheduler
from pd_py.schedule.schedulers.random_merge import RandomMerge
from pd_py.schedule.schedulers.registry import TYPES, SchedulerUnknown, make_scheduler
from pd_py.schedule.schedulers.scatter_range import ScatterRange
from pd_py.schedule.schedulers.shuffle import ShuffleLeader, ShuffleRegion
from pd_py.schedule.score import region_score
from pd_py.schedule.view import FlowKind, HotPeer, RegionView, Role, StoreLoad, StoreState
from tests.support.schedule_play import play_all
from tests.support.schedule_tables import Tables, key, region, store, tables

GIB = 1 << 30


def cluster(
    stores: int, regions: list[RegionView], labels: dict[int, dict[str, str]] | None = None, **options: object
) -> Tables:
    table = tables([store(s, labels=(labels or {}).get(s)) for s in range(1, stores + 1)], regions, **options)
    table.limits.set_all(None, 100_000_000.0)
    table.view.recount()
    return table


def play(table: Tables, operators: list[Operator]) -> int:
    """Let operators come true at once; a region that has changed is a new one to the next decision."""
    for operator in operators:
        one = table.view.region(operator.region_id)
        assert one is not None
        healthy = sum(peer.role is Role.VOTER for peer in one.peers)
        for after in play_all(one, operator):
            assert sum(peer.role in (Role.VOTER, Role.INCOMING_VOTER) for peer in after.peers) >= healthy
            assert len({peer.store_id for peer in after.peers}) == len(after.peers)
        table.view.regions = [
            replace(after, conf_ver=1) if old.region_id == one.region_id else old for old in table.view.regions
        ]
    table.view.recount()
    return len(operators)


def run(table: Tables, scheduler: Scheduler, rounds: int = 400) -> int:
    """Ask a scheduler until it wants nothing for some rounds; returns how many operators it made."""
    total = idle = 0
    for _ in range(rounds):
        paused = frozenset(scheduler.stores_without_new_leaders())
        kept = frozenset(scheduler.stores_that_keep_leaders())
        made = play(table, scheduler.schedule(table.context(paused_in=paused, paused_out=kept)))
        total += made
        idle = 0 if made else idle + 1
        if idle >= 5:
            return total
    raise AssertionError("it does not come to an end")


def leaders(table: Tables) -> list[int]:
    return [table.view.table[s].leader_count for s in sorted(table.view.table)]


def replicas(table: Tables) -> list[int]:
    return [table.view.table[s].region_count for s in sorted(table.view.table)]


# balance-leader


def test_leaders_are_balanced_exactly_in_a_small_cluster() -> None:
    table = cluster(3, [region(number, 1, 2, 3) for number in range(1, 10)])
    assert run(table, BalanceLeader()) == 6
    assert leaders(table) == [3, 3, 3]


def test_leaders_by_weight() -> None:
    table = cluster(3, [region(number, 1, 2, 3) for number in range(1, 41)])
    table.view.table[2] = replace(table.view.table[2], leader_weight=2.0)
    run(table, BalanceLeader())
    assert leaders(table) == [10, 20, 10]


def test_leaders_by_size() -> None:
    sizes = [300, 100, 100, 100]
    regions = [region(number, 1, 2, size_bytes=size * MIB) for number, size in enumerate(sizes, 1)]
    table = cluster(2, regions, leader_schedule_policy="size")
    run(table, BalanceLeader())
    assert {table.view.table[s].leader_bytes // MIB for s in (1, 2)} == {300}


def test_lagging_followers_and_refusing_stores_take_no_leaders() -> None:
    lagging = [region(number, 1, 2, pending=frozenset({number * 100 + 2})) for number in range(1, 9)]
    assert run(cluster(2, lagging), BalanceLeader()) == 0
    table = cluster(3, [region(number, 1, 2, 3) for number in range(1, 10)])
    table.view.table[2] = replace(table.view.table[2], allows_leader_in=False)
    run(table, BalanceLeader())
    assert leaders(table)[1] == 0
    table.view.table[3] = replace(table.view.table[3], state=StoreState.DISCONNECTED)
    assert run(table, BalanceLeader()) == 0


def test_what_is_under_way_is_counted() -> None:
    table = cluster(2, [region(number, 1, 2) for number in range(1, 9)])
    scheduler = BalanceLeader()
    for _ in range(10):
        operators = scheduler.schedule(table.context())
        table.controller.add_waiting(operators, table.now)
        table.view.busy_regions = {one.operator.region_id for one in table.controller.all()}
    assert len(table.controller) == 4, "half of the leaders move, though no report shows it yet"


# balance-region


def test_replicas_move_to_an_empty_store() -> None:
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 41)])
    run(table, BalanceRegion())
    assert sum(replicas(table)) == 120
    assert max(replicas(table)) - min(replicas(table)) <= 3


def test_replicas_by_weight() -> None:
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 61)])
    table.view.table[4] = replace(table.view.table[4], region_weight=0.5)
    run(table, BalanceRegion())
    assert replicas(table)[3] <= 30


def test_locations_stay_apart() -> None:
    zones = {1: {"zone": "a"}, 2: {"zone": "b"}, 3: {"zone": "c"}, 4: {"zone": "c"}}
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 31)], zones, location_labels=("zone",))
    run(table, BalanceRegion())
    assert replicas(table)[:2] == [30, 30], "those of other zones have nowhere to go"
    assert abs(replicas(table)[2] - replicas(table)[3]) <= 3


def test_a_huge_region_is_not_handed_back_and_forth() -> None:
    small = [region(number, 1, 2, 3, size_bytes=MIB * 20) for number in range(1, 40)]
    huge = region(99, 1, 2, 3, size_bytes=3000 * MIB)
    table = cluster(4, [*small, huge])
    for _ in range(300):
        play(table, BalanceRegion().schedule(table.context()))
    assert {peer.store_id for peer in table.view.regions[-1].peers} == {1, 2, 3}, "no place of it would be better"


def test_a_full_disk_outweighs_data() -> None:
    table = cluster(2, [])
    context = table.context()
    roomy = store(1, region_bytes=500 * GIB, capacity_bytes=1000 * GIB, available_bytes=600 * GIB, used_bytes=400 * GIB)
    tight = store(2, region_bytes=100 * GIB, capacity_bytes=1000 * GIB, available_bytes=20 * GIB, used_bytes=100 * GIB)
    assert region_score(context, tight) > region_score(context, roomy)
    fuller = replace(roomy, region_bytes=501 * GIB)
    assert region_score(context, fuller) > region_score(context, roomy)


def test_what_is_hot_broken_or_denied_stays() -> None:
    regions = [region(number, 1, 2, 3) for number in range(1, 41)]
    table = cluster(4, regions)
    table.view.hot = {FlowKind.WRITE: {1: [HotPeer(one.region_id, 1, True, 1e6, 1e3, degree=9) for one in regions]}}
    assert run(table, BalanceRegion()) == 0
    table.view.hot = {}
    everything = {
        "id": "a",
        "labels": [{"key": "schedule", "value": "deny"}],
        "rule_type": "key-range",
        "data": [{"start_key": "", "end_key": ""}],
    }
    table.labels.commit(table.labels.plan([table.labels.parse(everything)], []))
    assert run(table, BalanceRegion()) == 0
    broken = cluster(4, [region(number, 1, 2) for number in range(1, 41)])
    assert run(broken, BalanceRegion()) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 8), st.integers(10, 60), st.randoms(use_true_random=False))
def test_balancing_ends_and_does_not_come_back(stores: int, count: int, rng: Random) -> None:
    regions: list[RegionView] = []
    for number in range(1, count + 1):
        held = rng.sample(range(1, stores), 3)
        regions.append(region(number, *held, size_bytes=rng.choice([20, 60, 96]) * MIB))
    table = cluster(stores, regions)
    run(table, BalanceRegion(), 2000)
    run(table, BalanceLeader(), 2000)
    loads = [table.view.table[s].region_bytes / MIB for s in range(1, stores + 1)]
    assert max(loads) - min(loads) <= 4 * 97
    assert max(leaders(table)) - min(leaders(table)) <= 2


# hot regions


def hot_cluster(rates: dict[int, list[float]], flow: FlowKind, **options: Any) -> Tables:
    """Per leading store, its regions' rates in MiB/s; all regions have followers on the two next stores."""
    count = 5
    regions: list[RegionView] = []
    hot: dict[int, list[HotPeer]] = {}
    carried: Counter[int] = Counter()
    for leader, values in rates.items():
        for value in values:
            held = [(leader + step - 1) % count + 1 for step in range(3)]
            one = region(len(regions) + 1, *held, leader=leader)
            regions.append(one)
            for store_id in held if flow is FlowKind.WRITE else [leader]:
                peer = HotPeer(one.region_id, store_id, store_id == leader, value * MIB, value * 1000, degree=5)
                hot.setdefault(store_id, []).append(peer)
                carried[store_id] += int(value * MIB)
    table = cluster(count, regions, **options)
    table.view.hot = {flow: hot}
    write = flow is FlowKind.WRITE
    table.view.loads = {
        s: StoreLoad(write_bytes_rate=carried[s], write_keys_rate=carried[s] / MIB * 1000)
        if write
        else StoreLoad(read_bytes_rate=carried[s], read_keys_rate=carried[s] / MIB * 1000)
        for s in range(1, count + 1)
    }
    return table


def test_hot_reads_move_with_their_leader() -> None:
    table = hot_cluster({1: [10, 10, 10, 10]}, FlowKind.READ)
    scheduler = BalanceHotRegion()
    operators = scheduler.schedule(table.context())
    assert [one.description for one in operators] == ["transfer-hot-read-leader"]
    assert operators[0].scheduler_kind == OpKind.HOT_REGION
    step = operators[0].steps[0]
    assert isinstance(step, TransferLeader)
    assert step.from_store_id == 1


def test_hot_reads_go_farther_when_followers_are_loaded_too() -> None:
    table = hot_cluster({1: [30, 30], 2: [50], 3: [50]}, FlowKind.READ)
    operators = BalanceHotRegion().schedule(table.context())
    assert [one.description for one in operators] == ["move-hot-read-leader"]
    assert "to [4]" in operators[0].brief or "to [5]" in operators[0].brief


def test_hot_writes_spread_leaders_and_replicas() -> None:
    table = hot_cluster({1: [10, 10, 10]}, FlowKind.WRITE)
    names = {one.description for _ in range(8) for one in BalanceHotRegion().schedule(table.context())}
    assert names == {"transfer-hot-write-leader"}
    spread = hot_cluster({1: [10], 2: [10], 3: [10], 4: [0.1], 5: [0.1]}, FlowKind.WRITE)
    operators = BalanceHotRegion().schedule(spread.context())
    assert [one.description for one in operators] == ["move-hot-write-peer"], "leaders are even, replicas are not"


def test_even_and_lonely_flows_are_left_alone() -> None:
    assert BalanceHotRegion().schedule(hot_cluster({s: [10, 10] for s in range(1, 6)}, FlowKind.READ).context()) == []
    assert BalanceHotRegion().schedule(hot_cluster({1: [50]}, FlowKind.READ).context()) == [], (
        "moving all of it moves the peak"
    )


def test_only_lasting_heat_counts() -> None:
    table = hot_cluster({1: [10, 10, 10]}, FlowKind.READ, hot_region_cache_hits_threshold=6)
    assert BalanceHotRegion().schedule(table.context()) == []


def test_a_move_is_counted_until_the_reports_show_it() -> None:
    table = hot_cluster({1: [10, 10, 10, 10]}, FlowKind.READ)
    scheduler = BalanceHotRegion()
    moved = []
    for _ in range(10):
        operators = scheduler.schedule(table.context())
        moved += [one.region_id for one in operators]
        play(table, operators)
    assert len(moved) == len(set(moved)) == 3, "one stays, though the rates still say that store 1 carries all"


# stores without leaders, and with


def test_evicted_stores_lead_nothing() -> None:
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 21)])
    scheduler = EvictLeader()
    scheduler.configure({"store_id": 1})
    run(table, scheduler)
    assert leaders(table) == [0, 10, 10, 0]
    scheduler.configure({"store_id": 2})
    assert scheduler.config()["store-ids"] == [1, 2]
    run(table, scheduler)
    assert leaders(table) == [0, 0, 20, 0]
    scheduler.configure({"delete_store_id": 1})
    assert list(scheduler.stores_without_new_leaders()) == [2]


def test_granted_stores_lead_all_they_hold() -> None:
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 11)] + [region(11, 1, 2, 4)])
    scheduler = GrantLeader()
    scheduler.configure({"store-ids": [3]})
    run(table, scheduler)
    assert leaders(table) == [1, 0, 10, 0]
    kept = frozenset(scheduler.stores_that_keep_leaders())
    assert all(
        step.from_store_id != 3
        for _ in range(5)
        for operator in BalanceLeader().schedule(table.context(paused_out=kept))
        for step in operator.steps
        if isinstance(step, TransferLeader)
    )


def test_one_slow_store_is_evicted_until_it_is_well() -> None:
    table = cluster(3, [region(number, 1, 2, 3) for number in range(1, 11)])
    scheduler = EvictSlowStore()
    assert scheduler.schedule(table.context()) == []
    table.view.table[1] = replace(table.view.table[1], slow_score=100)
    run(table, scheduler)
    assert leaders(table)[0] == 0
    assert scheduler.evicted == 1
    table.view.table[1] = replace(table.view.table[1], slow_score=1)
    scheduler.schedule(table.context())
    table.now += 599
    scheduler.schedule(table.context())
    assert scheduler.evicted == 1
    table.now += 2
    scheduler.schedule(table.context())
    assert scheduler.evicted == 0


def test_several_slow_stores_are_nobodys_fault() -> None:
    table = cluster(3, [region(1, 1, 2, 3)])
    for s in (1, 2):
        table.view.table[s] = replace(table.view.table[s], slow_score=100)
    scheduler = EvictSlowStore()
    assert scheduler.schedule(table.context()) == []
    assert scheduler.evicted == 0


def test_labels_reject_leaders() -> None:
    table = cluster(3, [region(number, 1, 2, 3) for number in range(1, 7)], {1: {"use": "backup"}})
    scheduler = LabelScheduler()
    scheduler.configure({"reject-leader": [{"key": "use", "value": "backup"}]})
    run(table, scheduler)
    assert leaders(table) == [0, 3, 3]


# ranges, shuffling, merging


def test_a_range_is_spread_by_itself() -> None:
    inside = [region(number, 1, 2, 3, size_bytes=0) for number in range(1, 13)]
    outside = [region(number, 4, 5, 6) for number in range(101, 113)]
    table = cluster(6, inside + outside)
    scheduler = ScatterRange()
    scheduler.configure({"range-name": "table", "start-key": key(1).hex(), "end-key": key(13).hex()})
    assert scheduler.name == "scatter-range-table"
    run(table, scheduler)
    held = Counter(peer.store_id for one in table.view.regions[:12] for peer in one.peers)
    led = Counter(one.leader_store_id for one in table.view.regions[:12])
    assert max(held.values()) - min(held[s] for s in range(1, 7)) <= 3, held
    assert max(led.values()) - min(led[s] for s in range(1, 7)) <= 3, led
    assert table.view.regions[12:] == outside


def test_shuffling_moves_something_and_breaks_nothing() -> None:
    table = cluster(5, [region(number, 1, 2, 3) for number in range(1, 11)])
    before = list(table.view.regions)
    for _ in range(30):
        play(table, ShuffleLeader().schedule(table.context()))
        play(table, ShuffleRegion().schedule(table.context()))
    assert table.view.regions != before
    assert all(len(one.peers) == 3 for one in table.view.regions)


def test_random_merges_are_pairs_of_neighbours() -> None:
    table = cluster(4, [region(number, 1, 2, 3) for number in range(1, 6)])
    pair = next(filter(None, (RandomMerge().schedule(table.context()) for _ in range(20))))
    assert len(pair) == 2
    assert abs(pair[0].region_id - pair[1].region_id) == 1
    assert table.controller.add(pair, table.now)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("balance-leader", {"batch": 0}),
        ("balance-leader", {"batch": True}),
        ("balance-leader", {"nothing": 1}),
        ("balance-region", {"ranges": [{"start-key": "zz", "end-key": ""}]}),
        ("balance-region", {"ranges": [{"start-key": "02", "end-key": "01"}]}),
        ("balance-hot-region", {"src-tolerance-ratio": 0.5}),
        ("evict-leader", {"store_id": "1"}),
        ("grant-leader", {"store-ids": []}),
        ("evict-slow-store", {"recovery-duration": -1}),
        ("scatter-range", {"range-name": "a/b"}),
        ("scatter-range", {"range-name": "a", "start-key": "02", "end-key": "01"}),
        ("shuffle-region", {"roles": ["boss"]}),
        ("label", {"reject-leader": [1]}),
        ("shuffle-leader", {"x": 1}),
    ],
)
def test_bad_configurations_are_refused(kind: str, config: dict[str, object]) -> None:
    with pytest.raises(SchedulerConfigError):
        make_scheduler(kind, config)


def test_every_scheduler_can_be_made_and_takes_its_own_configuration() -> None:
    configs: dict[str, dict[str, Any]] = {
        "evict-leader-scheduler": {"store_id": 1},
        "grant-leader-scheduler": {"store-ids": [1]},
    }
    configs["scatter-range-scheduler"] = {"range-name": "a"}
    table = cluster(3, [])
    for kind in TYPES:
        scheduler = make_scheduler(kind, configs.get(kind, {}))
        again = make_scheduler(kind, scheduler.config())
        assert again.config() == scheduler.config()
        assert scheduler.is_allowed(table.context())
        assert scheduler.schedule(table.context()) == [], "an empty cluster has nothing to move"
    with pytest.raises(SchedulerUnknown):
        make_scheduler("nothing", {})
