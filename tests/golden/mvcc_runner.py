"""Runs scripts of Percolator commands against a memory engine and prints answers and what lies in the families afterwards.

A script is blocks of `command args`, `----`, the expected output and an empty line; it opens with a comment that says
why it exists. Timestamps are written as small numbers and stand for physical milliseconds, so that times to live can be scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from tests.golden.mvcc_matrix import matrix
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys, scanner
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.check_secondary_locks import check_secondary_lock
from tikv_py.mvcc.actions.check_txn_status import TxnStatusRequest, check_txn_status
from tikv_py.mvcc.actions.cleanup import cleanup
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.gc import VersionGc
from tikv_py.mvcc.actions.prewrite import (
    Assertion,
    AssertionLevel,
    FastCommit,
    Mutation,
    MutationOp,
    PessimisticAction,
    PrewriteProps,
)
from tikv_py.mvcc.actions.prewrite_request import prewrite_all
from tikv_py.mvcc.errors import KeyIsLocked, TxnError, WriteConflict
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader, snapshot_get
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import SHORT_VALUE_MAX, Write, WriteType

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
        if name == "matrix":
            return matrix(MvccScript().run, " ".join(words))
        flags = {word for word in words if "=" not in word}
        args = dict(word.split("=", 1) for word in words if "=" in word)
        handler: Callable[[dict[str, str], set[str]], str] = getattr(self, "do_" + name.replace("-", "_"))
        try:
            return handler(args, flags)
        except TxnError as error:
            reason = f": {error.reason}" if isinstance(error, WriteConflict) else ""
            at_once = " (resolve at once)" if isinstance(error, KeyIsLocked) and error.resolve_unconditionally else ""
            return type(error).__name__ + reason + at_once

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
        fast = FastCommit(
            stamp(args.get("max_ts", "0")),
            stamp(args.get("max_commit", "0")),
            secondaries=(b"p",) if "async" in flags else None,
            one_pc="one-pc" in flags,
        )
        props = PrewriteProps(
            args.get("primary", "k").encode(),
            start_ts,
            int(args.get("ttl", "10")),
            min_commit_ts=stamp(args["min"]) if "min" in args else 0,
            for_update_ts=stamp(args["for_update"]) if "for_update" in args else 0,
            is_pessimistic="for_update" in args,
            skip_constraint_check="skip-constraints" in flags,
            assertion_level=AssertionLevel[args.get("level", "strict").upper()],
            fast=fast if flags & {"async", "one-pc"} else None,
        )
        mutation = Mutation(
            MutationOp[args.get("op", "put").upper()],
            args["key"].encode(),
            args.get("value", "").encode() * int(args.get("times", "1")),
            Assertion[args.get("assert", "none").upper()],
            PessimisticAction[args.get("action", "skip").upper()],
            stamp(args.get("expected", "0")),
        )
        done = self._write(start_ts, lambda txn, reader: prewrite_all(txn, reader, props, [mutation]))
        if done.errors:
            raise done.errors[0]
        text = f" min_commit={show_ts(done.min_commit_ts)}" if done.min_commit_ts else ""
        return "ok" + text + (f" one_pc={show_ts(done.one_pc_commit_ts)}" if done.one_pc_commit_ts else "")

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
            args.get("primary", "k").encode(),
            start_ts,
            stamp(args["for_update"]),
            int(args.get("ttl", "10")),
            min_commit_ts=stamp(args["min"]) if "min" in args else 0,
            need_value="no-value" not in flags,
            need_existence="existence" in flags,
            lock_only_if_exists="only-if-exists" in flags,
            allow_lock_with_conflict="force" in flags,
        )
        key, missing = args["key"].encode(), "not-exist" in flags
        locked = self._write(
            start_ts, lambda txn, reader: pessimistic_lock.acquire(txn, reader, props, key, should_not_exist=missing)
        )
        text = f"value {locked.value!r}" if props.need_value or locked.conflict_ts else "locked"
        text += f" exists={locked.exists}" if props.need_existence else ""
        text += f" conflict={show_ts(locked.conflict_ts)}" if locked.conflict_ts else ""
        return text + ("" if locked.locked else " not locked")

    def do_pessimistic_rollback(self, args: dict[str, str], flags: set[str]) -> str:
        key, for_update = args["key"].encode(), stamp(args["for_update"])
        self._write(stamp(args["start"]), lambda txn, reader: pessimistic_lock.rollback(txn, reader, key, for_update))
        return "ok"

    def do_heart_beat(self, args: dict[str, str], flags: set[str]) -> str:
        key, ttl, minimum = args["key"].encode(), int(args["ttl"]), stamp(args["min"]) if "min" in args else 0
        ttl = self._write(
            stamp(args["start"]), lambda txn, reader: pessimistic_lock.heart_beat(txn, reader, key, ttl, minimum)
        )
        return f"ttl {ttl}"

    def do_status(self, args: dict[str, str], flags: set[str]) -> str:
        request = TxnStatusRequest(
            args["key"].encode(),
            stamp(args["start"]),
            stamp(args.get("caller", "0")),
            stamp(args["current"]),
            rollback_if_not_exist="rollback" in flags,
            force_sync_commit="force-sync" in flags,
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
        return (
            "\n".join(
                f"{i.user_key.decode()} {i.value[:20]!r}" if i.error is None else f"{i.user_key.decode()} locked"
                for i in items
            )
            or "nothing"
        )

    def do_gc(self, args: dict[str, str], flags: set[str]) -> str:
        collector = VersionGc(stamp(args["safe_point"]))
        batch = self.engine.batch()
        for pair in self.engine.items(CF_WRITE):
            for change in collector.feed(*pair):
                batch.delete(change.cf, change.key)
        for change in collector.finish():
            batch.delete(change.cf, change.key)
        self.engine.write(batch)
        return f"deleted {collector.deleted_versions}"

    def do_reset(self, args: dict[str, str], flags: set[str]) -> str:
        self.engine = MemoryEngine()
        return "ok"

    def do_put_lock(self, args: dict[str, str], flags: set[str]) -> str:
        """A lock as it may lie there, whichever command left it."""
        value = args.get("value", "").encode() * int(args.get("times", "1"))
        long = len(value) > SHORT_VALUE_MAX
        kind = LockType[args.get("type", "put").upper()]
        lock = Lock(
            kind,
            args.get("primary", args["key"]).encode(),
            stamp(args["start"]),
            int(args.get("ttl", "10")),
            value if kind is LockType.PUT and not long else None,
            for_update_ts=stamp(args["for_update"]) if "for_update" in args else 0,
            min_commit_ts=stamp(args["min"]) if "min" in args else 0,
            use_async_commit="async" in flags,
            locked_with_conflict="forced" in flags,
            generation=int(args.get("generation", "0")),
        )
        batch = self.engine.batch()
        key = keys.data_key(args["key"].encode())
        batch.put(CF_LOCK, key, lock.to_bytes())
        if long:
            batch.put(CF_DEFAULT, keys.versioned(key, lock.start_ts), value)
        self.engine.write(batch)
        return "ok"

    def do_put_write(self, args: dict[str, str], flags: set[str]) -> str:
        """A write record as it may lie there; without `commit` a rollback."""
        start_ts = stamp(args["start"])
        value = args.get("value", "").encode() * int(args.get("times", "1"))
        long = len(value) > SHORT_VALUE_MAX
        kind = WriteType[args.get("type", "put").upper()]
        commit_ts = stamp(args["commit"]) if "commit" in args else start_ts
        write = Write(
            kind,
            start_ts,
            value if kind is WriteType.PUT and not long else None,
            "overlapped" in flags,
            stamp(args["fence"]) if "fence" in args else None,
            stamp(args["last"]) if "last" in args else 0,
            int(args.get("versions", "0")),
        )
        if kind is WriteType.ROLLBACK:
            write = Write.rollback(start_ts, protected="protected" in flags)
        batch = self.engine.batch()
        key = keys.data_key(args["key"].encode())
        batch.put(CF_WRITE, keys.versioned(key, commit_ts), write.to_bytes())
        if long:
            batch.put(CF_DEFAULT, keys.versioned(key, start_ts), value)
        self.engine.write(batch)
        return "ok"

    def do_dump(self, args: dict[str, str], flags: set[str]) -> str:
        return "\n".join(dump(self.engine)) or "empty"


def show_lock(lock: Lock) -> str:
    extra = f" for_update={show_ts(lock.for_update_ts)}" if lock.for_update_ts else ""
    extra += f" min_commit={show_ts(lock.min_commit_ts)}" if lock.min_commit_ts else ""
    extra += " async" if lock.use_async_commit else ""
    extra += f" rollbacks={','.join(map(show_ts, lock.rollback_ts))}" if lock.rollback_ts else ""
    extra += " forced" if lock.locked_with_conflict else ""
    extra += f" generation={lock.generation}" if lock.generation else ""
    extra += show_last_change(lock)
    return f"{lock.lock_type.name} start={show_ts(lock.start_ts)} primary={lock.primary.decode()}{extra}"


def show_write(write: Write) -> str:
    extra = " protected" if write.is_protected else "" if write.short_value is None else f" {write.short_value!r}"
    extra += " overlapped" if write.has_overlapped_rollback else ""
    extra += f" fence={show_ts(write.gc_fence)}" if write.gc_fence is not None else ""
    return f"{write.write_type.name} start={show_ts(write.start_ts)}{extra}{show_last_change(write)}"


def show_last_change(record: Lock | Write) -> str:
    if record.last_change_ts:
        return f" last_change={show_ts(record.last_change_ts)}/{record.versions_to_last_change}"
    return " last_change=none" if record.versions_to_last_change else ""


def dump(engine: MemoryEngine) -> list[str]:
    """Everything in the families, a line each."""
    lines = [
        f"lock {keys.user_key(key).decode()}: {show_lock(Lock.from_bytes(data))}" for key, data in engine.items(CF_LOCK)
    ]
    for key, data in engine.items(CF_WRITE):
        data_key, commit_ts = keys.split_version(key)
        name = f"{keys.user_key(data_key).decode()}@{show_ts(commit_ts)}"
        lines.append(f"write {name}: {show_write(Write.from_bytes(data))}")
    for key, data in engine.items(CF_DEFAULT):
        data_key, start_ts = keys.split_version(key)
        lines.append(f"default {keys.user_key(data_key).decode()}@{show_ts(start_ts)}: {len(data)} bytes")
    return lines


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
