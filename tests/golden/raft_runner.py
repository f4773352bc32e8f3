"""Runs scripts against a cluster of pure Raft nodes and prints what they send, store and apply.

A script is blocks of `command args`, `----`, the expected output, and an empty line; it opens with a comment that
says why it exists. One method of `RaftScript` named `do_<command>` per command. A message in flight stays in `network`
until `deliver-msgs` or `stabilize` takes it; nothing happens by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from core_py.raft.confchange import apply_change
from core_py.raft.config import RaftConfig
from core_py.raft.errors import RaftError
from core_py.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    Message,
    MsgType,
    Snapshot,
    StateRole,
)
from core_py.raft.node import RawNode
from core_py.raft.ready import Ready
from core_py.raft.storage import MemoryStorage

_CHANGES = {
    "add": ConfChangeType.ADD_NODE,
    "remove": ConfChangeType.REMOVE_NODE,
    "learner": ConfChangeType.ADD_LEARNER,
}


def parse_change(text: str) -> ConfChange:
    """`add=4 remove=1 learner=5 [implicit|explicit]`; nothing leaves a joint configuration."""
    singles: list[ConfChangeSingle] = []
    transition = ConfChangeTransition.AUTO
    for word in text.split():
        kind, _, peer = word.partition("=")
        if peer:
            singles.append(ConfChangeSingle(_CHANGES[kind], int(peer)))
        else:
            transition = ConfChangeTransition[kind.upper()]
    return ConfChange(tuple(singles), transition=transition)


def show_conf(conf: ConfState) -> str:
    parts = [f"voters={list(conf.voters)}"]
    if conf.voters_outgoing:
        parts.append(f"outgoing={list(conf.voters_outgoing)}")
    if conf.learners:
        parts.append(f"learners={list(conf.learners)}")
    if conf.learners_next:
        parts.append(f"learners_next={list(conf.learners_next)}")
    return " ".join(parts) + (" auto_leave" if conf.auto_leave else "")


def show_entry(entry: Entry) -> str:
    kind = {EntryType.NORMAL: "", EntryType.CONF_CHANGE: " conf", EntryType.CONF_CHANGE_V2: " confv2"}[entry.entry_type]
    return f"{entry.term}/{entry.index}{kind} {entry.data.decode()!r}"


def show_message(message: Message) -> str:
    text = f"{message.from_}->{message.to} {message.msg_type.name} term={message.term}"
    for name in ("log_term", "index", "commit", "reject_hint"):
        value = getattr(message, name)
        if value:
            text += f" {name}={value}"
    if message.reject:
        text += " reject"
    if message.context:
        is_round = message.msg_type in (MsgType.HEARTBEAT, MsgType.HEARTBEAT_RESPONSE)
        text += f" round={int.from_bytes(message.context, 'big')}" if is_round else f" {message.context.decode()}"
    if message.snapshot is not None:
        meta = message.snapshot.meta
        text += f" snapshot={meta.term}/{meta.index} {show_conf(meta.conf_state)}"
    if message.entries:
        text += " [" + ", ".join(show_entry(entry) for entry in message.entries) + "]"
    return text


class FixedRng:
    """Election timeouts that differ by node and never by run."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id

    def randrange(self, start: int, stop: int) -> int:
        return min(start + self._node_id, stop - 1)


@dataclass
class Peer:
    """A node with its disk, its state machine and the writes it has not finished."""

    config: RaftConfig
    storage: ScriptStorage
    node: RawNode
    conf: ConfState
    applied: int
    state: list[str] = field(default_factory=list)
    writes: deque[Ready] = field(default_factory=deque)


class ScriptStorage(MemoryStorage):
    """Makes a snapshot of the present state when asked, unless the script has forbidden it."""

    peer: Peer | None = None

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        if self.peer is not None and not self.snapshot_unavailable:
            self.create_snapshot(self.peer.applied, self.peer.conf, ",".join(self.peer.state).encode())
        return super().snapshot(request_index, to)


