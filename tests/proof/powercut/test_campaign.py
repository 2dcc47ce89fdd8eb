"""Power cuts of a real server: none loses anything, and a server that promises too much is found out."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessionplane.proof.powercut import campaign
from sessionplane.proof.powercut.__main__ import main as again
from sessionplane.proof.powercut.campaign import Cut, Found, Replay, describe, plan
from sessionplane.proof.powercut.disk import Happening
from sessionplane.proof.powercut.evidence import Expected, expectations
from sessionplane.proof.powercut.recording import End, Recording, Work, record
from sessionplane.proof.powercut.trace import FlushBegun, Flushed, unavailable
from sessionplane.proof.powercut.traffic import Traffic

needs_strace = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

RUN = "\nimport sys\nfrom sessionplane.__main__ import main\nsys.exit(main())"
NORMAL = """
from sessionplane.store import connections
connections._WRITER = tuple(each.replace("= FULL", "= NORMAL") for each in connections._WRITER)
"""
TOLD_BEFORE_THE_COMMIT = """
from sessionplane.store import writer
def commit(self, commands):
    group = writer.Group()
    self._connection.execute(writer.sql.BEGIN_WRITE)
    for command in commands:
        self._apply(command, group)
    self._tell(group)
    self._connection.execute(writer.sql.COMMIT)
    return writer.Group()
writer.Writer._commit = commit
"""


SHOWN_BEFORE_THE_COMMIT = """
from sessionplane.store import writer
def commit(self, commands):
    group = writer.Group()
    self._connection.execute(writer.sql.BEGIN_WRITE)
    for command in commands:
        self._apply(command, group)
    self._tell(writer.Group(kept=list(group.kept)))
    self._connection.execute(writer.sql.COMMIT)
    return writer.Group(outcomes=group.outcomes)
writer.Writer._commit = commit
"""

ALONE = 15
AT_ONCE = 60


def planted(bug: str) -> Sequence[str]:
    """Return how a server with a bug is run."""
    return (sys.executable, "-c", bug + RUN)


async def resolves(clients: Traffic) -> None:
    """Call a server without ever reading what it wrote before."""
    await clients.resolve_one_by_one(ALONE)


async def everything(clients: Traffic) -> None:
    """Resolves whose cost can be counted, and then a bit of everything."""
    await clients.resolve_one_by_one(ALONE)
    await clients.resolve_at_once(AT_ONCE)
    await clients.work(4)


@dataclass(frozen=True)
class Recorded:
    """A recording and where it is."""

    folder: Path
    made: Recording
    wanted: Sequence[Expected]


def recorded(folder: Path, work: Work, **how: Any) -> Recorded:
    """Make a recording."""
    made = record(folder, work, **how)
    return Recorded(folder, made, expectations(made.happenings, made.answers))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A first start under which the power fails, and a second one."""
    return recorded(tmp_path_factory.mktemp("recording"), everything, ends=[End.CUT, End.LAST])


def tried(it: Recorded, folder: Path, cuts: Sequence[Cut]) -> list[Found]:
    """Try cuts in this process."""
    folder.mkdir()
    replay = Replay(folder, it.made.happenings, it.wanted)

    async def attempt() -> list[Found]:
        return [await replay.attempt(cut) for cut in cuts]

    return asyncio.run(attempt())


@needs_strace
@pytest.mark.timeout(120)
def test_no_cut_loses_what_was_acknowledged(healthy: Recorded, tmp_path: Path) -> None:
    """At any call of a server, on a new disk or on one that lost its power before."""
    found = tried(healthy, tmp_path / "cut", plan(healthy.made.happenings, 200))
    assert [describe(healthy.folder, each) for each in found if each.problems] == []
    assert sum(each.at_risk for each in found) > 50
    assert campaign.too_little(healthy.made, healthy.wanted, found) == []


