"""The leader's side of replication: appends, their answers, commit by counting, snapshots (paper 5.3, 5.4.2, 7).

Why flags instead of immediate broadcasts: proposals and commits only mark `append_due` and `commit_due`; `flush` sends
once per Ready, so all proposals of one loop turn travel in one message per follower.

Invariants: only entries of the leader's own term are committed by counting; the leader counts itself only for durable
entries; a follower gets no append while its window is full.
"""

from __future__ import annotations

from core_py.errors import invariant
from core_py.raft import reads
from core_py.raft.errors import EntryTooLarge, LogCompacted, SnapshotTemporarilyUnavailable, TooMuchUncommitted
from core_py.raft.messages import Entry, EntryType, Message, MsgType
from core_py.raft.progress import Progress, ProgressState
from core_py.raft.state import Raft


def append_noop(raft: Raft) -> None:
    """The new leader's first entry: with it everything of older terms can be committed (paper 8)."""
    append_entry(raft, b"", EntryType.NORMAL, b"")


def append_entry(raft: Raft, data: bytes, entry_type: EntryType, context: bytes) -> int:
    """Append to the leader's own log; the index of the entry. Raises EntryTooLarge, TooMuchUncommitted."""
    size = len(data)
    if size > raft.config.max_entry_bytes:
        raise EntryTooLarge(f"an entry of {size} bytes, the limit is {raft.config.max_entry_bytes}", size)
    limit = raft.config.max_uncommitted_bytes
    # An entry without data, and any entry when nothing is outstanding, is let through, so nothing is stuck for good.
    if size and raft.uncommitted_bytes and raft.uncommitted_bytes + size > limit:
        raise TooMuchUncommitted(f"{raft.uncommitted_bytes} bytes are uncommitted, the limit is {limit}; propose again")
    raft.uncommitted_bytes += size
    index = raft.log.last_index() + 1
    raft.log.append((Entry(raft.term, index, data, entry_type, context),))
    own = raft.tracker.progress.get(raft.id)
    if own is not None:
        own.next = index + 1
    raft.append_due = True
    return index


def flush(raft: Raft) -> None:
    """Send what was marked as due since the last Ready."""
    if raft.append_due or raft.commit_due:
        empty_allowed = raft.commit_due
        raft.append_due = raft.commit_due = False
        for peer, progress in raft.tracker.progress.items():
            if peer != raft.id and send_append(raft, peer, progress, empty_allowed):
                send_more(raft, peer, progress)
    if raft.heartbeat_due:
        reads.broadcast_heartbeat(raft)


def send_more(raft: Raft, peer: int, progress: Progress) -> None:
    """Fill the peer's window with entries."""
    while send_append(raft, peer, progress, False):  # noqa: FBT003 - positional on the hot path
        pass


def send_append(raft: Raft, peer: int, progress: Progress, empty_allowed: bool) -> bool:
    """Send the next entries, or a snapshot if they are compacted; False if nothing was sent."""
    if progress.paused:
        return False
    log = raft.log
    if progress.request_snapshot:
        return _send_snapshot(raft, peer, progress)
    low = progress.next
    high = log.last_index() + 1
    if low >= high and not empty_allowed:
        return False
    try:
        prev_term = log.term(low - 1)
        entries = tuple(log.entries(low, high, raft.config.max_bytes_per_msg))
    except LogCompacted:
        return _send_snapshot(raft, peer, progress)
    raft.messages.append(
        Message(MsgType.APPEND, peer, raft.id, raft.term, prev_term, low - 1, entries, commit=log.committed)
    )
    if entries:
        progress.sent(entries[-1].index, sum([len(entry.data) for entry in entries]))
    elif progress.state is ProgressState.PROBE:
        progress.probe_sent = True
    return True


def _send_snapshot(raft: Raft, peer: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False  # a snapshot is dear; a silent peer would not take it
    try:
        snapshot = raft.log.snapshot(progress.request_snapshot, peer)
    except SnapshotTemporarilyUnavailable:
        return False
    invariant(snapshot.meta.index > 0, "an empty snapshot cannot help a follower")
    if peer not in snapshot.meta.conf_state.members():
        return False  # made before the peer was added; the peer would refuse it
    progress.become_snapshot(snapshot.meta.index)
    raft.messages.append(Message(MsgType.SNAPSHOT, peer, raft.id, raft.term, snapshot=snapshot))
    return True


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum holds, if it is of the own term (paper figure 8)."""
    index = raft.tracker.committed_index()
    if index <= raft.log.committed or raft.log.term_or_zero(index) != raft.term:
        return False
    raft.log.commit_to(index)
    raft.commit_due = True
    reads.release_postponed(raft)
    return True


def own_log_persisted(raft: Raft) -> None:
    """More of the leader's own log is durable: count it."""
    own = raft.tracker.progress.get(raft.id)
    if own is not None and own.maybe_update(raft.log.persisted):
        maybe_commit(raft)


def handle_append_response(raft: Raft, msg: Message) -> None:
    """A follower accepted or refused an append."""
    progress = raft.tracker.progress.get(msg.from_)
    if progress is None:
        return
    progress.recent_active = True
    if msg.reject:
        _handle_rejection(raft, msg, progress)
        return
    was_paused = progress.paused
    advanced = progress.maybe_update(msg.index)
    # A peer that was known to match up to here but is probed answers the probe without news.
    if not advanced and not (progress.state is ProgressState.PROBE and progress.match == msg.index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(msg.index)
    elif progress.state is ProgressState.PROBE or progress.match + 1 >= raft.log.first_index():
        # In SNAPSHOT: an append overtook it, and the log still reaches back far enough to go on without it.
        progress.become_replicate()
    if advanced and maybe_commit(raft):
        pass  # flush tells everybody
    elif was_paused and not raft.commit_due:
        send_append(raft, msg.from_, progress, True)  # noqa: FBT003 - the commit index may be news to it
    send_more(raft, msg.from_, progress)
    if msg.from_ == raft.lead_transferee and progress.match == raft.log.last_index():
        send_timeout_now(raft, msg.from_)


def _handle_rejection(raft: Raft, msg: Message, progress: Progress) -> None:
    if msg.request_snapshot:
        if msg.index < progress.match or progress.state is ProgressState.SNAPSHOT:
            return  # it has gone on since it asked, or gets one already
        progress.request_snapshot = msg.request_snapshot
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        progress.probe_sent = False
        send_append(raft, msg.from_, progress, True)  # noqa: FBT003
        return
    hint = msg.reject_hint
    if msg.log_term:
        hint, _ = raft.log.find_conflict_by_term(hint, msg.log_term)
    if progress.maybe_decrease(msg.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, msg.from_, progress, True)  # noqa: FBT003


def handle_heartbeat_response(raft: Raft, msg: Message) -> None:
    """A follower is alive: let a stuck stream go on, and count the round it answers."""
    progress = raft.tracker.progress.get(msg.from_)
    if progress is None:
        return
    progress.recent_active = True
    progress.probe_sent = False
    if progress.state is ProgressState.REPLICATE and progress.inflights.full:
        progress.inflights.free_first()
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, msg.from_, progress, True)  # noqa: FBT003
    reads.note_answer(raft, progress, msg.context)


def send_timeout_now(raft: Raft, peer: int) -> None:
    """Ask the transferee to campaign; from now on the lease cannot be trusted in this term."""
    raft.read_only.lease_broken = True
    raft.send(Message(MsgType.TIMEOUT_NOW, peer, raft.id, raft.term))
