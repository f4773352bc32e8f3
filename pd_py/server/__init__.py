"""PD as a process: gRPC service, heartbeat streams, configuration, status pages."""
