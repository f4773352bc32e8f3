"""What every example takes on its command line."""

from __future__ import annotations

import argparse


def pd_endpoints(description: str) -> list[str]:
    """The addresses given with --pd."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pd", default="127.0.0.1:2379", help="addresses of PD members, with commas between them")
    return str(parser.parse_args().pd).split(",")
