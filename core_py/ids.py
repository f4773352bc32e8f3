"""The identifiers every part speaks of, as distinct types so that mypy tells a region from a peer.

All are plain integers on the wire (metapb); `Ts` is a TSO timestamp: physical milliseconds << 18 | logical.
"""

from typing import NewType

ClusterId = NewType("ClusterId", int)
StoreId = NewType("StoreId", int)
RegionId = NewType("RegionId", int)
PeerId = NewType("PeerId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)
Ts = NewType("Ts", int)
TableId = NewType("TableId", int)
IndexId = NewType("IndexId", int)
