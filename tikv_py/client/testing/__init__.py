"""A cluster in memory for unit tests of programs that use the client: no server code, no files, no ports."""
