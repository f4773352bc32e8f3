"""Logical optimisation, one rule per module: each maps a plan to an equivalent plan."""
