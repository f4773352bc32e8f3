"""Every failpoint of the catalogue stands at one place in the code, behind the `armed` flag, and is armed by a test."""

from __future__ import annotations

from tests.health.failpoint_table import PAGE, SECTIONS, arming_tests, page, sites
from tikv_py.failpoints import POINTS


def test_every_point_stands_at_one_place() -> None:
    assert sorted(sites().keys() - POINTS.keys()) == [], "placed, but not in the catalogue"
    assert sorted(POINTS.keys() - sites().keys()) == [], "in the catalogue, but placed nowhere"
    assert {name: places for name, places in sites().items() if len(places) > 1} == {}, "placed more than once"


def test_every_place_fits_its_entry_and_costs_nothing_while_unarmed() -> None:
    for name, places in sites().items():
        for site in places:
            assert site.guarded, f"{site.place}: ask `armed` first"
            assert site.waits == POINTS[name].waits, (
                f"{site.place}: `reach` is for waiting points, `hit` for the others"
            )


def test_every_point_is_armed_by_a_test() -> None:
    assert sorted(POINTS.keys() - arming_tests().keys()) == []


def test_the_page_of_the_docs_is_up_to_date() -> None:
    assert [name for _, points in SECTIONS for name in points] == list(POINTS), "a section is missing"
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.health.failpoint_table"
