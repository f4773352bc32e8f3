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
    "bootstrap_prepared": waiting("the first region is on disk, PD does not know it"),
    "bootstrap_decided": waiting("PD answered about the first region, the preparation is still on disk"),
}

COPROCESSOR: dict[str, Point] = {
    "coprocessor_before_read": waiting("a push-down request is parsed, not read for; return answers ServerIsBusy"),
    "coprocessor_view_frozen": waiting("its view of the data is frozen, nothing computed; return answers an error"),
}

RAFTSTORE: dict[str, Point] = {
    "raft_message_send": instant("a raft message is to be queued for its store; return drops it and tells nobody"),
    "raft_queue_full": instant("a raft message meets its store's queue; return finds it full"),
    "raft_stream_send": waiting("a batch of raft messages is about to leave; return breaks the stream under it"),
    "snapshot_send": waiting("the stream for a snapshot is open, nothing sent; return breaks it"),
    "snapshot_send_chunk": waiting("the next chunk of a snapshot is about to leave; return breaks the stream"),
}

POINTS: dict[str, Point] = {**TXN, **SERVER, **COPROCESSOR, **RAFTSTORE}
