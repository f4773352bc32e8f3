"""What every process needs around its logic: configuration, log, metrics, transports, lifecycle."""
