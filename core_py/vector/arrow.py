"""Arrow's modules and arrays for code that works on them dynamically.

Kernels take any mix of arrays and scalars and return either; the published stubs type each kernel by one array class
only, so strict typing would need a cast at every call. Here the modules are untyped once, on purpose.
"""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.compute

pa: Any = pyarrow
pc: Any = pyarrow.compute
Vec = Any  # an Arrow array, or an Arrow scalar that stands for a column of one value

FALSE: Vec = pa.scalar(value=False, type=pa.bool_())
TRUE: Vec = pa.scalar(value=True, type=pa.bool_())

__all__ = ["FALSE", "TRUE", "Vec", "pa", "pc"]
