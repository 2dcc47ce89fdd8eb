"""The entry point of `sessionplane` and of `python -m sessionplane`. Says what is missing in a plain install."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line and returns its exit code: 2 if this installation has no command line."""
    try:
        from sessionplane.cli import root  # noqa: PLC0415  a plain install has no click
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        print(  # noqa: T201
            "The command line is not part of a plain install: pip install 'sessionplane[server]'.",
            file=sys.stderr,
        )
        return 2
    return root.main()


if __name__ == "__main__":
    sys.exit(main())
