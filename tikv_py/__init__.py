"""Storage node: RocksDB engines, Raft, raftstore, MVCC transactions, coprocessor; and the reusable async client."""
