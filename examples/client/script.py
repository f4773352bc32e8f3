"""The client without an event loop, for scripts, notebooks and threads.

python -m examples.client.script --pd 127.0.0.1:2379
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from examples.client.arguments import pd_endpoints
from tikv_py.client.sync import SyncTransaction, SyncTxnClient

KEY = b"script-example"


def add_one(txn: SyncTransaction) -> int:
    """Read, add, write; run again after a conflict."""
    value = int(txn.get(KEY) or 0) + 1
    txn.put(KEY, b"%d" % value)
    return value


def main(endpoints: list[str]) -> None:
    """Count from several threads with one client."""
    with SyncTxnClient.connect(endpoints) as client:
        with client.begin() as txn:
            txn.put(KEY, b"0")
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(client.run_in_transaction, add_one, retries=100) for _ in range(20)]:
                done.result()
        print("counted:", client.get(KEY))
        print("scanned:", list(client.snapshot().scan(KEY, KEY + b"\0")))


if __name__ == "__main__":
    main(pd_endpoints("a script"))
