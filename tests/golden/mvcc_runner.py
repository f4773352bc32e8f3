"""Runs scripts of Percolator commands against a memory engine and prints answers and what lies in the families afterwards.

A script is blocks of `command args`, `----`, the expected output and an empty line; it opens with a comment that says
why it exists. Timestamps are written as small numbers and stand for physical milliseconds, so that times to live can be scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys, scanner
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.check_secondary_locks import check_secondary_lock
from tikv_py.mvcc.actions.check_txn_status import TxnStatusRequest, check_txn_status
from tikv_py.mvcc.actions.cleanup import cleanup
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.prewrite import (
    Assertion,
    AssertionLevel,
    Mutation,
    MutationOp,
    PessimisticAction,
    PrewriteProps,
    prewrite,
)
from tikv_py.mvcc.errors import TxnError
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import MvccReader, snapshot_get
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import Write

T = TypeVar("T")


def stamp(text: str) -> int:
    return TS_MAX if text == "max" else tso.compose(int(text), 0)


def show_ts(ts: int) -> str:
    if ts == TS_MAX:
        return "max"
    logical = tso.logical(ts)
    return f"{tso.physical_ms(ts)}" + (f".{logical}" if logical else "")


class MvccScript:
    """State of one script."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()

    def run(self, line: str) -> str:
        name, *words = line.split()
        flags = {word for word in words if "=" not in word}
        args = dict(word.split("=", 1) for word in words if "=" in word)
        handler: Callable[[dict[str, str], set[str]], str] = getattr(self, "do_" + name.replace("-", "_"))
        try:
            return handler(args, flags)
        except TxnError as error:
            return (
                f"{type(error).__name__}{': ' + str(getattr(error, 'reason', '')) if hasattr(error, 'reason') else ''}"
            )

    def _write(self, start_ts: int, action: Callable[[MvccTxn, MvccReader], T]) -> T:
        txn = MvccTxn(start_ts)
        result = action(txn, MvccReader(self.engine))
        batch = self.engine.batch()
        for cf, key, value in txn.modifies:
            if value is None:
                batch.delete(cf, key)
            else:
                batch.put(cf, key, value)
        self.engine.write(batch)
        return result

    def do_prewrite(self, args: dict[str, str], flags: set[str]) -> str:
        start_ts = stamp(args["start"])
        props = PrewriteProps(
            args["primary"].encode(),
            start_ts,
            int(args.get("ttl", "10")),
            min_commit_ts=stamp(args["min"]) if "min" in args else 0,
            for_update_ts=stamp(args["for_update"]) if "for_update" in args else 0,
            is_pessimistic="for_update" in args,
            assertion_level=AssertionLevel.STRICT,
        )
        mutation = Mutation(
            MutationOp[args.get("op", "put").upper()],
            args["key"].encode(),
            args.get("value", "").encode() * int(args.get("times", "1")),
            Assertion[args.get("assert", "none").upper()],
            PessimisticAction[args.get("action", "skip").upper()],
        )
        self._write(start_ts, lambda txn, reader: prewrite(txn, reader, props, mutation))
        return "ok"

    def do_commit(self, args: dict[str, str], flags: set[str]) -> str:
        self._write(
            stamp(args["start"]), lambda txn, reader: commit(txn, reader, args["key"].encode(), stamp(args["commit"]))
        )
        return "ok"

    def do_rollback(self, args: dict[str, str], flags: set[str]) -> str:
        current = stamp(args["current"]) if "current" in args else 0
        protect = "protect" in flags
        key = args["key"].encode()
        self._write(
            stamp(args["start"]), lambda txn, reader: cleanup(txn, reader, key, current, protect_rollback=protect)
        )
        return "ok"

    def do_lock(self, args: dict[str, str], flags: set[str]) -> str:
        start_ts = stamp(args["start"])
        props = pessimistic_lock.LockProps(
            args["primary"].encode(), start_ts, stamp(args["for_update"]), int(args.get("ttl", "10"))
        )
        key, missing = args["key"].encode(), "not-exist" in flags
        value = self._write(
            start_ts, lambda txn, reader: pessimistic_lock.acquire(txn, reader, props, key, should_not_exist=missing)
        )
        return f"value {value!r}"

    def do_pessimistic_rollback(self, args: dict[str, str], flags: set[str]) -> str:
        key, for_update = args["key"].encode(), stamp(args["for_update"])
        self._write(stamp(args["start"]), lambda txn, reader: pessimistic_lock.rollback(txn, reader, key, for_update))
        return "ok"

    def do_heart_beat(self, args: dict[str, str], flags: set[str]) -> str:
        key, ttl = args["key"].encode(), int(args["ttl"])
        return f"ttl {self._write(stamp(args['start']), lambda txn, r: pessimistic_lock.heart_beat(txn, r, key, ttl))}"

    def do_status(self, args: dict[str, str], flags: set[str]) -> str:
        request = TxnStatusRequest(
            args["key"].encode(),
            stamp(args["start"]),
            stamp(args.get("caller", "0")),
            stamp(args["current"]),
            rollback_if_not_exist="rollback" in flags,
            resolving_pessimistic_lock="resolving-pessimistic" in flags,
            verify_is_primary="verify" in flags,
        )
        status = self._write(stamp(args["start"]), lambda txn, reader: check_txn_status(txn, reader, request))
        lock = status.lock
        text = f"{status.action.name}"
        if lock is not None:
            return f"{text} ttl={lock.ttl_ms} min_commit={show_ts(lock.min_commit_ts)}"
        return f"{text} commit={show_ts(status.commit_ts)}"

    def do_secondary(self, args: dict[str, str], flags: set[str]) -> str:
        key = args["key"].encode()
        status = self._write(stamp(args["start"]), lambda txn, reader: check_secondary_lock(txn, reader, key))
        return f"locked={status.lock is not None} commit={show_ts(status.commit_ts)}"

    def do_get(self, args: dict[str, str], flags: set[str]) -> str:
        value = snapshot_get(MvccReader(self.engine), args["key"].encode(), stamp(args["ts"]))
        return (
            "not found" if value is None else f"{value[:20]!r}" + (f" ({len(value)} bytes)" if len(value) > 20 else "")
        )

    def do_scan(self, args: dict[str, str], flags: set[str]) -> str:
        start, end = keys.data_key(args.get("start", "").encode()), keys.data_key(args.get("end", "\x7f").encode())
        request = scanner.ScanRequest(
            start, end, stamp(args["ts"]), int(args.get("limit", "99")), reverse="reverse" in flags
        )
        items = scanner.scan(self.engine, request)
        return "\n".join(
            f"{i.user_key.decode()} {i.value[:20]!r}" if i.error is None else f"{i.user_key.decode()} locked"
            for i in items
        )

    def do_dump(self, args: dict[str, str], flags: set[str]) -> str:
        lines = []
        for key, data in self.engine.items(CF_LOCK):
            lock = Lock.from_bytes(data)
            extra = f" for_update={show_ts(lock.for_update_ts)}" if lock.for_update_ts else ""
            extra += f" min_commit={show_ts(lock.min_commit_ts)}" if lock.min_commit_ts else ""
            name = keys.user_key(key).decode()
            lines.append(
                f"lock {name}: {lock.lock_type.name} start={show_ts(lock.start_ts)} primary={lock.primary.decode()}{extra}"
            )
        for key, data in self.engine.items(CF_WRITE):
            data_key, commit_ts = keys.split_version(key)
            write = Write.from_bytes(data)
            extra = (
                " protected" if write.is_protected else "" if write.short_value is None else f" {write.short_value!r}"
            )
            extra += f" overlapped fence={show_ts(write.gc_fence or 0)}" if write.has_overlapped_rollback else ""
            name = f"{keys.user_key(data_key).decode()}@{show_ts(commit_ts)}"
            lines.append(f"write {name}: {write.write_type.name} start={show_ts(write.start_ts)}{extra}")
        for key, data in self.engine.items(CF_DEFAULT):
            data_key, start_ts = keys.split_version(key)
            lines.append(f"default {keys.user_key(data_key).decode()}@{show_ts(start_ts)}: {len(data)} bytes")
        return "\n".join(lines) or "empty"


def run_script(text: str) -> str:
    """The script with the outputs as they are now."""
    script = MvccScript()
    head, *blocks = text.strip("\n").split("\n\n")
    out = [head]
    for block in blocks:
        command = block.split("\n----", 1)[0]
        answers = [script.run(line) for line in command.splitlines()]
        out.append(f"{command}\n----\n" + "\n".join(answers))
    return "\n\n".join(out) + "\n"
