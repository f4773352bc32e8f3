"""The coordinator on virtual time: what it keeps, that it drives scheduling, scattering and splitting, what it tells leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from core_py.errors import PdError, StorageError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from pd_py.cluster.coordinator import COLLECT_S, Coordinator
from pd_py.cluster.step_command import step_command
from pd_py.schedule.admin import BadOperatorRequest, OperatorRefused, RegionUnknown
from pd_py.schedule.limits import LimitType
from pd_py.schedule.operator import (
    AddLearner,
    ChangePeerV2Enter,
    DemoteVoter,
    MergeRegion,
    PromoteLearner,
    SplitRegion,
    Step,
)
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.placement.rule import Rule, RuleRole
from pd_py.schedule.schedulers.running import SchedulerExists, SchedulerNotFound
from pd_py.schedule.view import PeerView, RegionView, Role
from protos.kvproto import eraftpb_pb2
from tests.support.schedule_play import play
from tests.support.schedule_tables import TableView, region, store


class TableMetadata:
    """The metadata port over a dictionary; the next write fails on request."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.fails = False

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self.values.items() if key.startswith(prefix))

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        await asyncio.sleep(0)
        if self.fails:
            raise StorageError("the write may be lost")
        for key, value in changes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        return len(self.values)


class Bench:
    """A coordinator over a table whose leaders do at once what they are told."""

    def __init__(self, disk: TableMetadata, regions: list[RegionView], stores: int = 5, **options: object) -> None:
        self.view = TableView({s: store(s) for s in range(1, stores + 1)}, regions, ScheduleOptions(**options))  # type: ignore[arg-type]
        self.view.recount()
        self.metastore = disk
        self.told: list[tuple[int, Step]] = []
        self.last_id = 1000
        self.coordinator = Coordinator(
            self.view, self.metastore, "/pd/7", LoopClock(), Random(3), self, self.tell, patrol_interval_s=0.05
        )

    def take(self) -> int:
        self.last_id += 1
        return self.last_id

    async def ensure(self, _count: int) -> None:
        """There are always more."""

    def tell(self, one: RegionView, step: Step) -> None:
        self.told.append((one.region_id, step))
        asyncio.get_running_loop().call_soon(self.act, one.region_id, step)

    def act(self, region_id: int, step: Step) -> None:
        one = self.view.region(region_id)
        assert one is not None
        if isinstance(step, SplitRegion):
            assert not self.coordinator.blocks_split(region_id), "the store asks for ids now"
            starts = [one.start_key, *step.keys]
            ends = [*step.keys, one.end_key]
            version = one.version + len(step.keys)
            parts = [
                replace(
                    one,
                    region_id=region_id if at == len(step.keys) else region_id * 100 + at,
                    start_key=start,
                    end_key=end,
                    version=version,
                )
                for at, (start, end) in enumerate(zip(starts, ends, strict=True))
            ]
            self.view.regions = [other for other in self.view.regions if other.region_id != region_id] + parts
            self.coordinator.on_region_split([part.region_id for part in parts])
            self.coordinator.on_region_heartbeat(parts[-1])
            return
        after = play(one, step)
        self.view.put(after)
        self.coordinator.on_region_heartbeat(after)


def test_a_lonely_region_gets_its_replicas() -> None:
    async def run() -> None:
        bench = Bench(TableMetadata(), [region(1, 1)])
        await bench.coordinator.load()
        bench.coordinator.start()
        await asyncio.sleep(20)
        await bench.coordinator.close()
        one = bench.view.regions[0]
        assert len(one.peers) == 3
        assert all(peer.role is Role.VOTER for peer in one.peers)
        assert len(bench.coordinator.operators) == 0

    run_virtual(run())


def test_schedulers_balance_leaders() -> None:
    async def run() -> None:
        bench = Bench(TableMetadata(), [region(number, 1, 2, 3) for number in range(1, 31)], stores=3)
        await bench.coordinator.load()
        bench.coordinator.start()
        await asyncio.sleep(60)
        moves = len(bench.told)
        counts = [bench.view.table[s].leader_count for s in (1, 2, 3)]
        assert max(counts) - min(counts) <= 1
        await asyncio.sleep(600)
        assert len(bench.told) == moves, "what is balanced stays"
        await bench.coordinator.close()

    run_virtual(run())


