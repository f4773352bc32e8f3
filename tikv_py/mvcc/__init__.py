"""Percolator's rules as pure functions over a reader: what a command may see, what it writes, what it refuses.

    default   z mc(key) ~start_ts    values longer than 255 bytes
    lock      z mc(key)              the lock of the transaction that is writing the key
    write     z mc(key) ~commit_ts   what each commit did to the key, newest first; short values live here

Nothing here writes: actions collect modifications in an `MvccTxn`, the scheduler proposes them through raft.
"""
