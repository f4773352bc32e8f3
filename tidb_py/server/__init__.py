"""The SQL server process: connections, sessions, metrics, configuration."""
