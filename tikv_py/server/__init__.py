"""A storage node as a process: configuration, services, dispatch of commands, work for PD, status pages."""
