"""Where regions are cut: the choice against a dumb oracle, the scan against a walk over all pairs, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core_py.codec import memcomparable
from protos.kvproto import metapb_pb2
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Engine, Pair
from tikv_py.engine.rocks import RocksEngine
from tikv_py.mvcc import keys
from tikv_py.raftstore import split_check
from tikv_py.raftstore.split_check import Measured, RegionScan, Run, SplitLimits

NO_KEYS = 1 << 60
sizes = st.lists(st.integers(1, 60), max_size=80)


def region(start: bytes = b"", end: bytes = b"") -> metapb_pb2.Region:
    return metapb_pb2.Region(id=1, start_key=start, end_key=end)


def raw_key(number: int) -> bytes:
    return b"k%06d" % number


def measured(weights: list[int]) -> Measured:
    runs = tuple(Run(b"z" + raw_key(at), size, 1) for at, size in enumerate(weights))
    return Measured(runs, sum(weights), len(runs))


def oracle(weights: list[int], limits: SplitLimits) -> list[int]:
    """The positions of the split keys, by recomputing every sum from scratch."""
    if sum(weights) <= limits.max_size:
        return []
    cuts: list[int] = []
    for at in range(1, len(weights)):
        begin = cuts[-1] if cuts else 0
        if at > begin and sum(weights[begin : at + 1]) > limits.split_size and len(cuts) < limits.batch_limit:
            cuts.append(at)
    if cuts and sum(weights[cuts[-1] :]) + limits.split_size < limits.max_size:
        cuts.pop()
    return cuts


@given(sizes, st.integers(1, 200), st.integers(0, 200), st.integers(1, 5))
@example([1, 2, 2], 1, 3, 2)
def test_split_keys_are_the_oracles(weights: list[int], split: int, more: int, batch: int) -> None:
    limits = SplitLimits(split + more, split, NO_KEYS, NO_KEYS, batch)
    found = split_check.choose(measured(weights), region(), limits)
    assert found == [raw_key(at) for at in oracle(weights, limits)]
    cuts = [int(key[1:]) for key in found]
    for begin, end in zip([0, *cuts], cuts, strict=False):
        part = weights[begin:end]
        assert sum(part) <= split or len(part) == 1
    if found and len(found) < batch:
        # The last piece takes in the one before it when it would be small: less than `more`, and that one at most a piece.
        piece = max(split, max(weights))
        assert sum(weights[cuts[-1] :]) < max(split + piece + 1, more + piece), "nothing large is left over"


@given(sizes, st.integers(1, 30), st.integers(0, 30))
def test_keys_split_like_bytes(weights: list[int], split: int, more: int) -> None:
    limits = SplitLimits(1 << 40, 1 << 40, split + more, split, 10)
    by_size = SplitLimits(split + more, split, NO_KEYS, NO_KEYS, 10)
    assert split_check.choose(measured(weights), region(), limits) == split_check.choose(
        measured([1] * len(weights)), region(), by_size
    )


@given(sizes)
def test_half_is_the_nearest_cut_to_the_middle(weights: list[int]) -> None:
    found = split_check.half(measured(weights), region(raw_key(0)))
    if len(weights) < 2:
        assert found is None
    else:
        off = {at: abs(sum(weights[:at]) - sum(weights[at:])) for at in range(1, len(weights))}
        assert found is not None
        assert off[int(found[1:])] == min(off.values())


@given(st.binary(max_size=30), st.integers(0, (1 << 64) - 1))
def test_a_bound_does_not_part_versions(user_key: bytes, ts: int) -> None:
    encoded = memcomparable.encode(user_key)
    assert split_check.split_bound(keys.versioned(b"z" + encoded, ts)) == encoded
    assert split_check.split_bound(b"z" + encoded) == encoded
    raw = b"z" + user_key
    bound = split_check.split_bound(raw)
    assert user_key.startswith(bound)
    assert bound == user_key or memcomparable.encode(memcomparable.decode_whole(bound)) == bound


def test_one_user_key_of_many_versions_is_not_split() -> None:
    data_key = keys.data_key(b"hot")
    runs = tuple(Run(keys.versioned(data_key, ts), 100, 1) for ts in range(50, 0, -1))
    limits = SplitLimits(150, 100, NO_KEYS, NO_KEYS, 10)
    found = split_check.choose(Measured(runs, 5000, 50), region(), limits)
    assert found in ([], [data_key[1:]])
    assert split_check.choose(Measured(runs, 5000, 50), region(data_key[1:]), limits) == []
    assert split_check.half(Measured(runs, 5000, 50), region(data_key[1:])) is None


@given(sizes, st.integers(0, 80), st.integers(0, 80))
def test_split_keys_lie_strictly_inside(weights: list[int], low: int, high: int) -> None:
    bounds = region(raw_key(low), raw_key(high))
    made = measured(weights)
    found = split_check.choose(made, bounds, SplitLimits(20, 10, NO_KEYS, NO_KEYS, 10))
    middle = split_check.half(made, bounds)
    for key in [*found, *([middle] if middle is not None else [])]:
        assert raw_key(low) < key < raw_key(high)
    assert found == sorted(set(found))


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = RocksEngine(str(tmp_path / "db")) if request.param == "rocks" else MemoryEngine()
    yield made
    made.close()


def put(engine: Engine, cf: str, pairs: list[Pair]) -> None:
    batch = engine.batch()
    for key, value in pairs:
        batch.put(cf, key, value)
    engine.write(batch)


def measure(engine: Engine, one: metapb_pb2.Region, split_size: int) -> Measured:
    view = engine.snapshot(split_check.region_ranges(one))
    scan = RegionScan(view, split_size)
    while scan.advance():
        pass
    view.release()
    return scan.result()


def test_a_scan_sums_up_the_region_and_nothing_else(engine: Engine) -> None:
    pairs = [(b"z" + raw_key(i), b"v" * (i % 300)) for i in range(30_000)]
    put(engine, CF_DEFAULT, pairs)
    one = region(raw_key(2_000), raw_key(29_000))
    inside = pairs[2_000:29_000]
    found = measure(engine, one, 1 << 20)
    assert found.size == sum(len(key) + len(value) for key, value in inside)
    assert found.keys == len(inside)
    assert found.runs[0].first_key == inside[0][0]
    assert max(run.keys for run in found.runs) <= split_check.RUN_PAIRS_MAX
    limits = SplitLimits(3 << 19, 1 << 20, NO_KEYS, NO_KEYS, 10)
    cuts = split_check.choose(found, one, limits)
    assert cuts
    sizes_of_parts = part_sizes(inside, cuts)
    assert all(abs(size - (1 << 20)) < (1 << 20) // 20 for size in sizes_of_parts[:-1])
    middle = split_check.half(found, one)
    assert middle is not None
    left, right = part_sizes(inside, [middle])
    assert abs(left - right) < found.size // 20


def part_sizes(pairs: list[Pair], cuts: list[bytes]) -> list[int]:
    out = [0] * (len(cuts) + 1)
    for key, value in pairs:
        out[sum(key[1:] >= cut for cut in cuts)] += len(key) + len(value)
    return out


def test_large_values_make_short_runs(engine: Engine) -> None:
    put(engine, CF_DEFAULT, [(b"z" + raw_key(i), b"v" * 10_000) for i in range(600)])
    found = measure(engine, region(), 200_000)
    cuts = split_check.choose(found, region(), SplitLimits(300_000, 200_000, NO_KEYS, NO_KEYS, 100))
    parts = part_sizes([(b"z" + raw_key(i), b"v" * 10_000) for i in range(600)], cuts)
    assert all(170_000 <= size <= 200_000 for size in parts[:-1])


def test_transactional_keys_are_counted_once_and_cut_between_user_keys(engine: Engine) -> None:
    users = [b"user-%05d" % i for i in range(4_000)]
    data = [keys.data_key(user) for user in users]
    put(engine, CF_WRITE, [(keys.versioned(key, ts), b"w" * 20) for key in data for ts in (30, 20)])
    put(engine, CF_DEFAULT, [(keys.versioned(key, 29), b"v" * 300) for key in data])
    put(engine, CF_LOCK, [(data[7], b"lock")])
    found = measure(engine, region(), 1 << 20)
    assert found.keys == 8_000
    by_keys = split_check.choose(found, region(), SplitLimits(1 << 40, 1 << 40, 4_000, 3_000, 10))
    assert [memcomparable.decode_whole(key) in users for key in by_keys] == [True, True]
    middle = split_check.half(found, region())
    assert middle is not None
    assert users[1_900] < memcomparable.decode_whole(middle) < users[2_100]


def test_a_handful_of_keys_can_be_halved(engine: Engine) -> None:
    put(engine, CF_DEFAULT, [(b"z" + raw_key(i), b"v") for i in range(3)])
    found = measure(engine, region(), 96 << 20)
    assert split_check.half(found, region()) in (raw_key(1), raw_key(2))
    assert split_check.half(measure(engine, region(raw_key(2)), 96 << 20), region(raw_key(2))) is None
