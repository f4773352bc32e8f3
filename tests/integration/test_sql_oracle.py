"""The same queries on our server and on DuckDB over the same rows: TPC-H's shapes, and random filters and groupings."""

# ruff: noqa: E501, ISC004 - queries are easier to read unbroken

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from tests.unit.tidb.harness import RunningServer, rows

SCHEMA = {
    "region": "r_regionkey int primary key, r_name varchar(25)",
    "nation": "n_nationkey int primary key, n_name varchar(25), n_regionkey int",
    "supplier": "s_suppkey int primary key, s_name varchar(25), s_nationkey int, s_acctbal decimal(12,2)",
    "customer": "c_custkey int primary key, c_name varchar(25), c_nationkey int, c_acctbal decimal(12,2), c_mktsegment varchar(10), "
    "c_phone varchar(15)",
    "part": "p_partkey int primary key, p_name varchar(55), p_brand varchar(10), p_type varchar(25), p_size int, p_container varchar(10)",
    "partsupp": "ps_id int primary key, ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost decimal(12,2)",
    "orders": "o_orderkey int primary key, o_custkey int, o_orderstatus varchar(1), o_totalprice decimal(12,2), o_orderdate date, "
    "o_orderpriority varchar(15), o_shippriority int",
    "lineitem": "l_id int primary key, l_orderkey int, l_partkey int, l_suppkey int, l_quantity decimal(12,2), "
    "l_extendedprice decimal(12,2), l_discount decimal(12,2), l_tax decimal(12,2), l_returnflag varchar(1), l_linestatus varchar(1), "
    "l_shipdate date, l_commitdate date, l_receiptdate date, l_shipmode varchar(10)",
}
INDEXES = [
    "create index lo on lineitem (l_orderkey)",
    "create index oc on orders (o_custkey)",
    "create index ls on lineitem (l_shipdate)",
]


def day(rng: random.Random) -> str:
    return str(dt.date(1993, 1, 1) + dt.timedelta(days=rng.randrange(1500)))


def money(rng: random.Random, top: int) -> str:
    return f"{rng.randrange(top)}.{rng.randrange(100):02d}"


def generate() -> dict[str, list[tuple[Any, ...]]]:
    rng = random.Random(7)
    nations = ["FRANCE", "GERMANY", "BRAZIL", "CHINA", "INDIA", "KENYA", "PERU", "JAPAN"]
    segments, modes = ["BUILDING", "AUTOMOBILE", "MACHINERY"], ["MAIL", "SHIP", "AIR", "RAIL"]
    data: dict[str, list[tuple[Any, ...]]] = {
        "region": [(i, n) for i, n in enumerate(["AFRICA", "AMERICA", "ASIA", "EUROPE"])],
        "nation": [(i, n, i % 4) for i, n in enumerate(nations)],
        "supplier": [(i, f"Supplier{i}", rng.randrange(8), money(rng, 9000)) for i in range(20)],
        "customer": [
            (i, f"Customer{i}", rng.randrange(8), money(rng, 9000), rng.choice(segments), f"{rng.randrange(10, 35)}-{i}")
            for i in range(60)
        ],
        "part": [
            (i, rng.choice(["green apple", "red rose", "forest"]) + str(i), f"Brand#{rng.randrange(1, 4)}{rng.randrange(1, 4)}",
             rng.choice(["PROMO BRASS", "ECONOMY STEEL", "SMALL BRASS"]), rng.randrange(1, 20), rng.choice(["MED BOX", "SM CASE"]))
            for i in range(40)
        ],
        "partsupp": [(i, i % 40, rng.randrange(20), rng.randrange(9999), money(rng, 1000)) for i in range(120)],
        "orders": [
            (i, rng.randrange(45), rng.choice("OFP"), money(rng, 400000), day(rng), rng.choice(["1-URGENT", "2-HIGH", "5-LOW"]), 0)
            for i in range(250)
        ],
    }  # fmt: skip
    lines = []
    for i in range(1500):
        ship = day(rng)
        commit, receipt = day(rng), str(dt.date.fromisoformat(ship) + dt.timedelta(days=rng.randrange(1, 30)))
        lines.append((i, rng.randrange(240), rng.randrange(40), rng.randrange(20), rng.randrange(1, 51), money(rng, 90000),
                      f"0.{rng.randrange(11):02d}", f"0.{rng.randrange(9):02d}", rng.choice("ARN"), rng.choice("OF"), ship, commit,
                      receipt, rng.choice(modes) if rng.random() < 0.95 else None))  # fmt: skip
    data["lineitem"] = lines
    return data


