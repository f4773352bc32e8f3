"""This member of PD: who it is, whether it leads, and what it does while it leads."""
