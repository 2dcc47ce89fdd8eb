"""What may catch a bug beside its tests: parts of the self-test, each let loose on a copy to say what it finds.

A part knows nothing of the bug: the same one must find nothing in a copy without any.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.planted.copies import Copy

_LONGEST_S = 600
_PROOF_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a catcher found: how often, of how many that it tried, in how many seconds, and the first proof."""

    found: int
    tried: int
    seconds: float
    proof: str = ""


PARTS: Mapping[str, int] = {"sim": 150, "powercut": 200}
"""part of `sessionplane selftest` -> how often it does what it does."""


def look(part: str, copy: Copy) -> Found:
    """Run a part of the self-test in a copy. One that does not end has found something."""
    began_s = time.monotonic()
    count = PARTS[part]
    command = ["selftest", "--only", part, f"--{part}", str(count), "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sessionplane", *command],
            cwd=copy.top,
            # What a failed part leaves as evidence goes with the copy.
            env=dict(copy.environment) | {"TMPDIR": str(copy.scratch)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return Found(found=1, tried=count, seconds=_LONGEST_S, proof="it does not end")
    (said,) = json.loads(done.stdout)["parts"]
    # That too little happened says nothing about a bug.
    failures = [each for each in said["failures"] if not each.startswith("invalid")]
    proof = (failures or [said["skipped"]])[0].replace(str(copy.scratch), "")
    return Found(
        found=sum(_count(each) for each in failures),
        tried=said["checked"],
        seconds=round(time.monotonic() - began_s, 1),
        proof=proof[:_PROOF_CHARACTERS_MAX],
    )


def _count(failure: str) -> int:
    """Return for how many a failure stands: a part that finds many names some and counts the others."""
    others = re.match(r"and (\d+) more", failure)
    return int(others[1]) if others else 1


TESTS = "tests"
"""The catcher that every bug has: the tests that its patch names."""