QUERIES = {
    "q1": """select l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), sum(l_extendedprice*(1-l_discount)),
        sum(l_extendedprice*(1-l_discount)*(1+l_tax)), avg(l_quantity), avg(l_discount), count(*) from lineitem
        where l_shipdate <= date '1996-06-01' group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus""",
    "q2": """select s_acctbal, s_name, n_name, p_partkey from part, supplier, partsupp, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and p_type like '%BRASS' and s_nationkey = n_nationkey
        and n_regionkey = r_regionkey and ps_supplycost = (select min(ps_supplycost) from partsupp, supplier, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey)
        order by s_acctbal desc, n_name, s_name, p_partkey limit 20""",
    "q3": """select l_orderkey, sum(l_extendedprice*(1-l_discount)) as revenue, o_orderdate, o_shippriority from customer, orders,
        lineitem where c_mktsegment = 'BUILDING' and c_custkey = o_custkey and l_orderkey = o_orderkey
        and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15'
        group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate limit 10""",
    "q4": """select o_orderpriority, count(*) from orders where o_orderdate >= date '1993-07-01' and exists (select * from lineitem
        where l_orderkey = o_orderkey and l_commitdate < l_receiptdate) group by o_orderpriority order by o_orderpriority""",
    "q5": """select n_name, sum(l_extendedprice*(1-l_discount)) as revenue from customer, orders, lineitem, supplier, nation, region
        where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey and c_nationkey = s_nationkey
        and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'ASIA' group by n_name order by revenue desc""",
    "q6": """select sum(l_extendedprice*l_discount) from lineitem where l_shipdate >= date '1994-01-01'
        and l_shipdate < date '1995-01-01' and l_discount between 0.05 and 0.07 and l_quantity < 24""",
    "q7": """select supp_nation, cust_nation, l_year, sum(volume) from (select n1.n_name as supp_nation, n2.n_name as cust_nation,
        extract(year from l_shipdate) as l_year, l_extendedprice*(1-l_discount) as volume from supplier, lineitem, orders, customer,
        nation n1, nation n2 where s_suppkey = l_suppkey and o_orderkey = l_orderkey and c_custkey = o_custkey
        and s_nationkey = n1.n_nationkey and c_nationkey = n2.n_nationkey and ((n1.n_name = 'FRANCE' and n2.n_name = 'GERMANY')
        or (n1.n_name = 'GERMANY' and n2.n_name = 'FRANCE'))) as shipping group by supp_nation, cust_nation, l_year order by 1, 2, 3""",
    "q10": """select c_custkey, c_name, sum(l_extendedprice*(1-l_discount)) as revenue, c_acctbal from customer, orders, lineitem
        where c_custkey = o_custkey and l_orderkey = o_orderkey and l_returnflag = 'R' group by c_custkey, c_name, c_acctbal
        order by revenue desc limit 20""",
    "q11": """select ps_partkey, sum(ps_supplycost*ps_availqty) as v from partsupp, supplier where ps_suppkey = s_suppkey
        group by ps_partkey having sum(ps_supplycost*ps_availqty) > (select sum(ps_supplycost*ps_availqty)*0.03 from partsupp)
        order by v desc""",
    "q12": """select l_shipmode, sum(case when o_orderpriority = '1-URGENT' or o_orderpriority = '2-HIGH' then 1 else 0 end),
        sum(case when o_orderpriority <> '1-URGENT' then 1 else 0 end) from orders, lineitem where o_orderkey = l_orderkey
        and l_shipmode in ('MAIL','SHIP') and l_commitdate < l_receiptdate group by l_shipmode order by l_shipmode""",
    "q13": """select c_count, count(*) as custdist from (select c_custkey, count(o_orderkey) as c_count from customer left outer join
        orders on c_custkey = o_custkey and o_orderpriority <> '5-LOW' group by c_custkey) c_orders group by c_count
        order by custdist desc, c_count desc""",
    "q14": """select 100.00 * sum(case when p_type like 'PROMO%' then l_extendedprice*(1-l_discount) else 0 end) > 100
        from lineitem, part where l_partkey = p_partkey""",
    "q16": """select p_brand, p_type, p_size, count(distinct ps_suppkey) as c from partsupp, part where p_partkey = ps_partkey
        and p_brand <> 'Brand#11' and p_size in (1,3,5,7,9,11,13,15,17) and ps_suppkey not in (select s_suppkey from supplier
        where s_acctbal < 2000) group by p_brand, p_type, p_size order by c desc, p_brand, p_type, p_size""",
    "q17": """select count(*), sum(l_quantity) from lineitem, part where p_partkey = l_partkey and p_container = 'MED BOX'
        and l_quantity < (select 0.5 * avg(l_quantity) from lineitem where l_partkey = p_partkey)""",
    "q18": """select c_name, o_orderkey, o_totalprice, sum(l_quantity) from customer, orders, lineitem where o_orderkey in (select
        l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 200) and c_custkey = o_custkey and o_orderkey = l_orderkey
        group by c_name, o_orderkey, o_totalprice order by o_totalprice desc, o_orderkey limit 100""",
    "q19": """select sum(l_extendedprice*(1-l_discount)) from lineitem, part where (p_partkey = l_partkey and p_brand = 'Brand#12'
        and l_quantity >= 1 and p_size between 1 and 5) or (p_partkey = l_partkey and p_brand = 'Brand#23' and l_quantity >= 10)""",
    "q20": """select s_name from supplier where s_suppkey in (select ps_suppkey from partsupp where ps_partkey in (select p_partkey
        from part where p_name like 'forest%') and ps_availqty > 1000) order by s_name""",
    "q21": """select s_name, count(*) as numwait from supplier, lineitem l1, orders where s_suppkey = l1.l_suppkey
        and o_orderkey = l1.l_orderkey and o_orderstatus = 'F' and l1.l_receiptdate > l1.l_commitdate and exists (select * from
        lineitem l2 where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey) and not exists (select * from lineitem l3
        where l3.l_orderkey = l1.l_orderkey and l3.l_suppkey <> l1.l_suppkey and l3.l_receiptdate > l3.l_commitdate
        and l3.l_quantity > 30) group by s_name order by numwait desc, s_name limit 100""",
    "q22": """select cntrycode, count(*), sum(c_acctbal) from (select substring(c_phone, 1, 2) as cntrycode, c_acctbal from customer
        where substring(c_phone, 1, 2) in ('13','31','23','29','30','18','17') and c_acctbal > (select avg(c_acctbal) from customer
        where c_acctbal > 0.00) and not exists (select * from orders where o_custkey = c_custkey)) as custsale
        group by cntrycode order by cntrycode""",
    "nulls": "select l_shipmode, count(*), count(l_shipmode), min(l_id) from lineitem group by l_shipmode order by l_shipmode nulls first",
    "right": "select o_orderkey, c_name from orders right join customer on o_custkey = c_custkey where c_custkey > 40 order by 2, 1",
    "union": "select c_nationkey k from customer union select s_nationkey from supplier order by k",
    "self": "select a.n_name, b.n_name from nation a left join nation b on a.n_regionkey = b.n_regionkey and a.n_nationkey < b.n_nationkey order by 1, 2",
    "cross": "select count(*) from nation a, region b where a.n_nationkey + b.r_regionkey > 4",
    "scalar": "select c_custkey, (select count(*) from orders where o_custkey = c_custkey) from customer order by 1",
    "deep": "select max(x) from (select o_custkey, count(*) x from (select * from orders where o_totalprice > 1000) o group by o_custkey) z",
}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Any, Any]]:
    server = RunningServer()
    oracle = duckdb.connect()
    data = generate()
    with server.connect() as ours:
        rows(ours, "create database tpch")
        rows(ours, "use tpch")
        for table, columns in SCHEMA.items():
            rows(ours, f"create table {table} ({columns})")
            oracle.execute(f"create table {table} ({columns})")
            values = ",".join(
                "(" + ",".join("null" if v is None else f"'{v}'" for v in row) + ")" for row in data[table]
            )
            rows(ours, f"insert into {table} values {values}")
            oracle.execute(f"insert into {table} values {values}")
        for index in INDEXES:
            rows(ours, index)
        yield ours, oracle
    oracle.close()
    server.close()


