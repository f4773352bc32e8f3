"""Storage engines behind one port: RocksDB for servers, memory for embedded clusters and simulation."""
