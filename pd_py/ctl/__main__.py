"""`python -m pd_py.ctl`."""

from __future__ import annotations

from pd_py.ctl.app import app


def main() -> None:
    """Entry point."""
    app(prog_name="pd-py ctl")


if __name__ == "__main__":
    main()
