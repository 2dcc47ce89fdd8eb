"""What was measured of each bug, kept as JSON beside the patches, and shown as the table of docs/promises.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tests.planted.bugs import HERE, Bug, bugs
from tests.planted.catchers import PARTS, TESTS, Found

FILE = HERE / "results.json"
CONTROL = "control"
"""The name under which it is kept that no catcher finds anything where no bug is planted."""

Results = Mapping[str, Mapping[str, Found]]
"""bug or CONTROL -> catcher -> what it found."""


def load() -> dict[str, dict[str, Found]]:
    """Read what was measured; nothing if nothing was."""
    if not FILE.exists():
        return {}
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: {catcher: Found(**found) for catcher, found in row.items()} for name, row in kept.items()}


def save(results: Results) -> None:
    """Keep what was measured of the bugs that there are, and of none."""
    names = sorted(bug.name for bug in bugs())
    rows = {
        name: {catcher: asdict(found) for catcher, found in sorted(results[name].items())}
        for name in (*names, CONTROL)
        if name in results
    }
    FILE.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


HEADING = ("Bug", "Breaks", "Quickest test", "Seeds that find it", "Power cuts that find it")


def rows() -> list[Sequence[str]]:
    """Return the table's rows: a bug in each, with what it does, and what caught it after how long."""
    results = load()
    return [_row(bug, results.get(bug.name, {})) for bug in bugs()]


def _row(bug: Bug, found: Mapping[str, Found]) -> Sequence[str]:
    path, _, name = bug.tests[0].partition("::")
    test = name.rpartition("::")[2].partition("[")[0]
    seconds = f", {found[TESTS].seconds} s" if TESTS in found else ""
    shown = [_part(found.get(part)) for part in PARTS]
    return (f"**{bug.name}.** {bug.sentence}", bug.breaks, f"[{test}](../{path}){seconds}", *shown)


def _part(found: Found | None) -> str:
    """Say how many came upon the bug, of how many, and how long they took together."""
    if found is None:
        return ""
    return f"{found.found} of {found.tried}, {found.seconds} s" if found.found else "-"
