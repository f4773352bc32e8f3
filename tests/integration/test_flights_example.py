"""The flights example end to end: real processes, an ordinary driver, and every answer equal to DuckDB's."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pymysql
import pytest

from examples import flights
from tidb_py.testing.playground import PlaygroundCluster, playground

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")  # loading takes a minute: not again when other tests come in between
def cluster() -> Iterator[PlaygroundCluster]:
    with playground() as running:
        yield running


@pytest.fixture(scope="session")
def loaded(cluster: PlaygroundCluster) -> flights.Connect:
    def connect() -> pymysql.Connection[Any]:
        return pymysql.connect(host=cluster.mysql_host, port=cluster.mysql_port, user="root")

    assert flights.load(connect) == 336_776 + 16 + 1_458 + 3_322 + 26_115
    return connect


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("flights")
    with zipfile.ZipFile(flights.data_directory() / "flights.csv.zip") as archive:
        archive.extractall(directory)
    connection = duckdb.connect()
    for table in flights.SCHEMA:
        source: Path = directory / "flights.csv" if table == "flights" else flights.data_directory() / f"{table}.csv"
        number = "row_number() OVER () AS id, " if table in flights.NUMBERED else ""
        connection.execute(
            f"CREATE TABLE {table} AS SELECT {number}* FROM read_csv_auto('{source}', nullstr=['NA', ''])"
        )
    return connection


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, int | float | Decimal) and isinstance(theirs, int | float | Decimal):
        return math.isclose(
            float(ours), float(theirs), rel_tol=1e-6, abs_tol=1e-4
        )  # AVG of integers has four decimals here
    return ours == theirs


@pytest.mark.parametrize("question", flights.QUESTIONS, ids=lambda question: question.title)
def test_answers_equal_an_independent_engine(question: flights.Question, loaded: flights.Connect, oracle: Any) -> None:
    _, ours = flights.ask(loaded, question)
    theirs = oracle.execute(question.sql).fetchall()
    assert len(ours) == len(theirs) > 0
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert all(same(a, b) for a, b in zip(our_row, their_row, strict=True)), (our_row, their_row)


def test_every_row_is_there(loaded: flights.Connect) -> None:
    with loaded() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*), SUM(distance), COUNT(dep_time) FROM {flights.DATABASE}.flights")
        assert [int(value) for value in cursor.fetchone() or ()] == [336_776, 350_217_607, 328_521]
