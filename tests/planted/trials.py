"""Tests run in a copy: which of them failed, after how long, and what they said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.planted.copies import Copy

TEST_TIMEOUT_S = 60


class NothingRan(Exception):
    """Pytest did not come as far as running a test; the message is what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What became of one test, its fixtures included: how long it took, and what it said if it failed."""

    test: str
    seconds: float
    failure: str | None


def run_tests(copy: Copy, tests: Sequence[str], *arguments: str) -> list[Tested]:
    """Run tests (pytest ids, files or folders) in a copy. Raises NothingRan."""
    report = copy.scratch / "report.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb", "native"),
            *("--timeout", str(TEST_TIMEOUT_S), "--basetemp", str(copy.scratch / "pytest")),
            *("--junit-xml", str(report), *arguments, *tests),
        ],
        cwd=copy.top,
        env=dict(copy.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    tested = _read(report) if report.exists() else []
    if not tested:
        raise NothingRan(done.stdout[-2_000:] + done.stderr[-2_000:])
    return tested


def _read(report: Path) -> list[Tested]:
    """Read pytest's report. A test that failed twice, in its body and in a fixture's end, says both."""
    found: dict[str, Tested] = {}
    for case in ET.parse(report).iter("testcase"):
        test = _id_of(case.get("classname", ""), case.get("name", ""))
        said = [each.text or each.get("message", "") for each in case if each.tag in {"failure", "error"}]
        before = found.get(test)
        if before is not None and before.failure is not None:
            said.insert(0, before.failure)
        failure = "\n".join(said) if said else None
        seconds = float(case.get("time", 0)) + (before.seconds if before else 0)
        found[test] = Tested(test=test, seconds=seconds, failure=failure)
    return list(found.values())


def _id_of(place: str, name: str) -> str:
    """Return the pytest id of a test: its file, its class if it has one, and its name."""
    folders, _, last = place.rpartition(".")
    if last.startswith("Test"):
        return f"{folders.replace('.', '/')}.py::{last}::{name}"
    return f"{place.replace('.', '/')}.py::{name}"
