"""One check of a single region per module; `controller` says in which order."""
