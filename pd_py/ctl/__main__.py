"""`python -m pd_py.ctl`."""

from __future__ import annotations

from pd_py.ctl.app import app


def main(arguments: list[str] | None = None) -> None:
    """Entry point; without arguments those of the process."""
    app(args=arguments, prog_name="pd-py ctl")


if __name__ == "__main__":
    main()
