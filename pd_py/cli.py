"""`pd-py`: runs a member, or with `ctl` as its first word asks and operates a cluster.

Only the half that is wanted is loaded: a command of `pd-py ctl` is typed and waited for, and the server takes a second to load.
"""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    """Entry point."""
    if sys.argv[1:2] == ["ctl"]:
        import_module("pd_py.ctl.__main__").main(sys.argv[2:])
    else:
        import_module("pd_py.server.__main__").main()
