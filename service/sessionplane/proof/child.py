"""One part of the self-test in a process of its own: `python -m sessionplane.proof.child RUN COUNT FOLDER [NAME=SEED]`.

It tells its progress and its outcome as JSON lines on what was its standard output; whatever else is printed goes to
standard error. It stops when its standard input ends, so it never outlives whoever started it, and it takes its
own processes with it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from sessionplane.proof.parts import Part
from sessionplane.proof.selftest import STOP_S

_TELL_EVERY_S = 0.1


class Teller:
    """Writes the lines. Progress is told ten times a second at most, and once it is complete."""

    def __init__(self) -> None:
        # Programs that the part starts may print; they shall not get between the lines.
        self._lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._told_at = 0.0

    def progress(self, done: int, of: int) -> None:
        """As `Progress`."""
        now = time.monotonic()
        if done >= of or now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self.tell(done=done, of=of)

    def tell(self, **what: Any) -> None:
        """Write a line at once."""
        self._lines.write(f"{json.dumps(what)}\n")
        self._lines.flush()


def main(run: str, count: int, folder: Path, seeds: Mapping[str, int]) -> None:
    """Run the part, named as `module:function`, and tell its outcome."""
    # Whoever starts things in the background may have SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The first one that is registered is the last one that runs.
    atexit.register(_kill_all)
    Thread(target=_stop_with_input, daemon=True).start()
    module, _, name = run.partition(":")
    part: Part = getattr(import_module(module), name)
    teller = Teller()
    with suppress(KeyboardInterrupt):
        outcome = part(count, folder=folder, progress=teller.progress, **seeds)
        teller.tell(outcome=asdict(outcome))


def _stop_with_input() -> None:
    """Once nobody holds the other end, stop as after ctrl-C; if that does not help, kill everything here."""
    while os.read(0, 1024):
        continue
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(STOP_S)
    _kill_all()


def _kill_all() -> None:
    """End this process and what is left of its own. It leads their group: whoever starts it sees to that."""
    os.killpg(os.getpid(), signal.SIGKILL)


def _seeds(arguments: Sequence[str]) -> dict[str, int]:
    return {name: int(seed) for name, _, seed in (each.partition("=") for each in arguments)}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), _seeds(sys.argv[4:]))
