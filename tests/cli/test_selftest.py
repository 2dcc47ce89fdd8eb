"""What `sessionplane selftest` says in the end, and to whom."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from sessionplane.cli.selftest.verdict import as_object, print_verdict, total
from sessionplane.cli.selftest.watching import Bars, Lines
from sessionplane.proof.parts import Outcome
from sessionplane.proof.selftest import Result, Verdict

FINE = Result(
    name="storm",
    outcome=Outcome(
        name="storm",
        claim="Nobody is turned away.",
        checked=10_000,
        unit="resolves",
        measured={"processes": 8, "storm_s": 4.25},
        seconds=9.04,
    ),
    again="sessionplane selftest --only storm --storm 10000",
)
BROKEN = replace(
    FINE,
    name="sim",
    outcome=replace(FINE.outcome, failures=[f"seed {seed}: an event is missing" for seed in range(7)]),
    again="sessionplane selftest --only sim --sim 10 --seed 0",
    evidence=Path("/somewhere/sim"),
)
ABSENT = replace(FINE, name="powercut", outcome=replace(FINE.outcome, checked=0, skipped="no strace."))


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([FINE], Verdict.OK),
        ([FINE, ABSENT], Verdict.OK),
        ([ABSENT, BROKEN, FINE], Verdict.FAILED),
        ([ABSENT], Verdict.SKIPPED),
    ],
)
def test_one_failure_fails_all_and_what_was_skipped_proves_nothing(
    results: list[Result], verdict: Verdict
) -> None:
    """OK takes at least one part that ran, and none that failed."""
    assert total(results) is verdict


def test_a_person_reads_what_was_claimed_how_much_was_checked_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each part with its claim and its figures; a failure with its evidence and the command that repeats it."""
    print_verdict([FINE, BROKEN, ABSENT], 61.2)
    said = capsys.readouterr().out
    assert "OK       storm: Nobody is turned away.\n" in said
    assert "10,000 resolves checked in 9.0 s; processes 8; storm 4.25 s.\n" in said
    assert "FAILED   sim: " in said
    assert "seed 4: an event is missing\n         and 2 more\n" in said
    assert (
        "evidence  /somewhere/sim\n         again     sessionplane selftest --only sim --sim 10 --seed 0\n"
        in said
    )
    assert "SKIPPED  powercut: Nobody is turned away.\n         Not checked here: no strace.\n" in said
    assert (
        "\nFAILED: sim. A promise was broken: please report it, with the evidence. It took 61 s on " in said
    )


def test_an_all_clear_does_not_hide_what_was_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict of OK names the parts that did not run."""
    print_verdict([FINE, ABSENT], 61.2)
    assert (
        "\nOK, as far as it could be checked here: powercut was skipped. It took" in capsys.readouterr().out
    )


def test_a_program_reads_the_documented_object() -> None:
    """The names are those that docs/operations.md promises to keep."""
    said = json.loads(as_object([FINE, BROKEN], 61.24, 3))
    assert list(said) == ["verdict", "version", "machine", "seed", "seconds", "parts"]
    assert (said["verdict"], said["seed"], said["seconds"]) == ("FAILED", 3, 61.2)
    assert list(said["machine"]) == ["cores", "system", "python", "sqlite", "grpcio"]
    fine, broken = said["parts"]
    assert fine == {
        "name": "storm",
        "verdict": "OK",
        "claim": "Nobody is turned away.",
        "checked": 10_000,
        "unit": "resolves",
        "seconds": 9.0,
        "measured": {"processes": 8, "storm_s": 4.25},
        "failures": [],
        "skipped": "",
        "again": "sessionplane selftest --only storm --storm 10000",
        "evidence": "",
    }
    assert len(broken["failures"]) == 7
    assert broken["evidence"] == "/somewhere/sim"


def test_a_log_gets_a_line_when_a_part_begins_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """And not one for each step."""
    lines = Lines()
    lines.started("storm", 2_000)
    lines.progressed("storm", 10, 2_000)
    lines.ended(FINE)
    assert capsys.readouterr().err == "storm: 2,000 calls ...\nstorm: OK, in 9 s\n"


def test_a_person_sees_a_bar_for_each_part() -> None:
    """With how much is done, and what became of it."""
    screen = io.StringIO()
    with Progress(console=Console(file=screen, force_terminal=True, width=100)) as progress:
        bars = Bars(progress)
        bars.started("storm", 2_000)
        bars.progressed("storm", 1_500, 2_000)
        (task,) = progress.tasks
        assert (task.description, task.completed, task.total) == ("storm", 1_500, 2_000)
        bars.ended(FINE)
        assert task.fields == {"verdict": Verdict.OK}
        assert task.stop_time is not None
