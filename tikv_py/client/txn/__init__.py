"""Transactions: snapshots, buffered writes, two-phase commit and the resolving of foreign locks."""
