"""The catalogue of a store's failpoints: every name there is, where it fires, and what `return` does there.

A name stands at one place in the code and is armed by at least one test; tests/health/test_failpoints.py keeps both. The
sections are the packages the places are in.
"""

from __future__ import annotations

from core_py.failpoints import Point, instant, waiting

TXN: dict[str, Point] = {
    "scheduler_before_latch": waiting("a transactional command is to latch its keys; return answers ServerIsBusy"),
    "scheduler_after_latch": waiting("the keys are latched, nothing is read yet; return answers ServerIsBusy"),
    "scheduler_before_write": instant("the changes are decided, not proposed; return answers ServerIsBusy"),
    "scheduler_after_write": waiting("the changes are applied, not answered; return answers an undetermined result"),
    "lock_wait_begin": instant(
        "a pessimistic lock request is to wait for a lock; return answers at once that it is locked"
    ),
    "lock_waiters_wake": instant("locks were released and their waiters are to try again; return lets them sleep on"),
    "deadlock_report_send": waiting(
        "a report is to leave for the deadlock detector's leader; return breaks the stream"
    ),
    "deadlock_report_receive": waiting("a report reached the deadlock detector's leader; return drops it"),
    "lease_read": instant("a read looks at the leader's lease; return makes it ask a quorum"),
    "read_index_wait": waiting("a read is to ask a quorum for its index; return answers ReadIndexNotReady"),
    "delete_range_before_write": waiting("a KvDeleteRange is to be proposed; return answers ServerIsBusy"),
}

SERVER: dict[str, Point] = {
    "kv_prewrite": waiting("a KvPrewrite begins; return answers ServerIsBusy, as for the other commands here"),
    "kv_commit": waiting("a KvCommit begins"),
    "kv_batch_rollback": waiting("a KvBatchRollback begins"),
    "kv_cleanup": waiting("a KvCleanup begins"),
    "kv_pessimistic_lock": waiting("a KvPessimisticLock begins"),
    "kv_pessimistic_rollback": waiting("a KVPessimisticRollback begins"),
    "kv_txn_heart_beat": waiting("a KvTxnHeartBeat begins"),
    "kv_check_txn_status": waiting("a KvCheckTxnStatus begins"),
    "kv_resolve_lock_batch": waiting("a KvResolveLock takes up its next batch of keys"),
    "raw_write": instant("a raw write is to be proposed; return answers ServerIsBusy"),
    "raw_cas_after_latch": waiting("a compare-and-swap holds its key, nothing is read; return answers ServerIsBusy"),
    "raw_ttl_before_remove": waiting("expired values were found and are to be removed; return leaves them"),
    "batch_commands_receive": waiting("a message of commands arrived; return drops it, so that they stay unanswered"),
    "batch_commands_send": waiting("answers are to leave; return ends the stream without them"),
    "raft_message_receive": instant("a raft message arrived in a batch; return drops it"),
    "snapshot_receive": waiting("another store opened a snapshot stream; return refuses it"),
    "pd_store_heartbeat": waiting("the store is to report itself to PD; return makes that fail"),
    "pd_region_heartbeat": waiting("a leader is to report its region to PD; return makes that fail"),
    "pd_report_split": waiting("a split is to be reported to PD; return makes that fail"),
    "pd_command": waiting("a command of PD is to be obeyed; return ignores it"),
    "split_before_ids": waiting("a split is to ask PD for ids; return makes that fail"),
    "split_before_propose": waiting("a split has its ids and is to be proposed; return makes it fail"),
    "gc_driver_before_locks": waiting("the txn safe point is advanced, no lock of before it is settled yet"),
    "gc_before_remove": waiting("a batch of old versions is to be removed; return makes it wait and try again"),
    "flashback_batch": waiting("a batch of old versions is to be written by a flashback; return answers ServerIsBusy"),
    "destroy_range_begin": waiting("an UnsafeDestroyRange begins; return answers ServerIsBusy"),
    "bootstrap_prepared": waiting("the first region is on disk, PD does not know it"),
    "bootstrap_decided": waiting("PD answered about the first region, the preparation is still on disk"),
}

COPROCESSOR: dict[str, Point] = {
    "coprocessor_before_read": waiting("a push-down request is parsed, not read for; return answers ServerIsBusy"),
    "coprocessor_view_frozen": waiting("its view of the data is frozen, nothing computed; return answers an error"),
}

TRANSPORT: dict[str, Point] = {
    "raft_message_send": instant("a raft message is to be queued for its store; return drops it and tells nobody"),
    "raft_queue_full": instant("a raft message meets its store's queue; return finds it full"),
    "raft_stream_send": waiting("a batch of raft messages is about to leave; return breaks the stream under it"),
    "snapshot_send": waiting("the stream for a snapshot is open, nothing sent; return breaks it"),
    "snapshot_send_chunk": waiting("the next chunk of a snapshot is about to leave; return breaks the stream"),
}

# Where nothing is said of `return`, it does nothing: a replica that left a step out would differ from the others.