class RaftScript:
    """The cluster of one script."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        self.network: list[Message] = []
        self.copies: list[Message] = []
        self.isolated: set[int] = set()
        self.quiet = False
        self.out: list[str] = []

    def run(self, line: str) -> str:
        """Run one command; its output."""
        self.out = []
        name, _, rest = line.partition(" ")
        handler: Callable[[str], None] = getattr(self, "do_" + name.replace("-", "_"))
        loud = not self.quiet or name in ("status", "raft-log", "in-lease", "state")
        try:
            handler(rest.strip())
        except RaftError as error:
            self.out.append(f"{type(error).__name__}: {error}")
            loud = True
        for peer in self.peers.values():
            peer.node.check_invariants()
        return "\n".join(self.out) if self.out and loud else "ok"

    # -- setting up ----------------------------------------------------------------------------------------------

    def do_add_nodes(self, args: str) -> None:
        """`add-nodes N [voters=1,2,3] [learners=4] [index=5] [priority=5] [pre_vote=false ...]`: the next N ids."""
        count, options = _options(args)
        conf = ConfState(_ids(options.pop("voters", "")), _ids(options.pop("learners", "")))
        index = int(options.pop("index", "0"))
        base = _config(options, index)
        assert not options, f"unknown options {options}"
        for _ in range(int(count[0])):
            peer_id = len(self.peers) + 1
            config = replace(base, id=peer_id)
            storage = ScriptStorage(conf, index=index, term=1 if index else 0)
            node = RawNode(config, storage, FixedRng(peer_id))
            self.peers[peer_id] = Peer(config, storage, node, conf, index)
            storage.peer = self.peers[peer_id]

    def do_log_level(self, args: str) -> None:
        """`log-level quiet|full`: quiet commands say only ok."""
        self.quiet = args == "quiet"

    # -- asking --------------------------------------------------------------------------------------------------

    def do_campaign(self, args: str) -> None:
        self._node(args).campaign()

    def do_propose(self, args: str) -> None:
        peer, data = args.split()
        self.out.append(f"index {self._node(peer).propose(data.encode())}")

    def do_propose_conf_change(self, args: str) -> None:
        peer, _, text = args.partition(" ")
        index = self._node(peer).propose_conf_change(parse_change(text), text.encode())
        self.out.append(f"index {index}")

    def do_transfer_leader(self, args: str) -> None:
        peer, target = args.split()
        self._node(peer).transfer_leader(int(target))

    def do_read_index(self, args: str) -> None:
        peer, context = args.split()
        self._node(peer).read_index(context.encode())

    def do_report_snapshot(self, args: str) -> None:
        peer, target, outcome = args.split()
        self._node(peer).report_snapshot(int(target), outcome == "ok")

    def do_report_unreachable(self, args: str) -> None:
        peer, target = args.split()
        self._node(peer).report_unreachable(int(target))

    # -- time ----------------------------------------------------------------------------------------------------

    def do_tick(self, args: str) -> None:
        """`tick 1 [n]`."""
        words = args.split()
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self._node(words[0]).tick()

    def do_tick_heartbeat(self, args: str) -> None:
        peer = self.peers[int(args)]
        self.do_tick(f"{args} {peer.config.heartbeat_ticks}")

    def do_tick_election(self, args: str) -> None:
        """Tick until the node's election timeout has passed, whatever that makes of it."""
        peer = self.peers[int(args)]
        limit = peer.config.election_ticks
        self.do_tick(f"{args} {limit if peer.node.role is StateRole.LEADER else limit + peer.node.id}")

    def do_sleep(self, args: str) -> None:
        """These nodes are not ticked from now on, if each of them is settled."""
        nodes = [self._node(word) for word in args.split()]
        busy = [str(node.id) for node in nodes if not node.is_settled()]
        if busy:
            self.out.append(f"not settled: {' '.join(busy)}")
            return
        for node in nodes:
            node.fall_asleep()

    def do_wake(self, args: str) -> None:
        """`wake 1 30`: after a sleep of 30 ticks."""
        peer, ticks = args.split()
        self._node(peer).wake(int(ticks))

    # -- doing what the nodes want ---------------------------------------------------------------------------------

    def do_process_ready(self, args: str) -> None:
        """Take the Ready, write it at once, send and apply."""
        for peer_id in _ids(args, " "):
            self._process(self.peers[peer_id])

    def do_take_ready(self, args: str) -> None:
        """Take the Ready and send what may go at once; its write begins and does not finish."""
        self._take(self.peers[int(args)])

    def do_finish_write(self, args: str) -> None:
        """The oldest write of the node becomes durable."""
        self._finish(self.peers[int(args)])

    def do_deliver_msgs(self, args: str) -> None:
        """`deliver-msgs 1 2 [drop=3]`: hand over what is in flight to these nodes; lose what goes to `drop`."""
        words, options = _options(args)
        drop = _ids(options.get("drop", ""))
        targets = {int(word) for word in words}
        self._deliver(targets, set(drop))

    def do_stabilize(self, args: str) -> None:
        """Process and deliver among these nodes (all if none is named) until nothing is left to do."""
        ids = _ids(args, " ") or tuple(self.peers)
        for _ in range(200):
            busy = False
            for peer_id in ids:
                while self.peers[peer_id].node.has_ready() or self.peers[peer_id].writes:
                    self._process(self.peers[peer_id])
                    busy = True
            busy = self._deliver(set(ids), set()) or busy
            if not busy:
                return
        raise AssertionError("the cluster does not come to rest")

    def _process(self, peer: Peer) -> None:
        self._take(peer)
        while peer.writes:
            self._finish(peer)

    def _take(self, peer: Peer) -> None:
        if not peer.node.has_ready():
            return
        ready = peer.node.ready()
        name = f"{peer.config.id}"
        if ready.soft_state is not None:
            self.out.append(f"{name} is {ready.soft_state.role.value}, leader {ready.soft_state.leader_id}")
        if ready.hard_state is not None:
            hard = ready.hard_state
            self.out.append(f"{name} writes term={hard.term} vote={hard.vote} commit={hard.commit}")
        if ready.snapshot is not None:
            self.out.append(f"{name} writes snapshot {ready.snapshot.meta.term}/{ready.snapshot.meta.index}")
        self.out.extend(f"{name} writes {show_entry(entry)}" for entry in ready.entries)
        self._send(ready.messages, "sends")
        for entry in ready.committed_entries:
            self._apply(peer, entry)
        self.out.extend(f"{name} may read {read.context.decode()!r} at {read.index}" for read in ready.read_states)
        peer.writes.append(ready)

    def _finish(self, peer: Peer) -> None:
        if not peer.writes:
            return
        ready = peer.writes.popleft()
        snapshot = ready.snapshot
        if snapshot is not None:
            peer.storage.apply_snapshot(snapshot)
            peer.conf, peer.applied = snapshot.meta.conf_state, snapshot.meta.index
            peer.state = [word for word in snapshot.data.decode().split(",") if word]
        peer.storage.append(ready.entries)
        if ready.hard_state is not None:
            peer.storage.set_hard_state(ready.hard_state)
        peer.node.on_persist(ready.number)
        if snapshot is not None:
            peer.node.advance_apply_to(snapshot.meta.index)
        self._send(ready.persisted_messages, "sends after writing")

    def _apply(self, peer: Peer, entry: Entry) -> None:
        text = f"{peer.config.id} applies {show_entry(entry)}"
        if entry.entry_type is not EntryType.NORMAL:
            change = parse_change(entry.data.decode())
            peer.conf = apply_change(peer.conf, change)
            text += f": {show_conf(peer.node.apply_conf_change(change))}"
        elif entry.data:
            peer.state.append(entry.data.decode())
        peer.applied = entry.index
        self.out.append(text)
        peer.node.advance_apply_to(entry.index)

    def _send(self, messages: tuple[Message, ...], how: str) -> None:
        for message in messages:
            self.out.append(f"{message.from_} {how}: {show_message(message)}")
            if message.from_ in self.isolated or message.to in self.isolated:
                self.out.append("  lost")
            else:
                self.network.append(message)

    def _deliver(self, targets: set[int], drop: set[int]) -> bool:
        in_flight, self.network = self.network, []
        delivered = False
        for message in in_flight:
            if message.to in drop:
                self.out.append(f"dropped: {show_message(message)}")
            elif message.to in targets and message.to in self.peers:
                self.peers[message.to].node.step(message)
                delivered = True
            else:
                self.network.append(message)
        return delivered

    # -- misfortune ------------------------------------------------------------------------------------------------

    def do_isolate(self, args: str) -> None:
        """Lose everything these nodes send and get, also what is in flight; `isolate` alone ends it."""
        self.isolated = set(_ids(args, " "))
        self.network = [m for m in self.network if not {m.from_, m.to} & self.isolated]

    def do_keep_copies(self, args: str) -> None:
        """The network remembers what is in flight to these nodes."""
        self.copies = [message for message in self.network if message.to in _ids(args, " ")]

    def do_send_copies(self, args: str) -> None:
        """What was remembered is in flight once more, last first, as a network may do."""
        assert not args
        self.network.extend(reversed(self.copies))

    def do_crash(self, args: str) -> None:
        """Lose the unfinished writes and start again from the disk."""
        peer = self.peers[int(args)]
        peer.writes.clear()
        peer.storage.set_conf_state(peer.conf)
        config = replace(peer.config, applied=peer.applied, restarted=True)
        peer.config = config
        peer.node = RawNode(config, peer.storage, FixedRng(config.id))

    def do_compact(self, args: str) -> None:
        peer, index = args.split()
        self.peers[int(peer)].storage.compact(int(index))

    def do_snapshot_available(self, args: str) -> None:
        peer, available = args.split()
        self.peers[int(peer)].storage.snapshot_unavailable = available == "no"

    # -- looking ---------------------------------------------------------------------------------------------------

    def do_status(self, args: str) -> None:
        for peer_id in _ids(args, " ") or tuple(self.peers):
            status = self._node(str(peer_id)).status()
            hard = status.hard_state
            self.out.append(
                f"{status.id} {status.role.value} leader={status.leader_id} term={hard.term} vote={hard.vote} "
                f"commit={hard.commit} applied={status.applied} log={status.first_index}..{status.last_index} "
                f"{show_conf(status.conf_state)}"
            )
            self.out.extend(f"  {peer}: {text}" for peer, text in status.progress)

    def do_raft_log(self, args: str) -> None:
        log = self._node(args).raft_log
        entries = log.entries(log.first_index(), log.last_index() + 1, None)
        self.out.extend(show_entry(entry) for entry in entries)

    def do_in_lease(self, args: str) -> None:
        self.out.append(str(self._node(args).in_lease()).lower())

    def do_state(self, args: str) -> None:
        self.out.append(" ".join(self.peers[int(args)].state))

    def _node(self, text: str) -> RawNode:
        return self.peers[int(text)].node


