"""The planted bugs: each still fits the source, was measured, and a bug that no test sees would be noticed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from docs import generate
from tests.planted.__main__ import prove
from tests.planted.bugs import TOP, Bug, HeadInvalid, bugs, read
from tests.planted.catchers import PARTS, TESTS
from tests.planted.copies import DoesNotApply, planted
from tests.planted.results import CONTROL, load

BUGS = bugs()
PROMISES = (TOP / "docs" / "promises.md").read_text(encoding="utf-8")


def test_the_field_s_sixteen_bugs_are_there() -> None:
    """One that is dropped is not forgotten."""
    assert len(BUGS) == 16


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_fits_the_source_as_it_is(bug: Bug) -> None:
    """Its patch applies to service/ and nothing else, names a promise and tests that exist, and says one sentence."""
    asked = ["git", "apply", "--numstat", "--check", str(bug.patch)]
    done = subprocess.run(asked, cwd=TOP, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    changed = [line.split("\t")[2] for line in done.stdout.splitlines()]
    assert changed
    assert all(path.startswith("service/sessionplane/") for path in changed)
    assert f"\n## {bug.breaks}\n" in PROMISES
    assert bug.sentence.count(". ") == 0
    assert bug.sentence.endswith(".")
    assert all(_exists(test) for test in bug.tests)


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    function = name.rpartition("::")[2].partition("[")[0]
    return f"def {function}(" in (TOP / path).read_text(encoding="utf-8")


def test_what_is_planted_is_what_python_imports_there() -> None:
    """In every process that is started in a copy; and the repository is not touched."""
    (bug,) = bugs(["synchronous-normal"])
    with planted(bug) as copy:
        program = "import sessionplane.store.connections as each; print(each.__file__, *each._WRITER)"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=copy.scratch,
            env=dict(copy.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(str(copy.top))
        assert "synchronous = NORMAL" in done.stdout
    assert not copy.top.exists()
    assert "synchronous = FULL" in (TOP / "service/sessionplane/store/connections.py").read_text()


def test_a_patch_that_no_longer_fits_is_named(tmp_path: Path) -> None:
    """With what git says about it."""
    stale = tmp_path / "stale.patch"
    stale.write_text(BUGS[0].patch.read_text(encoding="utf-8").replace("\n-", "\n-was never there "))
    with pytest.raises(DoesNotApply, match="stale"), planted(replace(BUGS[0], name="stale", patch=stale)):
        pass


def test_a_patch_says_what_it_is_about(tmp_path: Path) -> None:
    """Without a promise, or without a test, nobody could tell whether it was caught."""
    silent = tmp_path / "silent.patch"
    silent.write_text("Something goes wrong.\n\nBreaks: Loud\n\n--- a/x\n+++ b/x\n")
    with pytest.raises(HeadInvalid, match="silent"):
        read(silent)


def test_a_bug_that_no_test_sees_is_a_complaint(tmp_path: Path) -> None:
    """So is one whose test fails for another reason; and the test that was named stays green without it."""
    (bug,) = bugs(["synchronous-normal"])
    harmless = tmp_path / "harmless.patch"
    harmless.write_text(bug.patch.read_text(encoding="utf-8").replace("= NORMAL", "= EXTRA"))
    others = [test.replace("synchronous-2", "fullfsync-1") for test in bug.tests]
    unseen = prove(replace(bug, patch=harmless, tests=others))
    assert [complaint.rpartition(" ")[2] for complaint in unseen.complaints] == ["passes"]
    otherwise = prove(replace(bug, patch=harmless))
    assert [complaint.rpartition(" ")[2] for complaint in otherwise.complaints] == ["otherwise"]


def test_every_bug_was_measured_and_no_catcher_cries_wolf() -> None:
    """What docs/promises.md shows is of the bugs that there are; each was caught, and without one nothing was found."""
    results = load()
    assert results.keys() == {CONTROL, *(bug.name for bug in BUGS)}
    assert {name for name, row in results.items() if not row[TESTS].found} == {CONTROL}
    assert all(row.keys() <= {TESTS, *PARTS} for row in results.values())
    assert not any(found.found for found in results[CONTROL].values())
    assert "planted-bugs" in generate.SECTIONS
