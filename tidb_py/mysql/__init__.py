"""The MySQL client/server protocol as pure functions and state machines on bytes: no sockets, no event loop."""
