"""The process with the clients of a run; it writes the history.

    python -m tests.chaos.clients WORKLOAD PD_ADDRESSES HISTORY_FILE PREFIX SEED CLIENTS

Says on standard output, one JSON line each: `{"ready": true}` when the clients begin, then every 100 ms how many
operations had which outcome. SIGTERM ends the clients after the operations they are in; then come the final reads and
the line `{"done": true}`.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path

import structlog
import uvloop

from tests.chaos.workloads.append import Append
from tests.chaos.workloads.bank import Bank
from tests.chaos.workloads.base import Recorder, Session, Workload
from tests.chaos.workloads.long_fork import LongFork
from tests.chaos.workloads.register import Register
from tests.chaos.workloads.unique_set import UniqueSet
from tikv_py.client.connect import connect_raw, connect_txn

WORKLOADS: dict[str, type[Workload]] = {
    "bank": Bank,
    "register": Register,
    "set": UniqueSet,
    "append": Append,
    "long-fork": LongFork,
}
CONNECTIONS = 3
"""Client objects, each with caches, streams and timestamps of its own; tasks share them."""
REPORT_EVERY_S = 0.1


def say(**line: object) -> None:
    """One line to the one who started this."""
    print(json.dumps(line), flush=True)


async def report(recorder: Recorder, over: asyncio.Event) -> None:
    """How far it is."""
    while not over.is_set():
        say(t=time.monotonic(), **{outcome.value: count for outcome, count in recorder.counts.items()})
        await asyncio.sleep(REPORT_EVERY_S)


async def main(name: str, addresses: list[str], path: Path, prefix: bytes, seed: int, clients: int) -> None:
    """Work until told to end, then read everything once more."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    rng = random.Random(seed)
    connections = [await connect_txn(addresses) for _ in range(CONNECTIONS)]
    raws = [await connect_raw(addresses, atomic=True) for _ in range(CONNECTIONS)]
    sessions = [
        Session(
            number, random.Random(rng.random()), connections[number % CONNECTIONS], raws[number % CONNECTIONS], number
        )
        for number in range(clients + 1)
    ]
    judge = sessions.pop()
    with path.open("w") as file:
        recorder = Recorder(file)
        workload = WORKLOADS[name](prefix, recorder, rng)
        await connections[0].split_region([prefix + split for split in (b"", *workload.splits)])
        await workload.prepare(judge)
        say(ready=True)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(report(recorder, ended))
            async with asyncio.TaskGroup() as working:
                for session in sessions:
                    working.create_task(workload.work(session, over))
            ended.set()
            await reporting
        await workload.finish(judge)
    say(done=True)
    for connection in connections:
        await connection.close()
    for raw in raws:
        await raw.close()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    given = sys.argv[1:]
    uvloop.run(main(given[0], given[1].split(","), Path(given[2]), given[3].encode(), int(given[4]), int(given[5])))