STORE_LOOP: dict[str, Point] = {
    "raft_before_turn": waiting("the store loop is to take in what has arrived; ticks go on"),
    "raft_before_collect": instant("the arrived messages are taken in, no Ready is collected"),
    "raft_before_write": instant("a turn's log entries and states are to be written to the raft database"),
    "raft_before_sync": waiting("a turn is written to the raft database and is to be synced"),
    "raft_after_sync": waiting("a turn is synced; what it promises has not left and is not answered"),
    "role_change": instant("a peer became leader, candidate or follower, and nobody was told"),
    "apply_before_write": instant("a turn's committed entries are to be written to the kv database"),
    "apply_before_answer": instant("a turn's committed entries are written, not synced; who waits was not told"),
    "lease_lost": instant("a leader looks at its lease; return lets it believe that it has none"),
}

APPLY: dict[str, Point] = {
    "apply_before_entry": instant("a committed entry of any kind is to be applied"),
    "apply_split": instant("a split is to be applied"),
    "apply_compact_log": instant("a cut of the log is to be applied"),
    "apply_conf_change": instant("a membership change is to be applied"),
    "apply_prepare_merge": instant("a PrepareMerge is to be applied: it closes the source"),
    "apply_commit_merge": instant("a CommitMerge is to be applied: the target takes the source's range"),
    "apply_rollback_merge": instant("a RollbackMerge is to be applied: it opens the source again"),
}

BIRTHS_AND_DEATHS: dict[str, Point] = {
    "peer_create": instant("a message is to create a peer; return ignores the message"),
    "split_peer_before_sync": waiting("a split has written a new region, which is not durable and has no peer"),
    "split_peer_before_start": waiting("a split's new region is durable and has no peer"),
    "vote_request_keep": instant("a vote request came before the split that makes its peer; return drops it"),
    "peer_tell_removed": instant("a peer that was removed asks for a vote; return does not tell it"),
    "destroy_before_tombstone": instant("a peer is to be destroyed, its tombstone is not written"),
    "burial_before_sync": waiting("a destroyed peer's tombstone is written, not synced"),
    "burial_before_clear": waiting("a destroyed peer's tombstone is durable, its log is still there"),
    "burial_before_release": waiting("a destroyed peer's log is cleared, not synced; its range is not free yet"),
    "change_peers": instant("a membership change is to be proposed; return refuses it"),
    "transfer_leader": instant("leadership is to be handed over; return refuses it"),
}

SNAPSHOTS: dict[str, Point] = {
    "snapshot_make": instant("a region is to be frozen for a follower; return says that it cannot be now"),
    "snapshot_receive_chunk": waiting("a chunk of a snapshot came; return ends its stream"),
    "snapshot_received": waiting("a snapshot is staged and durable, the store loop has not heard; return gives it up"),
    "snapshot_refuse": instant("the store loop looks at a snapshot that came; return refuses it"),
    "snapshot_begin": instant("a snapshot is to take the log's place, its marker is not written"),
    "snapshot_before_clear": waiting("a snapshot's marker is durable, the old data is still there"),
    "snapshot_before_ingest": waiting("the old data is deleted, not synced; the new is not there"),
    "snapshot_before_region_state": waiting("the new data is there, the region's state is the old one"),
    "snapshot_before_unmark": waiting("a snapshot is in, durably, and its marker is still there"),
    "snapshot_before_drop": waiting("a snapshot's marker is gone, the staged files are still there"),
    "snapshot_before_answer": waiting("a snapshot is in, the leader does not know"),
}

MERGES: dict[str, Point] = {
    "merge_prepare": instant("a PrepareMerge is to be proposed; return refuses the merge"),
    "merge_propose_commit": instant("a CommitMerge is to be proposed; return leaves it for a later tick"),
    "merge_propose_rollback": instant("a RollbackMerge is to be proposed; return leaves it for a later tick"),
    "merge_absorb": instant("the target has the source's range, the source's peer is to end in the same batch"),
}

LOG_GC: dict[str, Point] = {
    "log_gc_propose": instant("a leader is to propose a cut of its log; return leaves it for the next check"),
    "log_cut_before_sync": waiting("a cut is applied; what the entries did is not durable in the kv database"),
    "log_cut_before_delete": waiting("the kv database is durable, the entries are still there"),
}

HIBERNATION: dict[str, Point] = {
    "hibernate_request": instant("a follower is asked to sleep and could; return does not answer"),
    "hibernate_probe": instant("a store that leads sleeping followers was probed; return finds it silent"),
}

RAFTSTORE: dict[str, Point] = {
    **TRANSPORT,
    **STORE_LOOP,
    **APPLY,
    **BIRTHS_AND_DEATHS,
    **SNAPSHOTS,
    **MERGES,
    **LOG_GC,
    **HIBERNATION,
}

POINTS: dict[str, Point] = {**TXN, **SERVER, **COPROCESSOR, **RAFTSTORE}
