"""Resource groups: how many request units whom may use."""
