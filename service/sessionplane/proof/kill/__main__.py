"""Kill a server: `python -m sessionplane.proof.kill KILLS [SEED]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from sessionplane.proof.kill.part import run


def main() -> int:
    """Kill as often as was asked for; returns 1 if something was found. The database is kept."""
    parser = argparse.ArgumentParser(prog="python -m sessionplane.proof.kill")
    parser.add_argument("kills", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sessionplane-kill-"))
    found = run(asked.kills, folder=folder, progress=_say, seed=asked.seed)
    measured = ", ".join(f"{number} {what}" for what, number in found.measured.items())
    lines = [f"{found.checked} {found.unit} in {found.seconds:.1f} s: {measured}", *found.failures]
    sys.stdout.writelines(f"{line}\n" for line in (*lines, f"The database is {folder / 'kill.db'}."))
    return int(bool(found.failures))


def _say(done: int, of: int) -> None:
    sys.stdout.write(f"kill {done} of {of}\n")


if __name__ == "__main__":
    sys.exit(main())