def test_what_people_set_survives() -> None:
    async def run() -> None:
        disk = TableMetadata()
        first = Bench(disk, [region(1, 1, 2, 3)])
        one = first.coordinator
        await one.load()
        assert one.schedulers() == sorted(one.schedulers())
        assert "balance-leader-scheduler" in one.schedulers()
        await one.change_rules(lambda rules: rules.plan_set([Rule("g", "1", RuleRole.LEARNER, 1, b"a", b"b")], []))
        rule_json = {
            "id": "quiet",
            "labels": [{"key": "schedule", "value": "deny"}],
            "rule_type": "key-range",
            "data": [{"start_key": "", "end_key": ""}],
        }
        await one.change_labels([one.labels.parse(rule_json)])
        await one.configure_scheduler("balance-leader-scheduler", {"batch": 7})
        await one.set_store_limit(None, None, 30.0)
        await one.set_store_limit(2, LimitType.ADD_PEER, 5.0)
        again = Bench(disk, [region(1, 1, 2, 3)]).coordinator
        await again.load()
        assert [rule.key for rule in again.rules.all()] == [("g", "1"), ("pd", "default")]
        assert [rule.id for rule in again.labels.rules()] == ["quiet"]
        assert again.scheduler_config("balance-leader-scheduler")["batch"] == 7
        limits = again.store_limits()
        assert (limits[1].add_peer, limits[2].add_peer, limits[2].remove_peer) == (30.0, 5.0, 30.0)
        await again.remove_scheduler("balance-leader-scheduler")
        third = Bench(disk, [region(1, 1, 2, 3)]).coordinator
        await third.load()
        assert "balance-leader-scheduler" not in third.schedulers()
        assert third.schedulers("disabled") == ["balance-leader-scheduler"]
        assert await third.add_scheduler("balance-leader") == "balance-leader-scheduler"
        with pytest.raises(SchedulerExists):
            await third.add_scheduler("balance-leader")
        with pytest.raises(SchedulerNotFound):
            await third.remove_scheduler("nobody")

    run_virtual(run())


def test_what_cannot_be_stored_has_no_effect() -> None:
    async def run() -> None:
        disk = TableMetadata()
        one = Bench(disk, [region(1, 1, 2, 3)]).coordinator
        await one.load()
        disk.fails = True
        quiet = one.labels.parse(
            {
                "id": "quiet",
                "labels": [{"key": "schedule", "value": "deny"}],
                "rule_type": "key-range",
                "data": [{"start_key": "", "end_key": ""}],
            }
        )
        with pytest.raises(StorageError):
            await one.change_rules(lambda rules: rules.plan_set([Rule("g", "1", RuleRole.LEARNER, 1)], []))
        with pytest.raises(StorageError):
            await one.change_labels([quiet])
        with pytest.raises(StorageError):
            await one.set_store_limit(None, None, 1.0)
        with pytest.raises(StorageError):
            await one.add_scheduler("shuffle-leader")
        with pytest.raises(StorageError):
            await one.configure_scheduler("balance-leader-scheduler", {"batch": 9})
        assert len(one.rules) == 1
        assert one.labels.rules() == []
        assert one.store_limits()[1].add_peer == 15.0
        assert "shuffle-leader-scheduler" not in one.schedulers()
        assert one.scheduler_config("balance-leader-scheduler")["batch"] == 4

    run_virtual(run())


def test_a_paused_scheduler_rests() -> None:
    async def run() -> None:
        bench = Bench(TableMetadata(), [region(number, 1, 2, 3) for number in range(1, 31)], stores=3)
        await bench.coordinator.load()
        bench.coordinator.pause_scheduler("all", 100.0)
        assert "balance-leader-scheduler" in bench.coordinator.schedulers("paused")
        bench.coordinator.start()
        await asyncio.sleep(50)
        assert bench.told == []
        bench.coordinator.pause_scheduler("all", 0.0)
        await asyncio.sleep(50)
        assert bench.told != []
        await bench.coordinator.close()

    run_virtual(run())


def test_operators_by_name() -> None:
    async def run() -> None:
        bench = Bench(TableMetadata(), [region(1, 1, 2, 3), region(2, 1, 2, 3)])
        add = bench.coordinator.add_operator
        await bench.coordinator.load()
        await add("transfer-leader", {"region_id": 1, "to_store_id": 2})
        await asyncio.sleep(0.1)
        assert bench.view.regions[0].leader_store_id == 2
        await add("transfer-peer", {"region_id": 1, "from_store_id": 3, "to_store_id": 4})
        await asyncio.sleep(0.1)
        assert sorted(peer.store_id for peer in bench.view.regions[0].peers) == [1, 2, 4]
        await add("add-peer", {"region_id": 1, "store_id": 5})
        await asyncio.sleep(0.1)
        await asyncio.sleep(10)
        await add("remove-peer", {"region_id": 1, "store_id": 5})
        await asyncio.sleep(0.1)
        assert sorted(peer.store_id for peer in bench.view.regions[0].peers) == [1, 2, 4]
        refusals: list[tuple[str, dict[str, Any], type[PdError], str]] = [
            ("transfer-leader", {"region_id": 9, "to_store_id": 2}, RegionUnknown, "region 9 not found"),
            ("transfer-leader", {"region_id": 1, "to_store_id": 3}, OperatorRefused, "region has no voter in store 3"),
            ("transfer-leader", {"region_id": "1"}, BadOperatorRequest, "missing region id"),
            ("add-peer", {"region_id": 1, "store_id": 1}, OperatorRefused, "region already has peer in store 1"),
            ("add-peer", {"region_id": 1, "store_id": 77}, OperatorRefused, "store 77 not found"),
            ("split-region", {"region_id": 1}, BadOperatorRequest, "missing split policy"),
            ("explode", {"region_id": 1}, BadOperatorRequest, "unknown operator"),
        ]
        for name, fields, kind, text in refusals:
            with pytest.raises(kind) as caught:
                await add(name, fields)
            assert caught.value.message == text
        assert len(bench.coordinator.operators) == 0

    run_virtual(run())


