"""Whatever is sent, every page answers with a refusal of its own or does what it is for: nothing fails unforeseen."""

from __future__ import annotations

import itertools
import json
import logging
import re

import pytest
from yarl import URL

from pd_py.api.app import application
from tests.unit.pd_api.member import Client, Member

PARAMETERS = ("1", "x", "-1", "0", "99999999999999999999", "%FF%00", "..", "1e3", "a%2Fb")
QUERIES = (
    "",
    "?limit=-5",
    "?key=%FF&end_key=%00&format=hex&limit=1e9",
    "?state=x&kind=&store_id=&scope=,",
    "?from=-1&bound=0&ttlSecond=-1",
)
VALUES: tuple[object, ...] = (None, True, -1, 1.5, 1e300, 1 << 70, "", "x", "\ud800", [], [None], {}, {"a": {}}, [[[]]])
FIELDS = re.findall(
    r"\S+",
    """name region_id to_store_id to_store_ids peer_roles from_store_id store_id source_region_id target_region_id policy keys
    group regions_id region_ids start_key end_key retry_limit split_keys rate type labels leader region delay id rules data
    rule_type role count index override label_constraints location_labels action group_id sets deletes cluster-version
    schedule max-replicas leader-priority batch range_name""",
)
NAMES = ("transfer-leader", "transfer-region", "split-region", "scatter-regions", "scatter-range-scheduler")
RAW = (b"", b" ", b"{", b"nul", b"NaN", b'{"rate": Infinity}', b'"\\ud800"', b"\xff", b"1e999", b"[" * 5000)
UNFORESEEN = "500 Internal Server Error"


def bodies() -> list[bytes]:
    """Bodies that are no JSON, that are JSON of the wrong shape, and objects with one field or all of them wrong."""
    plain = [json.dumps(value).encode() for value in VALUES]
    objects = [json.dumps({field: value}).encode() for field in FIELDS for value in VALUES[:1]]
    full = [json.dumps(dict.fromkeys(FIELDS, value)).encode() for value in VALUES]
    lists = [b"[" + one + b"]" for one in full]
    return [*RAW, *plain, *objects, *full, *lists]


def named() -> list[bytes]:
    """Operators and schedulers by name, with all their fields wrong."""
    return [json.dumps(dict.fromkeys(FIELDS, value) | {"name": name}).encode() for name in NAMES for value in VALUES]


def paths(member: Member, method: str) -> dict[str, bool]:
    """All paths of a method, with each parameter in turn; True for those with the first, which may be meant well."""
    found: dict[str, bool] = {}
    for route in application(member.backend()).router.routes():
        if route.method == method and route.resource is not None:
            for value in PARAMETERS:
                path = re.sub(r"\{[^}]+\}", value, route.resource.canonical)
                found.setdefault(path, value == PARAMETERS[0])
    return found


async def test_reading(member: Member, http: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        for path, query in itertools.product(paths(member, "GET"), QUERIES):
            response = await http.get(URL(path + query, encoded=True))
            text = await response.text()
            assert not text.startswith(UNFORESEEN), (path, query)
    assert not caplog.records


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_changing(member: Member, http: Client, method: str, caplog: pytest.LogCaptureFixture) -> None:
    everything = bodies()
    with caplog.at_level(logging.ERROR):
        for path, is_plain in paths(member, method).items():
            chosen = everything if is_plain else everything[::23]
            for body in [*chosen, *named()] if path.endswith(("/operators", "/schedulers")) else chosen:
                response = await http.request(method, URL(path, encoded=True), data=body)
                text = await response.text()
                assert not text.startswith(UNFORESEEN), (method, path, body[:200])
    assert not caplog.records
