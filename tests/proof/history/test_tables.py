"""The judge's own tables and the service's: written apart, and saying the same."""

from __future__ import annotations

import pytest

from sessionplane.domain import errors, interrupts, routing, runs, sessions
from sessionplane.domain.keys import KeySettings, canonical
from sessionplane.proof.history import spelling, tables
from sessionplane.rpc.render import ROUTES
from sessionplane.rpc.status import CODES
from sessionplane.v1 import run_pb2, session_pb2

NEVER_IN_ORDER = {errors.LogBehindToken, errors.Checksum, errors.Damaged}
"""Refusals that say that the file is damaged."""


def test_sessions_change_as_the_service_says() -> None:
    """Every change of a session that the service knows is in the judge's table, and no other."""
    known = {
        (str(before), str(cause), str(after))
        for before, causes in sessions.TRANSITIONS.items()
        for cause, after in causes.items()
    }
    assert known | {(tables.NONE, "CREATED", "CREATED")} == tables.SESSION_CHANGES


def test_runs_change_and_end_as_the_service_says() -> None:
    """So is every change, and every end, of a run."""
    known = {(str(before), str(after)) for before, then in runs.TRANSITIONS.items() for after in then}
    assert known | {(tables.NONE, str(first)) for first in runs.FIRST_STATES} == tables.RUN_CHANGES
    assert {
        (str(end), str(cause)) for end, causes in runs.ENDS.items() for cause in causes
    } == tables.RUN_ENDS


def test_interrupts_go_as_the_service_says() -> None:
    """So is every stage of an interrupt."""
    known = {(str(before), str(after)) for before, then in interrupts.STAGES.items() for after in then}
    assert known | {(tables.NONE, str(first)) for first in interrupts.FIRST_STAGES} == tables.INTERRUPT_STAGES


def test_routes_are_those_of_the_service() -> None:
    """What StartRun would do is the same in both tables, and so is what takes runs in and gives them out."""
    row = routing.ROUTES[routing.Verb.START_RUN]
    for column, action in row.items():
        if column is not routing.Column.NONE:
            name = "FINAL" if column is routing.Column.FINAL else str(column)
            assert tables.ROUTES[name] == tables.word(session_pb2.Route, ROUTES[action])
    assert {state for state, action in row.items() if action is routing.Action.ADMIT} == tables.OPEN
    grants = routing.ROUTES[routing.Verb.CLAIM]
    assert {state for state, action in grants.items() if action is routing.Action.GRANT} == tables.OPEN


def test_refusals_are_those_of_the_service() -> None:
    """Every refusal has one code, the same in both tables; damage is never in order."""
    assert {
        (kind.reason, code.name) for kind, code in CODES.items() if kind not in NEVER_IN_ORDER
    } == tables.REFUSALS


def test_words_are_those_of_the_wire() -> None:
    """A value of an enum is named without its prefix."""
    assert tables.word(run_pb2.RunState, run_pb2.RUN_STATE_QUEUED) == "QUEUED"
    assert tables.word(run_pb2.RunState, 0) == tables.NONE


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        ("settings2", ""),
        (" AGENT:Main:Settings2 ", ""),
        ("agent:main:agent:MAIN:settings2", ""),
        ("settings2", "other"),
        ("Signal:Group:AbC:Thread:X", ""),
        ("matrix:channel:!Room:Example.ORG:thread:$Id", ""),
        ("matrix:channel", ""),
        ("telegram:direct:AbC", ""),
        ("Stra\u00dfe", ""),
        ("cafe\u0301", ""),
    ],
)
def test_keys_have_the_form_that_the_service_gives_them(written: str, agent: str) -> None:
    """A good key has one canonical form, told by two who do not know each other."""
    known = canonical(written, agent=agent, settings=KeySettings()).text
    assert spelling.canonical(written, agent) == known
