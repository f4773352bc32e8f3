"""Scheduling tried out: PD's real cluster state and real scheduling against simulated stores, on virtual time."""
