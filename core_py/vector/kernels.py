"""Imports every family of kernels, so that `eval.KERNELS` is complete; import this module before evaluating."""

from __future__ import annotations

from core_py.vector import arithmetic, casts, compare, jsons, logic, maths, strings, times
from core_py.vector.eval import KERNELS

SUPPORTED = frozenset(KERNELS)

__all__ = ["SUPPORTED", "arithmetic", "casts", "compare", "jsons", "logic", "maths", "strings", "times"]
