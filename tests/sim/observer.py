"""Watches every store of a simulated cluster from outside: after each turn of a store loop its peers must keep the rules of Raft.

Checked where it can be broken, so that a failure names the step that did it and not its late consequence:

- the Raft core's own invariants (order of indexes, configuration, progress) of every peer that changed;
- one leader per region and term, and a new leader has everything that was committed in earlier terms;
- what is committed at an index of a region is the same everywhere, for ever;
- terms do not go back, nor epochs; one epoch of a region means one range and one list of peers, wherever it is seen;
- ranges of initialized peers on one store do not overlap;
- whoever answers reads by itself has the newest state: nobody has committed in a higher term or applied more, and no part split
  off the region has committed anything yet;
- a write falls inside the region that applies it;
- after a loss of power a disk still holds what was promised: votes, and entries that were acknowledged or counted.

It changes nothing and draws no random numbers. It reads the store's internals, which is why it is one module: `watch` and
`watching_peers` are the only places that hook into production code.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from core_py.raft.messages import Entry, Message, MsgType, StateRole
from protos.kvproto import eraftpb_pb2, metapb_pb2, raft_cmdpb_pb2
from tests.sim.trace import Trace
from tests.support.storage_cluster import Node
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, WriteBatch
from tikv_py.raftstore import keys
from tikv_py.raftstore.apply import Applied, Applier, LocalWrites, parse_writes
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import RAFT_INIT_LOG_INDEX, ApplyState, load_raft_state
from tikv_py.raftstore.region import overlaps
from tikv_py.raftstore.snapshot import PendingSnapshot
from tikv_py.raftstore.store import Store


@dataclass(slots=True)
class Seen:
    """A peer as it was after the last turn that changed it."""

    peer: Peer
    numbers: tuple[int, ...] = ()
    role: StateRole = StateRole.FOLLOWER
    region: metapb_pb2.Region = field(default_factory=metapb_pb2.Region)
    checked: int = 0
    """Committed entries up to here were compared."""
    snapshot: bool = False


@dataclass(slots=True)
class Promise:
    """What a peer told others that it holds durably."""

    term: int = 0
    vote: int = 0
    index: int = 0
    """An entry acknowledged to a leader, or counted by this peer as leader."""
    index_term: int = 0


@dataclass(slots=True)
class RegionHistory:
    """What the cluster agreed on for one region."""

    leaders: dict[int, int] = field(default_factory=dict)
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """index -> (term, checksum of the data)"""
    commits: dict[int, int] = field(default_factory=dict)
    """term of the first who knew -> greatest index committed then"""
    newest_term: int = 0
    """The greatest term of a committed entry."""
    applied: int = 0
    """The greatest index that any peer has applied, and may have shown."""
    versions: dict[tuple[int, int], metapb_pb2.Region] = field(default_factory=dict)
    """epoch -> region"""


class Observer:
    """All stores of one run. What is wrong is raised inside the store that does it."""

    def __init__(self, trace: Trace, stands: Callable[[str], bool], fail: Callable[[BaseException], None]) -> None:
        self._fail = fail
        self._trace = trace
        self._stands = stands
        self._regions: dict[int, RegionHistory] = {}
        self._seen: dict[str, dict[int, Seen]] = {}
        self._promises: dict[str, dict[tuple[int, int], Promise]] = {}
        self._nodes: dict[int, str] = {}
        """id(store) -> name"""
        self.stats = {"turns": 0, "commits": 0, "local reads": 0, "promises kept": 0, "elections": 0}

    def watch(self, node: Node) -> None:
        """Look at a store that has just started after each of its turns from now on."""
        assert node.server is not None
        store = node.server.store
        assert store is not None
        self._seen[node.name] = {}
        self._nodes[store.store_id] = node.name
        turn, send = store._turn, store.send

        def watched_turn() -> None:
            turn()
            self._after_turn(node.name, store)

        def watched_send(peer: Peer, messages: tuple[Message, ...] | list[Message]) -> None:
            self._note_promises(node.name, peer, messages)
            send(peer, messages)

        store._turn = watched_turn  # type: ignore[method-assign]
        store.send = watched_send  # type: ignore[method-assign]
        self._after_turn(node.name, store)

    def history(self, region_id: int) -> RegionHistory:
        """What is known of a region."""
        found = self._regions.get(region_id)
        if found is None:
            found = self._regions[region_id] = RegionHistory()
        return found

    # ---- after a turn ---------------------------------------------------------------------------------------

    def _after_turn(self, name: str, store: Store) -> None:
        self.stats["turns"] += 1
        seen = self._seen[name]
        reshaped = False
        for region_id, peer in store.peers.items():
            node = peer.node
            numbers = (node.term, node.committed, node.persisted, node.last_index, node.leader_id)
            before = seen.get(region_id)
            if before is None or before.peer is not peer:
                before = seen[region_id] = Seen(peer)
                self._trace.note(f"peer {peer.peer_id} appears, term {node.term}", where=name, region=region_id)
            elif (
                before.numbers == numbers
                and before.role is node.role
                and before.region is peer.region
                and before.snapshot == (peer.snapshot is not None)
            ):
                continue
            reshaped |= self._changed(name, region_id, before)
            before.numbers = numbers
        for region_id in [region_id for region_id in seen if region_id not in store.peers]:
            gone = seen.pop(region_id)
            self._trace.note(f"peer {gone.peer.peer_id} is gone", where=name, region=region_id)
            if region_id in store.tombstones:  # otherwise a split makes it anew, with the vote it gave
                self._promises.get(name, {}).pop((region_id, gone.peer.peer_id), None)
        if reshaped:
            self._check_ranges(name, store)

    def _changed(self, name: str, region_id: int, seen: Seen) -> bool:
        """Check one peer; True when its region is another than before."""
        peer, node = seen.peer, seen.peer.node
        node.check_invariants()
        if seen.numbers:
            assert node.term >= seen.numbers[0], f"{name}: peer {peer.peer_id} goes back to term {node.term}"
        history = self.history(region_id)
        if node.role is not seen.role:
            self._trace.note(
                f"peer {peer.peer_id} is {node.role.value} of term {node.term}", where=name, region=region_id
            )
            seen.role = node.role
        if node.role is StateRole.LEADER:
            self._check_leader(peer, history)
        self._check_committed(name, region_id, seen, history)
        self._check_promise(name, region_id, peer)
        if (peer.snapshot is not None) is not seen.snapshot:
            seen.snapshot = peer.snapshot is not None
            what = "begins to take in" if seen.snapshot else "has taken in"
            index = peer.storage.apply_state.truncated_index
            self._trace.note(f"peer {peer.peer_id} {what} a snapshot at {index}", where=name, region=region_id)
        if peer.region is seen.region:
            return False
        self._check_region(name, seen, history)
        return True

    def _check_leader(self, peer: Peer, history: RegionHistory) -> None:
        node = peer.node
        known = history.leaders.get(node.term)
        assert known in (None, peer.peer_id), f"peers {known} and {peer.peer_id} both lead term {node.term}"
        if known is not None:
            return
        history.leaders[node.term] = peer.peer_id
        self.stats["elections"] += 1
        top = max((index for term, index in history.commits.items() if term < node.term), default=0)
        assert node.last_index >= top, (
            f"the leader {peer.peer_id} of term {node.term} ends at {node.last_index}, {top} was committed before"
        )
        if top >= node.raft_log.first_index():
            found, expected = node.raft_log.term(top), history.committed[top][0]
            assert found == expected, f"the leader {peer.peer_id} has term {found} at {top}, committed was {expected}"

    def _check_committed(self, name: str, region_id: int, seen: Seen, history: RegionHistory) -> None:
        node = seen.peer.node
        low, high = max(seen.checked + 1, node.raft_log.first_index()), node.committed
        seen.checked = max(seen.checked, high)
        if low > high:
            return
        for entry in node.raft_log.entries(low, high + 1, None):
            mark = (entry.term, zlib.crc32(entry.data))
            known = history.committed.setdefault(entry.index, mark)
            assert known == mark, (
                f"{name}: peer {seen.peer.peer_id} of region {region_id} committed {mark} at {entry.index}, another one {known}"
            )
            self.stats["commits"] += 1
            history.newest_term = max(history.newest_term, entry.term)
        history.commits[node.term] = max(history.commits.get(node.term, 0), high)

    def _check_region(self, name: str, seen: Seen, history: RegionHistory) -> None:
        region, old = seen.peer.region, seen.region
        epoch, old_epoch = region.region_epoch, old.region_epoch
        mark = (epoch.conf_ver, epoch.version)
        went_back = epoch.conf_ver < old_epoch.conf_ver or epoch.version < old_epoch.version
        assert not went_back, f"{name}: region {region.id} goes back from epoch {old_epoch} to {epoch}"
        seen.region = region
        if not region.peers:
            return
        known = history.versions.setdefault(mark, region)
        assert known is region or known == region, (
            f"{name}: epoch {mark} of region {region.id} is {region}, was {known}"
        )
        members = " ".join(
            f"{peer.id}@{peer.store_id}{'vlid'[peer.role % 4] if peer.role else ''}" for peer in region.peers
        )
        bounds = f"[{region.start_key!r}, {region.end_key!r})"
        self._trace.note(f"epoch {mark[0]}.{mark[1]} {bounds} peers {members}", where=name, region=region.id)

    def _check_ranges(self, name: str, store: Store) -> None:
        regions = [peer.region for peer in store.peers.values() if peer.storage.is_initialized]
        regions.sort(key=lambda region: region.start_key)
        for left, right in itertools.pairwise(regions):
            assert not overlaps(left, right), f"{name}: regions overlap: {left} and {right}"

    # ---- reads and writes -----------------------------------------------------------------------------------

    @contextmanager
    def watching_peers(self) -> Iterator[None]:
        """Check every answer of a peer that it may read by itself, and every entry that is applied."""
        original, apply = Peer.can_read_locally, Applier.apply

        def watched(peer: Peer) -> bool:
            can = original(peer)
            if can:
                try:
                    self._check_local_read(peer)
                except AssertionError as error:
                    self._fail(error)  # raised in a handler it would become an answer
                    raise
            return can

        def watched_apply(applier: Applier, batch: WriteBatch, entry: Entry, local: LocalWrites | None) -> Applied:
            applied = apply(applier, batch, entry, local)
            region_id = applier._storage.region.id
            self.history(region_id).applied = max(self.history(region_id).applied, entry.index)
            if applied.error is None and applied.written_keys:
                _check_written(applier._storage.region, entry)
            return applied

        Peer.can_read_locally = watched  # type: ignore[method-assign, assignment]
        Applier.apply = watched_apply  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Peer.can_read_locally, Applier.apply = original, apply  # type: ignore[method-assign]

    def _check_local_read(self, peer: Peer) -> None:
        name = self._nodes.get(peer.meta().store_id, "")
        if self._stands(name):
            return  # the process sees a moment that has passed; what it says now is held back and judged by its history
        self.stats["local reads"] += 1
        region = peer.region
        newest, most = self.history(region.id).newest_term, self.history(region.id).applied
        assert newest <= peer.node.term, (
            f"{name}: peer {peer.peer_id} of region {region.id} trusts a lease of term {peer.node.term},"
            f" term {newest} has committed"
        )
        applied = peer.storage.apply_state.applied_index
        assert applied >= most, (
            f"{name}: peer {peer.peer_id} of region {region.id} reads by itself at {applied}, {most} is applied elsewhere"
        )
        for part_id, history in self._regions.items():
            if part_id == region.id or max(history.committed, default=0) <= RAFT_INIT_LOG_INDEX:
                continue
            for part in history.versions.values():
                newer = part.region_epoch.version > region.region_epoch.version
                assert not (newer and overlaps(part, region)), (
                    f"{name}: peer {peer.peer_id} reads {region} by lease, {part} was split off and has committed"
                )

    # ---- durability -----------------------------------------------------------------------------------------

    def _note_promises(self, name: str, peer: Peer, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.reject:
                continue
            if message.msg_type is MsgType.REQUEST_VOTE_RESPONSE:
                promise = self._promise(name, peer)
                if message.term >= promise.term:
                    promise.term, promise.vote = message.term, message.to
            elif message.msg_type is MsgType.APPEND_RESPONSE and message.index and message.term == peer.node.term:
                self._acknowledged(name, peer, message.index)

    def _promise(self, name: str, peer: Peer) -> Promise:
        promises = self._promises.setdefault(name, {})
        key = (peer.region.id, peer.peer_id)
        found = promises.get(key)
        if found is None:
            found = promises[key] = Promise()
        return found

    def _acknowledged(self, name: str, peer: Peer, index: int) -> None:
        term = peer.node.raft_log.term_or_zero(index)
        if term:
            promise = self._promise(name, peer)
            promise.index, promise.index_term = index, term

    def _check_promise(self, name: str, region_id: int, peer: Peer) -> None:
        """A new leader may have replaced what was acknowledged; a leader has acknowledged to itself what it counts."""
        node = peer.node
        if node.role is StateRole.LEADER:
            promise = self._promise(name, peer)
            promise.term, promise.vote = node.term, peer.peer_id
            if node.persisted > promise.index:
                self._acknowledged(name, peer, node.persisted)
            return
        found = self._promises.get(name, {}).get((region_id, peer.peer_id))
        if found is None:
            return
        replaced = node.raft_log.term_or_zero(found.index) not in (0, found.index_term)
        if replaced or found.index > node.last_index:
            found.index = found.index_term = 0

    def check_disks(self, node: Node) -> None:
        """After a loss of power: the disks hold what was promised."""
        for (region_id, peer_id), promise in self._promises.get(node.name, {}).items():
            where = f"{node.name}: the disk of peer {peer_id} of region {region_id}"
            state = load_raft_state(node.raft_db, region_id)
            if state is None:
                assert not promise.term, f"{where} has forgotten its vote of term {promise.term}"
                continue
            hard, last = state
            assert hard.term >= promise.term, f"{where} is at term {hard.term}, it voted in {promise.term}"
            if hard.term == promise.term:
                assert hard.vote == promise.vote, f"{where} voted for {hard.vote} after voting for {promise.vote}"
            if promise.index:
                self._check_entry(node, region_id, promise, last, where)
            self.stats["promises kept"] += 1
        self._seen.pop(node.name, None)

    @staticmethod
    def _check_entry(node: Node, region_id: int, promise: Promise, last: int, where: str) -> None:
        assert last >= promise.index, f"{where} ends at {last}, it acknowledged {promise.index}"
        data = node.raft_db.get(CF_DEFAULT, keys.log_key(region_id, promise.index))
        if data is not None:
            term = eraftpb_pb2.Entry.FromString(data).term
            assert term == promise.index_term, f"{where} has term {term} at {promise.index}, not {promise.index_term}"
            return
        assert promise.index <= truncated_index(node.raft_db, node.kv_db, region_id), (
            f"{where} lacks the entry {promise.index} that it acknowledged"
        )


def _check_written(region: metapb_pb2.Region, entry: Entry) -> None:
    modifies, _ = parse_writes(raft_cmdpb_pb2.RaftCmdRequest.FromString(entry.data))
    start, end = keys.data_range(region.start_key, region.end_key)
    for modify in modifies:
        inside = start <= modify.key < end
        assert inside, (
            f"entry {entry.index} writes {modify.key!r} outside of region {region.id} of [{start!r}, {end!r})"
        )


def truncated_index(raft_db: MemoryEngine, kv_db: MemoryEngine, region_id: int) -> int:
    """Up to where a region's log may be missing on disk."""
    state = kv_db.get(CF_RAFT, keys.apply_state_key(region_id))
    truncated = ApplyState.from_bytes(state, region_id).truncated_index if state is not None else 0
    marker = raft_db.get(CF_DEFAULT, keys.pending_snapshot_key(region_id))
    return max(truncated, PendingSnapshot.from_bytes(marker).index if marker is not None else 0)
