"""SQL over a storage cluster under a seed: two SQL servers, transfers, unique keys and schema changes while everything fails.

Tellers move money and write a record (generated id, unique tag) in optimistic and pessimistic transactions; rivals insert the same
unique values by autocommit statements and upserts; an auditor compares accounts, records and indexes in one transaction; a schema
change builds and drops an index. Checked: every snapshot is consistent; what was acknowledged is there with its content; what was
refused (any error but "unknown outcome", 8501) is not there; generated ids and unique values are not given twice; indexes and rows
agree; replicas are equal. One seed, one hash.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from core_py.codec import memcomparable, tablecodec
from core_py.errors import DbError
from core_py.sim.clock import LoopClock
from tests.sim import world as worlds
from tests.sim.world import Options, Outcome, World, check_replicas, error_name
from tests.support.sql_cluster import Sql, SqlFront
from tests.support.storage_cluster import PD_ADDRESS, StorageCluster
from tikv_py.client.txn.client import TxnClient

ACCOUNTS = 6
OPENING = 100
UNDETERMINED = 8501
SCHEMA = (
    "create database d", "create table d.a (id int primary key, v int, key iv (v))",
    "create table d.r (id int primary key auto_increment, tag varchar(40), src int, dst int, amount int, unique key (tag))",
    "create table d.u (id int primary key auto_increment, k int, owner varchar(20), n int, unique key (k))",
)  # fmt: skip


class SqlBank:
    """One run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.rng.random())
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.owners: dict[int, str] = {}
        self.losers: set[tuple[int, str]] = set()
        self.bumps = [0, 0]  # acknowledged, unknown
        self.audits = 0
        self.stopping = False

    def note(self, text: str) -> None:
        self.world.note(text, where="sql")

    async def front(self, cluster: StorageCluster, number: int) -> SqlFront:
        client = await TxnClient.connect(
            (PD_ADDRESS,), transport=cluster.network.transport(f"sql{number}"), clock=LoopClock(),
            random=random.Random(self.rng.random()),
        )  # fmt: skip
        return await SqlFront(client).start()

    async def run(self) -> Outcome:
        cluster, nemesis = self.world.cluster, self.world.nemesis
        fronts = [await self.front(cluster, number) for number in range(2)]
        setup = fronts[0].session()
        for statement in SCHEMA:
            await setup(statement)
        await setup(f"insert into a values {', '.join(f'({i}, {OPENING})' for i in range(ACCOUNTS))}")
        await setup("insert into u values (1000000, 0, 'bump', 0)")
        await asyncio.sleep(2)
        nemesis.split_keys = self.split_keys(fronts[0])
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(self.teller(fronts[number % 2].session(), f"t{number}"))
                group.create_task(self.rival(fronts[number % 2].session(), f"r{number}"))
            for front in fronts:
                group.create_task(self.auditor(front.session()))
            group.create_task(self.changer(fronts[1].session()))
            await nemesis.run(self.world.options.run_s)
            self.stopping = True
        for front in fronts:
            await front.stop()
        await self.check_end(cluster)
        return Outcome("", len(self.acknowledged), self.audits)

    def split_keys(self, front: SqlFront) -> list[bytes]:
        schema = front.server.state.catalog.schema
        keys = [tablecodec.record_key(schema.table("d", "a").id, i) for i in range(1, ACCOUNTS)]
        for name in ("a", "r", "u"):
            prefix = tablecodec.table_prefix(schema.table("d", name).id)
            keys += [prefix, tablecodec.record_prefix(schema.table("d", name).id)]
        return [memcomparable.encode(key) for key in keys]

    # ---- work -----------------------------------------------------------------------------------------------

    async def attempt(self, sql: Sql, statements: list[str]) -> int:
        """Run statements; the error number, 0 when all went well. What is open is rolled back."""
        try:
            for statement in statements:
                await sql(statement)
        except DbError as error:
            self.note(f"{statements[-1]} {error_name(error)}")
            code = error.mysql_code or 1
            try:
                await sql("rollback")
            except DbError as second:
                self.note(f"rollback {error_name(second)}")
            return code
        self.note(f"{statements[-1]} ok")
        return 0

    async def teller(self, sql: Sql, name: str) -> None:
        await sql("set innodb_lock_wait_timeout = 1")
        count = 0
        while not self.stopping:
            count += 1
            tag = f"{name}-{count}"
            source, target = self.rng.sample(range(ACCOUNTS), 2)
            amount = self.rng.randrange(1, 20)
            work = [
                self.rng.choice(("begin pessimistic", "begin optimistic")),
                f"insert into r (tag, src, dst, amount) values ('{tag}', {source}, {target}, {amount})",
                f"update a set v = v - {amount} where id = {source}",
                f"update a set v = v + {amount} where id = {target}",
            ]
            code = await self.attempt(sql, work)
            if code:
                self.refused.add(tag)  # nothing was asked to be committed
            else:
                code = await self.attempt(sql, ["commit"])
                if not code:
                    self.acknowledged.add(tag)
                elif code != UNDETERMINED:
                    self.refused.add(tag)
            await asyncio.sleep(self.rng.random() * 0.2)

    async def rival(self, sql: Sql, name: str) -> None:
        key = 0
        while not self.stopping:
            key += 1
            code = await self.attempt(sql, [f"insert into u (k, owner, n) values ({key}, '{name}', 0)"])
            if not code:
                assert key not in self.owners, f"{name} and {self.owners[key]} both inserted {key}"
                self.owners[key] = name
            elif code != UNDETERMINED:
                self.losers.add((key, name))
            code = await self.attempt(
                sql, ["insert into u (k, owner, n) values (0, 'bump', 1) on duplicate key update n = n + 1"]
            )
            if code in (0, UNDETERMINED):
                self.bumps[code != 0] += 1
            await asyncio.sleep(self.rng.random() * 0.2)

    async def changer(self, sql: Sql) -> None:
        while not self.stopping:
            await self.attempt(sql, ["create index ix on r (amount)"])
            await asyncio.sleep(self.rng.random())
            await self.attempt(sql, ["drop index ix on r"])

    async def auditor(self, sql: Sql) -> None:
        while not self.stopping:
            try:
                await sql("begin")
                await self.audit(sql)
                await sql("commit")
            except DbError as error:
                self.note(f"audit {error_name(error)}")
                await self.attempt(sql, ["rollback"])
            else:
                self.audits += 1
                self.note("audit")
            await asyncio.sleep(self.rng.random() * 0.2)

    async def audit(self, sql: Sql) -> tuple[list[Any], list[Any]]:
        """Compare everything with everything at one snapshot."""
        accounts = await sql("select id, v from a order by id desc")
        records = await sql("select tag, src, dst, amount, id from r")
        balances = dict.fromkeys(range(ACCOUNTS), OPENING)
        for _, source, target, amount, _ in records:
            balances[source] -= amount
            balances[target] += amount
        assert dict(accounts) == balances, f"the accounts hold {accounts}, the records say {balances}"
        by_index = await sql("select id, v from a where v > -1000000 order by id desc")
        assert by_index == accounts, f"the index of the accounts says {by_index}, the rows {accounts}"
        assert int(await sql.one("select sum(v) from a")) == OPENING * ACCOUNTS
        few = sorted(await sql("select tag from r where amount in (3, 7, 11)"))
        expected = sorted((tag,) for tag, _, _, amount, _ in records if amount in (3, 7, 11))
        assert few == expected, f"by amount there are {few}, in the rows {expected}"
        for tag, *_ in records[:3]:
            assert await sql.one(f"select count(*) from r where tag = '{tag.decode()}'") == 1
        return accounts, records

    # ---- the end --------------------------------------------------------------------------------------------

    async def check_end(self, cluster: StorageCluster) -> None:
        front = await self.front(cluster, 9)
        sql = front.session()
        _, records = await self.audit(sql)
        tags = [record[0].decode() for record in records]
        assert len(tags) == len(set(tags))
        assert self.acknowledged <= set(tags), f"acknowledged and lost: {self.acknowledged - set(tags)}"
        assert not self.refused & set(tags), f"refused and there: {self.refused & set(tags)}"
        rows = {key: (owner.decode(), n) for key, owner, n in await sql("select k, owner, n from u")}
        assert len(rows) == await sql.one("select count(*) from u")
        for key, owner in self.owners.items():
            assert rows.get(key, ("",))[0] == owner, f"{owner} inserted {key}, there is {rows.get(key)}"
        both = {(key, owner) for key, (owner, _) in rows.items()} & self.losers
        assert not both, f"refused and there: {both}"
        assert self.bumps[0] <= rows[0][1] <= sum(self.bumps), f"{self.bumps} upserts made {rows[0]}"
        await front.stop()
        await check_replicas(self.world)


def simulate(seed: int, options: Options = Options()) -> Outcome:  # noqa: B008 frozen
    """Run one seed. Raises SeedFailed."""

    async def workload(world: World) -> Outcome:
        return await SqlBank(world).run()

    return worlds.simulate("sql", seed, workload, options)
