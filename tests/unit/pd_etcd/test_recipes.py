"""What clients build on it: the election of etcd's concurrency package as TiDB's servers use it, and sessions."""

from __future__ import annotations

import asyncio

from core_py.sim.loop import run_virtual
from protos.etcd import rpc_pb2
from tests.unit.pd_etcd.support import Client, serving
from tests.unit.pd_kv.commands import Compare, put_op, range_op, txn_request

PREFIX = b"/tidb/ddl/fg/owner/"


class Candidate:
    """A session with a lease and a campaign: create the key, then wait until all that were created before are gone."""

    def __init__(self, client: Client, name: str, ttl_s: int) -> None:
        self._client, self.name, self._ttl_s = client, name, ttl_s
        self._keeper: asyncio.Task[None] | None = None
        self.key = b""

    async def campaign(self, group: asyncio.TaskGroup) -> None:
        lease_id = await self._client.grant(self._ttl_s)
        self._keeper = group.create_task(self._keep(lease_id))
        self.key = PREFIX + b"%x" % lease_id
        request = txn_request(
            [Compare(key=self.key, target=Compare.CREATE, result=Compare.EQUAL, create_revision=0)],
            [put_op(self.key, self.name.encode(), lease=lease_id)],
            [range_op(self.key)],
        )
        response = await self._client.call("Txn", request)
        assert response.succeeded
        await self._wait_deletes(response.header.revision - 1)

    async def _keep(self, lease_id: int) -> None:
        stream = self._client.stream("LeaseKeepAlive")
        while True:
            await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))
            if (await stream.receive()).TTL <= 0:
                return
            await asyncio.sleep(self._ttl_s / 3)

    async def _wait_deletes(self, max_create_revision: int) -> None:
        while True:
            last = await self._client.get(
                PREFIX,
                PREFIX[:-1] + b"0",
                sort_order=rpc_pb2.RangeRequest.DESCEND,
                sort_target=rpc_pb2.RangeRequest.CREATE,
                limit=1,
                max_create_revision=max_create_revision,
            )
            if not last.kvs:
                return
            watching = await self._client.watch(last.kvs[0].key, start_revision=last.header.revision)
            while not any(event.type == 1 for event in (await watching.next()).events):
                pass
            watching.stream.cancel()

    def crash(self) -> None:
        assert self._keeper is not None
        self._keeper.cancel()


async def owner(client: Client) -> bytes:
    response = await client.get(
        PREFIX,
        PREFIX[:-1] + b"0",
        sort_order=rpc_pb2.RangeRequest.ASCEND,
        sort_target=rpc_pb2.RangeRequest.CREATE,
        limit=1,
    )
    return bytes(response.kvs[0].value)


def test_the_election_of_tidbs_ddl_owner() -> None:
    async def main() -> None:
        async with serving() as (_, client), asyncio.TaskGroup() as group:
            candidates = [Candidate(client, f"tidb{number}", 60) for number in range(4)]
            elected: list[str] = []

            async def run(candidate: Candidate) -> None:
                await candidate.campaign(group)
                elected.append(candidate.name)

            campaigns = []
            for candidate in candidates:
                campaigns.append(group.create_task(run(candidate)))
                await asyncio.sleep(0.01)
            await asyncio.sleep(600)
            assert elected == ["tidb0"]
            assert await owner(client) == b"tidb0"
            await client.delete(candidates[0].key)  # resigns
            await asyncio.sleep(1)
            assert elected == ["tidb0", "tidb1"]
            for number in (2, 1):  # one that waits, and the owner
                candidates[number].crash()
                campaigns[number].cancel()
            await asyncio.sleep(55)
            assert elected == ["tidb0", "tidb1"], "the crashed owner's lease still holds"
            await asyncio.sleep(10)
            assert elected == ["tidb0", "tidb1", "tidb3"]
            assert await owner(client) == b"tidb3"
            for task in campaigns:
                task.cancel()
            for candidate in candidates:
                candidate.crash()

    run_virtual(main())
