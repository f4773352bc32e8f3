"""Which key divides a region's reads: evenly, cutting few of them, inside the region; and when there is none."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from core_py.runtime.config import ByteSize
from protos.kvproto import metapb_pb2
from tikv_py.raftstore.config import LoadSplitConfig
from tikv_py.raftstore.load_split import HotReads, KeyRange, is_hot

CONFIG = LoadSplitConfig()
REGION = metapb_pb2.Region(id=1)


def key(number: int) -> bytes:
    return b"k%05d" % number


def recorded(reads: list[KeyRange], config: LoadSplitConfig = CONFIG) -> HotReads:
    """The reads dealt out over the seconds that are needed."""
    hot = HotReads(config, random.Random(1))
    per_second = len(reads) // config.detect_times
    for second in range(config.detect_times):
        for start, end in reads[second * per_second : (second + 1) * per_second]:
            hot.add(start, end)
        assert hot.end_second() == (second == config.detect_times - 1)
    return hot


def points(count: int, seed: int = 0) -> list[KeyRange]:
    rng = random.Random(seed)
    return [(key(at), key(at)) for at in (rng.randrange(10_000) for _ in range(count))]


def test_thresholds() -> None:
    config = replace(CONFIG, qps_threshold=100, byte_threshold=ByteSize(1000))
    assert is_hot(config, 100, 0, 1.0)
    assert not is_hot(config, 199, 1999, 2.0)
    assert is_hot(config, 0, 2000, 2.0)


def test_even_reads_are_divided_in_the_middle() -> None:
    for seed in range(20):
        found = recorded(points(50_000, seed)).split_key(REGION)
        assert found is not None
        assert key(3_500) < found < key(6_500)


def test_a_skewed_load_is_divided_where_its_reads_are() -> None:
    rng = random.Random(3)
    reads = [(key(at), key(at)) for at in (9_000 + int(rng.gauss(0, 100)) for _ in range(20_000))]
    found = recorded(reads).split_key(REGION)
    assert found is not None
    assert key(8_900) < found < key(9_100)


def test_one_hot_key_cannot_be_divided() -> None:
    assert recorded([(key(7), key(7))] * 5_000).split_key(REGION) is None


def test_scans_of_everything_cannot_be_divided_and_short_ones_can() -> None:
    assert recorded([(b"", b"")] * 5_000).split_key(REGION) is None
    assert recorded([(key(0), key(9_999))] * 5_000).split_key(REGION) is None
    short = [(start, start + b"0") for start, _ in points(5_000)]
    assert recorded(short).split_key(REGION) is not None


def test_a_key_that_would_cut_most_reads_is_not_taken() -> None:
    """Ranges of 6,000 keys among 10,000: wherever they are cut, most are cut."""
    rng = random.Random(5)
    reads = [(key(at), key(at + 6_000)) for at in (rng.randrange(4_000) for _ in range(5_000))]
    assert recorded(reads).split_key(REGION) is None


def test_few_reads_say_nothing() -> None:
    config = replace(CONFIG, detect_times=2, sample_num=60)
    assert recorded(points(98), config).split_key(REGION) is None
    assert recorded(points(104), config).split_key(REGION) is not None


@given(st.integers(0, 9_999), st.integers(0, 9_999), st.integers(0, 5))
def test_a_split_key_lies_strictly_inside_and_divides_well_enough(low: int, high: int, seed: int) -> None:
    region = metapb_pb2.Region(id=1, start_key=key(low), end_key=key(high))
    reads = points(4_000, seed)
    config = replace(CONFIG, sample_num=400)  # every read is remembered
    found = recorded(reads, config).split_key(region)
    if found is not None:
        assert key(low) < found < key(high)
        left = sum(start < found for start, _ in reads)
        assert abs(left - (len(reads) - left)) <= config.split_balance_score * len(reads)
