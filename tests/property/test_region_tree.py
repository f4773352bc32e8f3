"""The region tree and its indices beside a list of regions that is searched from end to end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.cluster import ordered_index
from pd_py.cluster.ordered_index import OrderedIndex
from pd_py.cluster.region_tree import RegionTree
from pd_py.schedule.view import KeyRange, PeerKind, PeerView, RegionView, Role


@dataclass
class ListOfRegions:
    """The oracle: no index, no order, nothing to get out of step."""

    regions: list[RegionView] = field(default_factory=list)

    def put(self, region: RegionView) -> bool:
        old = next((one for one in self.regions if one.region_id == region.region_id), None)
        if old is not None and (region.version < old.version or region.conf_ver < old.conf_ver):
            return False
        if old is not None and 0 < region.term < old.term:
            return False
        others = [one for one in self.regions if one.region_id != region.region_id and overlaps(one, region)]
        if any(one.version > region.version for one in others):
            return False
        self.regions = [one for one in self.regions if one is not old and one not in others] + [region]
        return True

    def ordered(self) -> list[RegionView]:
        return sorted(self.regions, key=lambda one: one.start_key)

    def held(self, store_id: int, kind: PeerKind) -> list[RegionView]:
        return [one for one in self.ordered() if holds(one, store_id, kind)]


def overlaps(one: RegionView, other: RegionView) -> bool:
    return (not other.end_key or one.start_key < other.end_key) and (not one.end_key or other.start_key < one.end_key)


def holds(region: RegionView, store_id: int, kind: PeerKind) -> bool:
    peer = region.on_store(store_id)
    if peer is None:
        return False
    if kind is PeerKind.PENDING:
        return peer.peer_id in region.pending
    if peer.role is Role.LEARNER:
        return kind is PeerKind.LEARNER
    return kind is (PeerKind.LEADER if region.leader_store_id == store_id else PeerKind.FOLLOWER)


def lies_in(region: RegionView, ranges: list[KeyRange]) -> bool:
    return any(
        region.start_key >= wanted.start and (not wanted.end or (bool(region.end_key) and region.end_key <= wanted.end))
        for wanted in ranges
    )


STORES = range(1, 6)
edge = st.integers(0, 12)


def key(number: int) -> bytes:
    return b"%02d" % number if number else b""


@st.composite
def region(draw: st.DrawFn) -> RegionView:
    region_id, start, length = draw(st.integers(1, 7)), draw(edge), draw(edge)
    stores = draw(st.lists(st.sampled_from(STORES), unique=True, min_size=1, max_size=4))
    roles = [draw(st.sampled_from((Role.VOTER, Role.VOTER, Role.LEARNER, Role.INCOMING_VOTER))) for _ in stores]
    peers = tuple(PeerView(region_id * 10 + at, at, role) for at, role in zip(stores, roles, strict=True))
    return RegionView(
        region_id,
        key(start),
        key(start + length) if length else b"",
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
        peers,
        draw(st.sampled_from([0, *stores])),
        pending=frozenset(peer.peer_id for peer in peers if draw(st.booleans())),
        size_bytes=draw(st.integers(0, 100)),
        term=draw(st.integers(0, 3)),
    )


@st.composite
def key_range(draw: st.DrawFn) -> KeyRange:
    start, length = draw(edge), draw(edge)
    return KeyRange(key(start), key(start + length) if length else b"")


@settings(max_examples=150, deadline=None)
@given(st.lists(region(), max_size=30), st.lists(key_range(), min_size=1, max_size=3), st.integers(0, 5), edge)
def test_the_tree_is_a_list_of_regions(
    reports: list[RegionView], ranges: list[KeyRange], count: int, place: int
) -> None:
    gone: list[RegionView] = []
    tree, slow = RegionTree(gone.append), ListOfRegions()
    for one in reports:
        before = slow.regions
        assert tree.put(one) == slow.put(one)
        displaced = {other.region_id for other in before} - {other.region_id for other in slow.regions}
        assert {other.region_id for other in gone} == displaced
        gone.clear()
    tree.check_invariants()
    ordered = slow.ordered()
    assert tree.all() == ordered
    assert tree.total_bytes == sum(one.size_bytes for one in ordered)
    wanted = KeyRange(ranges[0].start, ranges[0].end)
    touching = [one for one in ordered if overlaps(one, RegionView(0, wanted.start, wanted.end, 0, 0, ()))]
    assert tree.scan(wanted.start, wanted.end, 0) == touching
    assert tree.scan(wanted.start, wanted.end, 2) == touching[:2]
    at = key(place)
    holder = next((one for one in ordered if one.start_key <= at and (not one.end_key or at < one.end_key)), None)
    lefts = [one for one in ordered if one.start_key < (holder.start_key if holder else at)]
    assert tree.find(at) == holder
    assert tree.find_previous(at) == (lefts[-1] if lefts else None)
    for one in ordered:
        left = next((other for other in ordered if other.end_key == one.start_key and one.start_key), None)
        right = next((other for other in ordered if one.end_key and other.start_key == one.end_key), None)
        assert tree.neighbours(one) == (left, right)
    for store_id in STORES:
        for kind in PeerKind:
            held = slow.held(store_id, kind)
            assert tree.held_by(store_id).count(kind) == len(held)
            allowed = [one for one in held if lies_in(one, ranges)]
            drawn = tree.random(store_id, kind, ranges, count, random.Random(place))
            assert len(drawn) == min(count, len(allowed))
            assert len({one.region_id for one in drawn}) == len(drawn)
            assert all(one in allowed for one in drawn)
        on_store = [one for one in ordered if one.on_store(store_id)]
        assert sorted(tree.of_store(store_id), key=lambda one: one.start_key) == on_store
        assert tree.held_by(store_id).region_bytes == sum(one.size_bytes for one in on_store)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=200))
def test_an_index_of_small_blocks_keeps_its_order(changes: list[tuple[bool, int]]) -> None:
    real, ordered_index.BLOCK = ordered_index.BLOCK, 4
    try:
        index, known = OrderedIndex(), set[int]()
        for is_insert, number in changes:
            if is_insert and number not in known:
                index.insert(key(number), number)
                known.add(number)
            elif not is_insert and number in known:
                index.remove(key(number))
                known.discard(number)
        index.check_invariants()
        numbers = sorted(known)
        assert list(index.all_ids()) == numbers
        assert [index.select(at) for at in range(len(index))] == numbers
        for number in range(62):
            below = [one for one in numbers if one < number]
            at_most = [one for one in numbers if one <= number]
            assert index.rank(key(number)) == len(below)
            assert index.get(key(number)) == (number if number in known else None)
            assert index.floor(key(number)) == (at_most[-1] if at_most else None)
            assert index.below(key(number)) == (below[-1] if below else None)
            assert list(index.ids_from(key(number))) == (at_most[-1:] + numbers[len(at_most) :])
        again = OrderedIndex()
        again.load((key(number), number) for number in numbers)
        again.check_invariants()
        assert list(again.all_ids()) == numbers
    finally:
        ordered_index.BLOCK = real


def test_every_region_of_a_range_is_drawn_as_often_as_any_other() -> None:
    tree = RegionTree()
    for number in range(40):
        tree.put(RegionView(number + 1, key(number), key(number + 1), 1, 1, (PeerView(number + 100, 1),), 1))
    rng, drawn = random.Random(7), dict.fromkeys(range(11, 21), 0)
    for _ in range(4000):
        for one in tree.random(1, PeerKind.LEADER, [KeyRange(key(10), key(15)), KeyRange(key(14), key(20))], 3, rng):
            drawn[one.region_id] += 1
    assert all(1050 < times < 1350 for times in drawn.values()), drawn


def test_a_load_in_order_equals_single_reports() -> None:
    regions = [
        RegionView(
            number + 1,
            key(number),
            key(number + 1),
            1,
            1,
            (PeerView(number + 100, number % 3 + 1),),
            0,
            size_bytes=number,
        )
        for number in range(50)
    ]
    loaded, put = RegionTree(), RegionTree()
    loaded.load(regions)
    for one in regions:
        put.put(one)
    loaded.check_invariants()
    assert loaded.all() == put.all()
    overlapping = RegionTree()
    overlapping.load([*regions, RegionView(99, key(3), key(8), 1, 2, (PeerView(1, 1),))])
    overlapping.check_invariants()
    assert overlapping.get(99) is not None
    assert overlapping.get(5) is None