def test_regions_are_split_at_keys() -> None:
    async def run() -> None:
        bench = Bench(TableMetadata(), [replace(region(1, 1, 2, 3), start_key=b"", end_key=b"")])
        await bench.coordinator.load()
        percentage, region_ids = await bench.coordinator.split_regions([b"g", b"c", b"c", b"m"])
        assert percentage == 100
        assert len(region_ids) == 3
        assert [one.start_key for one in bench.view.scan(b"", b"", 0)] == [b"", b"c", b"g", b"m"]
        assert await bench.coordinator.split_regions([b"c"]) == (100, [region_ids[0]])

    run_virtual(run())


def test_a_group_of_regions_is_scattered_evenly() -> None:
    async def run() -> None:
        regions = [region(number, 1, 2, 3, size_bytes=0) for number in range(1, 31)]
        bench = Bench(TableMetadata(), regions, stores=6)
        await bench.coordinator.load()
        percentage, failed = await bench.coordinator.scatter(range(1, 31), "table")
        assert (percentage, failed) == (100, [])
        await asyncio.sleep(30)
        for _ in range(100):
            for one in bench.view.regions:
                bench.coordinator.on_region_heartbeat(one)
            await asyncio.sleep(0.1)
        bench.view.recount()
        held = [bench.view.table[s].region_count for s in range(1, 7)]
        led = [bench.view.table[s].leader_count for s in range(1, 7)]
        assert max(held) - min(held) <= 3, held
        assert max(led) - min(led) <= 2, led
        assert await bench.coordinator.scatter([1, 999], "table", 1) == (50, [999])

    run_virtual(run())


def test_commands_for_the_wire() -> None:
    one = region(1, 1, 2, 3)
    add = step_command(one, AddLearner(4, 104))
    assert add is not None
    assert add.change_peer.change_type == eraftpb_pb2.AddLearnerNode
    assert add.change_peer.peer.role == 1
    there = replace(one, peers=(*one.peers, PeerView(104, 4, Role.LEARNER)))
    assert step_command(there, AddLearner(4, 104)) is None, "it catches up"
    enter = step_command(there, ChangePeerV2Enter((PromoteLearner(4, 104),), (DemoteVoter(3, 103),)))
    assert enter is not None
    assert [(change.change_type, change.peer.store_id) for change in enter.change_peer_v2.changes] == [
        (eraftpb_pb2.AddNode, 4),
        (eraftpb_pb2.AddLearnerNode, 3),
    ]
    assert step_command(one, MergeRegion(one, region(2, 1), passive=True)) is None
    merging = step_command(one, MergeRegion(one, region(2, 1)))
    assert merging is not None
    assert merging.merge.target.id == 2


def test_nothing_is_balanced_before_most_leaders_are_known() -> None:
    async def main() -> None:
        regions = [replace(region(number, 1, 2, 3), leader_store_id=0) for number in range(1, 21)]
        bench = Bench(TableMetadata(), regions, stores=3)
        await bench.coordinator.load()
        await asyncio.sleep(1)
        assert not bench.coordinator._knows_enough()
        assert bench.coordinator.run_schedulers() == 0
        for one in regions[:15]:
            bench.view.put(replace(one, leader_store_id=1))
        assert not bench.coordinator._knows_enough()
        bench.view.put(replace(regions[15], leader_store_id=1))
        assert bench.coordinator._knows_enough()
        bench.view.put(replace(regions[15], leader_store_id=0))
        assert bench.coordinator._knows_enough(), "it is asked once"

    run_virtual(main())


def test_balancing_begins_after_some_minutes_whatever_is_known() -> None:
    async def main() -> None:
        bench = Bench(TableMetadata(), [replace(region(1, 1, 2, 3), leader_store_id=0)], stores=3)
        await bench.coordinator.load()
        assert not bench.coordinator._knows_enough()
        await asyncio.sleep(COLLECT_S + 1)
        assert bench.coordinator._knows_enough()

    run_virtual(main())
