"""How far back a replica's data is complete: resolved timestamps, and stale reads that need no leader."""
