"""`python -m tests.planted [NAME ...]`: plant bugs in copies of the repository and see that they are caught.

As it stands it proves, in about a minute: each bug fails the tests that its patch names, with the words that it names,
and without any bug the same tests pass. With `--measure` it lets the parts of the self-test loose on each bug as well,
and on none, and keeps what they found in results.json, which `make docs` shows in docs/promises.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.planted.bugs import Bug, bugs
from tests.planted.catchers import PARTS, TESTS, Found, look
from tests.planted.copies import planted
from tests.planted.results import CONTROL, load, save
from tests.planted.trials import run_tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the tests that should catch a bug said: how long the quickest took, and what is wrong with that."""

    name: str
    seconds: float
    complaints: Sequence[str] = field(default_factory=list)


def prove(bug: Bug) -> Proof:
    """See that each test that a patch names fails with the bug, and says what the patch says."""
    with planted(bug) as copy:
        tested = run_tests(copy, bug.tests)
    passed = [each.test for each in tested if each.failure is None]
    strange = [each.test for each in tested if each.failure and not re.search(bug.saying, each.failure)]
    complaints = [f"{test} passes" for test in passed] + [f"{test} fails otherwise" for test in strange]
    if len(tested) < len(bug.tests):
        complaints.append("not all of its tests exist")
    return Proof(name=bug.name, seconds=min(each.seconds for each in tested), complaints=complaints)


def prove_control(found: Sequence[Bug]) -> Proof:
    """See that the same tests pass where no bug is: else their failures mean nothing."""
    tests = sorted({test for bug in found for test in bug.tests})
    with planted(None) as copy:
        tested = run_tests(copy, tests)
    complaints = [f"{each.test} fails" for each in tested if each.failure is not None]
    return Proof(name=CONTROL, seconds=sum(each.seconds for each in tested), complaints=complaints)


def prove_all(names: Sequence[str], jobs: int) -> list[Proof]:
    """Prove each bug and the control, some at once."""
    found = bugs(names)
    with ThreadPoolExecutor(jobs) as pool:
        control = pool.submit(prove_control, found)
        return [*pool.map(prove, found), control.result()]


def measure(proofs: Sequence[Proof], parts: Sequence[str]) -> bool:
    """Let parts of the self-test loose on what was proven, and keep it all; False if one found something in nothing."""
    results = load()
    for proof in proofs:
        row = results.setdefault(proof.name, {})
        found, tests = (0, "") if proof.name == CONTROL else (1, bugs([proof.name])[0].tests[0])
        row[TESTS] = Found(found=found, tried=1, seconds=round(proof.seconds, 2), proof=tests)
        for part in parts:
            with planted(None if proof.name == CONTROL else bugs([proof.name])[0]) as copy:
                row[part] = look(part, copy)
            print(f"{proof.name:42} {part}: {row[part]}", flush=True)
        save(results)
    return not any(each.found for each in results[CONTROL].values())


def main() -> int:
    """Read the command line and do what it says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted", description="See that planted bugs are caught."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a bug; all of them if none is named")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--measure", action="store_true", help="let the self-test loose on them, and keep it")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    asked = parser.parse_args()
    proofs = prove_all(asked.names, asked.jobs)
    for proof in proofs:
        verdict = "; ".join(proof.complaints) or ("all pass" if proof.name == CONTROL else "caught")
        print(f"{proof.name:42} {proof.seconds:6.2f} s  {verdict}", flush=True)
    good = not any(proof.complaints for proof in proofs)
    if good and asked.measure:
        good = measure(proofs, asked.part or list(PARTS))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