@needs_strace
@pytest.mark.timeout(120)
def test_an_acknowledgement_costs_one_flush_and_several_at_once_cost_fewer(healthy: Recorded) -> None:
    """Never none: what is answered is flushed. And never two: a flush is what a call costs."""
    known = {fact: since for since, fact in healthy.wanted}
    answered = [known[answer.facts[0]] for answer in healthy.made.answers[: ALONE + AT_ONCE]]
    one_by_one = healthy.made.happenings[answered[0] : answered[ALONE - 1]]
    at_once = healthy.made.happenings[answered[ALONE - 1] : max(answered)]
    assert flushes(one_by_one) == ["sessionplane.db-wal"] * (ALONE - 1)
    assert 1 <= len(flushes(at_once)) < AT_ONCE


def flushes(happenings: Sequence[Happening]) -> list[str]:
    """Return which files were flushed."""
    begun = {each.number: each.name for each in happenings if isinstance(each, FlushBegun)}
    return [begun[each.number] for each in happenings if isinstance(each, Flushed)]


@needs_strace
@pytest.mark.timeout(120)
def test_what_a_killed_server_had_not_flushed_is_on_the_disk_before_anybody_hears_of_it(
    tmp_path: Path,
) -> None:
    """It had written a commit, and answered nobody. The next one finds it done, and says so when it is asked again."""
    (tmp_path / "recording").mkdir()
    it = recorded(tmp_path / "recording", resolves, ends=[End.KILLED, End.LAST])
    known = {fact: since for since, fact in it.wanted}
    asked_again = known[it.made.answers[-1 - ALONE].facts[0]]
    cuts = [Cut(asked_again + 1, seed) for seed in range(20)]
    assert [each.problems for each in tried(it, tmp_path / "cut", cuts)] == [[]] * len(cuts)


@needs_strace
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("bug", "work"),
    [
        pytest.param(NORMAL, resolves, id="normal"),
        pytest.param(TOLD_BEFORE_THE_COMMIT, resolves, marks=pytest.mark.slow, id="told-before-the-commit"),
        pytest.param(
            SHOWN_BEFORE_THE_COMMIT, everything, marks=pytest.mark.slow, id="shown-before-the-commit"
        ),
    ],
)
def test_a_server_that_promises_too_much_is_found_out(
    tmp_path: Path, bug: str, work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commits that are not flushed, answers and events that come before their commit; one line shows it again."""
    (tmp_path / "recording").mkdir()
    it = recorded(tmp_path / "recording", work, server=planted(bug), ends=[End.LAST])
    failed = [each for each in tried(it, tmp_path / "cut", plan(it.made.happenings, 80)) if each.problems]
    assert len(failed) > 5
    # Where commits stand behind a hole in the log, the start itself finds it out.
    assert all(
        re.search("acknowledged and lost|which were acknowledged", each.problems[0]) for each in failed
    )
    problem = re.sub(r"/\S*", "", failed[0].problems[0])
    command, _, _ = describe(it.folder, failed[0]).partition(": ")
    monkeypatch.setattr(sys, "argv", command.split()[2:])
    assert again() == 1
    assert problem in re.sub(r"/\S*", "", capsys.readouterr().out)


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_cuts_lose_nothing(tmp_path: Path) -> None:
    """As `sessionplane selftest` tries them; nothing is left behind."""
    done = []
    outcome = campaign.run(2_000, folder=tmp_path, progress=lambda *told: done.append(told))
    assert outcome.failures == []
    assert outcome.checked == 2_000
    assert done[-1] == (2_000, 2_000)
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_strace_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was checked, and nothing failed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = campaign.run(10, folder=tmp_path, progress=lambda *_: None)
    assert "strace is not installed" in outcome.skipped
    assert (outcome.checked, outcome.ok) == (0, False)


def test_where_nothing_may_be_traced_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without the right to."""
    strace = tmp_path / "strace"
    strace.write_text("#!/bin/sh\necho 'strace: PTRACE_TRACEME: Operation not permitted' >&2\nexit 1\n")
    strace.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Operation not permitted" in campaign.run(10, folder=tmp_path, progress=lambda *_: None).skipped


def test_a_recording_of_too_little_has_failed() -> None:
    """Nothing that could be lost, and nothing that was acknowledged."""
    made = Recording(happenings=[], answers=[])
    found = [Found(cut=Cut(0, 0), problems=[], at_risk=False)]
    assert len(campaign.too_little(made, [], found)) == 3
