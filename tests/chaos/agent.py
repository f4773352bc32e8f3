"""A process beside the clients that talks to PD's HTTP interface for the nemesis: it moves leaders about, and says who
leads.

    python -m tests.chaos.agent PD_ADDRESSES SEED

Reads one JSON line per command and answers each with one: `{"do": "leaders"}` tells the address of PD's leader and, by
address, how many regions each store leads; `{"do": "shuffle", "on": true}` begins to transfer the leaders of random
regions to random stores, `false` ends it and tells how many transfers PD took. PD may be away: what cannot be asked is
not told.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import urllib.request
from contextlib import suppress
from typing import Any

CALL_S = 1.0
SHUFFLE_EVERY_S = 0.25


class Agent:
    """What is asked of PD."""

    def __init__(self, addresses: list[str], rng: random.Random) -> None:
        self.addresses, self.rng = addresses, rng
        self.shuffling = threading.Event()
        self.moved = 0

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST with a body, at whichever member answers. Raises OSError when none does."""
        failure = OSError("no member")
        for address in self.rng.sample(self.addresses, len(self.addresses)):
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(f"http://{address}/pd/api/v1/{path}", data)
            try:
                with urllib.request.urlopen(request, timeout=CALL_S) as answer:
                    return json.loads(answer.read())
            except (OSError, ValueError) as error:
                failure = OSError(f"{address}: {error}")
        raise failure

    def leaders(self) -> dict[str, Any]:
        """Who leads."""
        stores = {one["store"]["id"]: one["store"]["address"] for one in self.call("stores")["stores"]}
        count = dict.fromkeys(stores.values(), 0)
        for region in self.call("regions")["regions"]:
            address = stores.get((region.get("leader") or {}).get("store_id"))
            if address is not None:
                count[address] += 1
        urls = (self.call("leader") or {}).get("client_urls") or [""]
        return {"pd": urls[0].split("://")[-1], "stores": count}

    def move_one(self) -> None:
        """Transfer one leader."""
        region = self.rng.choice(self.call("regions")["regions"])
        others = [peer["store_id"] for peer in region["peers"] if peer["store_id"] != region["leader"]["store_id"]]
        self.call(
            "operators", {"name": "transfer-leader", "region_id": region["id"], "to_store_id": self.rng.choice(others)}
        )
        self.moved += 1

    def shuffle(self) -> None:
        """Transfer leaders while asked to."""
        pause = threading.Event()
        while True:
            self.shuffling.wait()
            with suppress(OSError, LookupError, TypeError):  # PD is away, or the region has no leader now: the next one
                self.move_one()
            pause.wait(SHUFFLE_EVERY_S)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command."""
        if command["do"] == "leaders":
            try:
                return self.leaders()
            except (OSError, LookupError) as error:
                return {"error": str(error)}
        if command["on"]:
            self.shuffling.set()
        else:
            self.shuffling.clear()
        return {"moved": self.moved}


def main() -> None:
    """Answer until the input ends."""
    agent = Agent(sys.argv[1].split(","), random.Random(sys.argv[2]))
    threading.Thread(target=agent.shuffle, daemon=True).start()
    for line in sys.stdin:
        print(json.dumps(agent.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
