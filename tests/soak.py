"""Everything that takes long: `make soak`, or `python -m tests.soak MINUTES`.

First the tests that are marked slow, once. Then round after round until the time is over: the self-test under seeds
that nobody has seen, and one module of properties with many more random examples. The last round is finished. Each
step says how to repeat it; one that fails stops nothing, and the exit code says so in the end.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
SEEDS_A_ROUND = 5_000
PYTEST = (sys.executable, "-m", "pytest", "--timeout", "900")
SELFTEST = (sys.executable, "-m", "sessionplane", "selftest")


class Step(NamedTuple):
    """A command, and the variables that are its own."""

    command: Sequence[str]
    variables: Mapping[str, str] = {}

    def __str__(self) -> str:
        variables = (f"{name}={value}" for name, value in self.variables.items())
        return " ".join([*variables, shlex.join(self.command)])


def rounds(first_seed: int) -> Iterator[tuple[Step, ...]]:
    """Return what each round does, without an end. No two rounds have a seed in common."""
    properties = sorted(
        str(path.relative_to(TESTS.parent))
        for path in TESTS.rglob("test_*.py")
        if "from hypothesis" in path.read_text(encoding="utf-8")
    )
    for seed, module in zip(count(first_seed, SEEDS_A_ROUND), cycle(properties)):
        selftest = (*SELFTEST, "--sim", str(SEEDS_A_ROUND), "--seed", str(seed))
        yield Step(selftest), Step((*PYTEST, module), {"HYPOTHESIS_PROFILE": "soak"})


def main(minutes: float) -> int:
    """Do it; returns how many steps failed, as far as an exit code goes."""
    began = time.monotonic()
    failed = _failed([Step((*PYTEST, "-m", "slow"))])
    for steps in rounds(int(time.time()) // 60 * SEEDS_A_ROUND):
        if time.monotonic() - began >= minutes * 60:
            break
        failed += _failed(steps)
    print(f"\n{len(failed)} steps failed, in {(time.monotonic() - began) / 60:.0f} minutes")
    print("\n".join(map(str, failed)))
    return min(len(failed), 1)


def _failed(steps: Sequence[Step]) -> list[Step]:
    failed = []
    for step in steps:
        print(f"\n=== {step}", flush=True)
        if subprocess.run(step.command, env=os.environ | step.variables, check=False).returncode:
            failed.append(step)
    return failed


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
