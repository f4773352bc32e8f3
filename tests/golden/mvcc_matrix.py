"""The states a key can be in when a command meets it, for scripts that run one command in every one of them.

The transaction that acts begins at 50 and locks at 60; the other ones began at 40 or earlier, or committed later. A state is a
lock and the write records under it, each put there as it is, so that also states are met that only a lost or late message can
bring about.
"""

from __future__ import annotations

from collections.abc import Callable

LOCKS: dict[str, tuple[str, ...]] = {
    "no lock": (),
    "own pessimistic": ("put-lock key=k start=50 type=pessimistic for_update=60",),
    "own forced": ("put-lock key=k start=50 type=pessimistic for_update=60 forced",),
    "own put": ("put-lock key=k start=50 value=own",),
    "own put with min_commit_ts": ("put-lock key=k start=50 value=own min=51",),
    "own long put": ("put-lock key=k start=50 value=x times=300",),
    "own delete": ("put-lock key=k start=50 type=delete",),
    "own lock": ("put-lock key=k start=50 type=lock",),
    "own secondary": ("put-lock key=k start=50 value=own primary=p",),
    "own pessimistic secondary": ("put-lock key=k start=50 type=pessimistic for_update=60 primary=p",),
    "own async": ("put-lock key=k start=50 value=own min=61 async",),
    "own flushed": ("put-lock key=k start=50 value=own primary=p generation=1",),
    "other's put": ("put-lock key=k start=40 value=other",),
    "other's delete": ("put-lock key=k start=40 type=delete",),
    "other's lock": ("put-lock key=k start=40 type=lock",),
    "other's pessimistic": ("put-lock key=k start=40 type=pessimistic for_update=60",),
    "other's async": ("put-lock key=k start=40 value=other min=41 async",),
    "other's late async": ("put-lock key=k start=40 value=other min=51 async",),
}

OLD_PUT = "put-write key=k start=10 commit=20 value=old"
WRITES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "older put": (OLD_PUT,),
    "fenced put": ("put-write key=k start=10 commit=20 value=old overlapped fence=35",),
    "older delete": (OLD_PUT, "put-write key=k start=25 commit=30 type=delete"),
    "older lock": (OLD_PUT, "put-write key=k start=25 commit=30 type=lock last=20 versions=1"),
    "own commit": (OLD_PUT, "put-write key=k start=50 commit=70 value=own"),
    "own rollback": (OLD_PUT, "put-write key=k start=50 type=rollback"),
    "own protected rollback": (OLD_PUT, "put-write key=k start=50 type=rollback protected"),
    "own rollback below": (
        OLD_PUT,
        "put-write key=k start=50 type=rollback",
        "put-write key=k start=52 commit=58 value=new",
    ),
    "commit at 50": (OLD_PUT, "put-write key=k start=45 commit=50 value=new"),
    "marked commit at 50": (OLD_PUT, "put-write key=k start=45 commit=50 value=new overlapped fence=0"),
    "commit at 50 below": (
        OLD_PUT,
        "put-write key=k start=45 commit=50 value=new",
        "put-write key=k start=52 commit=58 type=delete",
    ),
    "other's rollback": (OLD_PUT, "put-write key=k start=45 type=rollback"),
    "other's protected rollback": (OLD_PUT, "put-write key=k start=45 type=rollback protected"),
    "newer put": (OLD_PUT, "put-write key=k start=52 commit=58 value=new"),
    "newest put": (OLD_PUT, "put-write key=k start=62 commit=65 value=new"),
    "newest delete": (OLD_PUT, "put-write key=k start=62 commit=65 type=delete"),
    "newest rollback": (OLD_PUT, "put-write key=k start=65 type=rollback protected"),
}


def matrix(run: Callable[[str], str], command: str) -> str:
    """What `command` answers and changes in every state; states with the same outcome share a line."""
    sections: dict[str, list[str]] = {}
    for lock, lock_lines in LOCKS.items():
        outcomes: dict[str, list[str]] = {}
        for write, write_lines in WRITES.items():
            for line in ("reset", *lock_lines, *write_lines):
                assert run(line) == "ok", line
            before = run("dump").splitlines()
            answer = run(command)
            after = run("dump").splitlines()
            outcomes.setdefault("; ".join([answer, *_changes(before, after)]), []).append(write)
        lines = [
            f"  {'any' if len(writes) == len(WRITES) else ', '.join(writes)}: {outcome}"
            for outcome, writes in outcomes.items()
        ]
        sections.setdefault("\n".join(lines), []).append(lock)
    return "\n".join(f"{', '.join(locks)}\n{lines}" for lines, locks in sections.items())


def _changes(before: list[str], after: list[str]) -> list[str]:
    gone = [f"- {line.split(':', 1)[0]}" for line in before if line not in after and line != "empty"]
    new = [f"+ {line}" for line in after if line not in before and line != "empty"]
    replaced = {line.split(":", 1)[0][2:] for line in new}
    return [line for line in gone if line[2:] not in replaced] + new