def plain(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Numbers as floats with few digits: the two sides differ in scale and in the type of SUM."""

    def cell(value: Any) -> Any:
        if isinstance(value, bool):
            return float(value)
        if isinstance(value, (int, float, Decimal)):
            return float(f"{float(value):.9g}")
        return value

    return [tuple(cell(v) for v in row) for row in found]


@pytest.mark.parametrize("name", QUERIES)
def test_query(both: tuple[Any, Any], name: str) -> None:
    ours, oracle = both
    sql = QUERIES[name]
    expected = plain(oracle.execute(sql).fetchall())
    got = plain(rows(ours, sql.replace("%", "%%").replace(" nulls first", "").replace("%%", "%")))
    if name in ("q1", "avg"):
        expected = [tuple(round(v, 4) if isinstance(v, float) else v for v in r) for r in expected]
        got = [tuple(round(v, 4) if isinstance(v, float) else v for v in r) for r in got]
    assert got == expected


def test_inside_a_transaction_with_writes(both: tuple[Any, Any]) -> None:
    """Own writes merged with the stores' rows: every query must see them, whatever its plan."""
    ours, oracle = both
    changes = [
        "insert into orders values (9001, 3, 'O', 123.45, '1994-06-06', '1-URGENT', 0)",
        "insert into lineitem values (9001, 9001, 5, 6, 7, 1000, 0.05, 0.01, 'R', 'O', '1995-04-01', '1995-04-02', '1995-04-20', 'MAIL')",
        "update lineitem set l_quantity = l_quantity + 3, l_shipmode = 'AIR' where l_orderkey < 20",
        "delete from lineitem where l_id between 100 and 200",
        "delete from orders where o_orderkey = 17",
    ]
    oracle.execute("begin")
    rows(ours, "begin")
    for change in changes:
        rows(ours, change)
        oracle.execute(change)
    for name in ("q1", "q3", "q4", "q5", "q6", "q10", "q12", "q13", "q18", "q21", "nulls", "right", "scalar"):
        test_query(both, name)
    for sql in ("select l_id from lineitem where l_orderkey in (5, 17, 9001) order by l_id",
                "select l_shipdate from lineitem where l_shipdate > date '1995-03-30' and l_shipdate < date '1995-04-05' order by 1",
                "select count(*) from lineitem where l_id in (5, 150, 9001)"):  # fmt: skip
        assert rows(ours, sql) == oracle.execute(sql).fetchall()
    rows(ours, "rollback")
    oracle.execute("rollback")
    test_query(both, "q1")


@pytest.mark.parametrize("seed", range(40))
def test_random_filters(both: tuple[Any, Any], seed: int) -> None:
    ours, oracle = both
    rng = random.Random(seed)

    def condition() -> str:
        column = rng.choice(
            ["l_id", "l_orderkey", "l_quantity", "l_discount", "l_shipdate", "l_shipmode", "l_returnflag"]
        )
        value = {"l_id": str(rng.randrange(1500)), "l_orderkey": str(rng.randrange(240)), "l_quantity": str(rng.randrange(50)),
                 "l_discount": f"0.0{rng.randrange(9)}", "l_shipdate": f"date '{day(rng)}'",
                 "l_shipmode": f"'{rng.choice(['MAIL', 'AIR', 'RAIL'])}'", "l_returnflag": f"'{rng.choice('ARN')}'"}  # fmt: skip
        kind = rng.randrange(6)
        if kind == 0:
            return f"{column} is {'not ' if rng.random() < 0.5 else ''}null"
        if kind == 1:
            return f"{column} in ({value[column]}, {value[column]})"
        if kind == 2:
            return f"not ({column} < {value[column]})"
        if kind == 3:
            return f"{column} between {value[column]} and {value[column]}"
        return f"{column} {rng.choice(['=', '<', '>', '<=', '>=', '<>'])} {value[column]}"

    def tree(depth: int) -> str:
        if depth == 0 or rng.random() < 0.3:
            return condition()
        return f"({tree(depth - 1)} {rng.choice(['and', 'or', 'and'])} {tree(depth - 1)})"

    where = tree(3)
    limit = f" limit {rng.randrange(1, 30)}" if rng.random() < 0.5 else ""
    order = rng.choice(["l_id", "l_id desc", "l_shipdate, l_id"])
    for sql in (
        f"select l_id, l_quantity, l_shipmode from lineitem where {where} order by {order}{limit}",
        f"select l_returnflag, count(*), sum(l_quantity), min(l_shipdate), max(l_id) from lineitem where {where} "
        "group by l_returnflag order by 1",
        f"select count(*), sum(l_extendedprice) from lineitem join orders on l_orderkey = o_orderkey where {where}",
    ):
        assert plain(rows(ours, sql)) == plain(oracle.execute(sql).fetchall()), sql
