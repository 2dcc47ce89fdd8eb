"""One cut of a recording once more: `python -m sessionplane.proof.powercut RECORDING --at N --seed S`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from sessionplane.proof.powercut import recording
from sessionplane.proof.powercut.campaign import Cut, Replay
from sessionplane.proof.powercut.evidence import expectations


def main() -> int:
    """Show what is wrong after a cut, and leave what the disk held. Returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m sessionplane.proof.powercut", description=__doc__)
    parser.add_argument("recording", type=Path, help="the folder of a recording")
    parser.add_argument("--at", type=int, required=True, help="how many events have happened")
    parser.add_argument("--seed", type=int, required=True, help="decides about what was not flushed")
    given = parser.parse_args()
    made = recording.load(given.recording)
    wanted = expectations(made.happenings, made.answers)
    folder = Path(tempfile.mkdtemp(prefix="sessionplane-powercut-"))
    found = asyncio.run(Replay(folder, made.happenings, wanted).attempt(Cut(given.at, given.seed)))
    said = [*found.problems, f"What the store made of the disk is in {folder}."]
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