def _options(args: str) -> tuple[list[str], dict[str, str]]:
    words = args.split()
    pairs = [word.split("=", 1) for word in words if "=" in word]
    return [word for word in words if "=" not in word], dict(pairs)


def _config(options: dict[str, str], applied: int) -> RaftConfig:
    """The settings that a script names, taken out of `options`."""

    def switch(name: str) -> bool:
        return options.pop(name, "true") == "true"

    def limit(name: str, default: int) -> int:
        return int(options.pop(name, default))

    usual = RaftConfig(id=1)
    return RaftConfig(
        id=1,
        applied=applied,
        pre_vote=switch("pre_vote"),
        check_quorum=switch("check_quorum"),
        read_only_lease=switch("read_only_lease"),
        priority=limit("priority", 0),
        max_bytes_per_msg=limit("max_bytes_per_msg", 1000),
        max_entry_bytes=limit("max_entry_bytes", usual.max_entry_bytes),
        max_inflight_msgs=limit("max_inflight_msgs", usual.max_inflight_msgs),
        max_inflight_bytes=limit("max_inflight_bytes", usual.max_inflight_bytes),
        max_uncommitted_bytes=limit("max_uncommitted_bytes", usual.max_uncommitted_bytes),
    )


def _ids(text: str, separator: str = ",") -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(separator) if word)


def run_script(text: str) -> str:
    """The script with every output as it is now."""
    script = RaftScript()
    result: list[str] = []
    expecting = False
    for line in text.splitlines():
        if not line.strip():
            expecting = False
        elif line.startswith("#"):
            result.extend(["", line, ""])
        elif line == "----":
            expecting = True
        elif not expecting:
            result.extend([line, "----", script.run(line), ""])
    return "\n".join(_squeeze(result))


def _squeeze(lines: list[str]) -> list[str]:
    """No two empty lines in a row, and comment lines of one paragraph together."""
    kept: list[str] = []
    for line in lines:
        if line == "" and (not kept or kept[-1] == ""):
            continue
        if line.startswith("#") and len(kept) > 1 and kept[-1] == "" and kept[-2].startswith("#"):
            kept.pop()
        kept.append(line)
    return kept
