"""The routing table: every verb in every column does what the specification's table says."""

from __future__ import annotations

from itertools import product

import pytest

from sessionplane.domain.routing import ROUTES, Column, Verb, column, route
from sessionplane.domain.sessions import SessionState
from tests.support.values import session

TABLE = """
verb      | none      | CREATED   | STARTING  | ACTIVE    | DETACHED    | SUSPENDED   | CLOSING         | ENDED          | ENDED, final
resolve   | missing   | conflict  | conflict  | conflict  | conflict    | conflict    | conflict        | ended          | found
start_run | create    | admit     | admit     | admit     | admit       | admit       | end then resume | resume         | refuse final
claim     | not found | grant     | grant     | grant     | grant       | grant       | decline         | decline        | decline
release   | not found | no lease  | by lease  | by lease  | by lease    | by lease    | by lease, end   | finished       | finished
publish   | not found | by lease  | by lease  | by lease  | by lease    | by lease    | by lease        | finished       | finished
finish    | not found | by lease  | by lease  | by lease  | by lease    | by lease    | by lease        | finished       | finished
heartbeat | not found | by lease  | by lease  | by lease  | by lease    | by lease    | by lease        | finished       | finished
interrupt | not found | signal    | signal    | signal    | signal      | signal      | signal          | no-op          | no-op
attach    | not found | attach    | attach    | attach    | activate    | activate    | attach, follow  | attach, follow | replay
suspend   | not found | refuse    | refuse    | suspend   | suspend     | no-op       | refuse          | refuse         | refuse
close     | not found | end       | end       | close     | close       | close       | no-op           | no-op          | no-op
reset     | create    | supersede | supersede | supersede | supersede   | supersede   | supersede       | supersede      | refuse
delete    | no-op     | delete    | delete    | delete    | delete      | delete      | delete          | delete         | delete
"""  # noqa: E501 - a table is read across

WORDS = {
    "missing": "by missing policy",
    "conflict": "by conflict policy",
    "ended": "by ended policy",
    "found": "found, by its id only",
    "create": "create",
    "admit": "by run policy",
    "end then resume": "end the rest, then resume",
    "resume": "resume",
    "refuse final": "refused, SESSION_ENDED with successor",
    "not found": "not found",
    "grant": "grant",
    "decline": "claimed false, with the run",
    "no lease": "refused (no lease)",
    "by lease": "by lease",
    "by lease, end": "by lease, ends the run",
    "finished": "by lease (a finished run)",
    "signal": "signal",
    "no-op": "no-op",
    "attach": "attach",
    "activate": "attach, -> ACTIVE",
    "attach, follow": "attach, state stays, follows into the next generation",
    "replay": "replay, closing with the successor",
    "refuse": "refused",
    "suspend": "-> SUSPENDED",
    "end": "end",
    "close": "end if no claimed run, else closing",
    "supersede": "supersede",
    "delete": "delete",
}
"""What each word of the table is in the documentation."""

HEADER, *LINES = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
CELLS = {
    (Verb(line[0]), Column(name)): WORDS[cell]
    for line in LINES
    for name, cell in zip(HEADER[1:], line[1:], strict=True)
}


@pytest.mark.parametrize(("verb", "where"), list(product(Verb, Column)))
def test_each_cell_is_the_specified_one(verb: Verb, where: Column) -> None:
    """A verb does in a column what the specification's table says there."""
    assert ROUTES[verb][where].value == CELLS[verb, where]


def test_the_table_is_total() -> None:
    """Every verb has a cell for every column, and no other."""
    assert set(ROUTES) == set(Verb)
    assert all(set(row) == set(Column) for row in ROUTES.values())


def test_the_table_cannot_be_changed() -> None:
    """What a verb does is fixed once the module is loaded."""
    with pytest.raises(TypeError):
        ROUTES[Verb.CLAIM][Column.ENDED] = ROUTES[Verb.CLAIM][Column.ACTIVE]  # type: ignore[index]


@pytest.mark.parametrize("state", SessionState)
def test_a_session_stands_in_the_column_of_its_state(state: SessionState) -> None:
    """A session that can run again is judged by its state alone."""
    assert column(session(state=state)).value == state.value
    assert route(Verb.CLAIM, session(state=state)) is ROUTES[Verb.CLAIM][Column(state.value)]


def test_no_session_is_a_column() -> None:
    """What does not exist is routed by the table too."""
    assert column(None) is Column.NONE
    assert route(Verb.DELETE, None) is ROUTES[Verb.DELETE][Column.NONE]


def test_a_final_session_has_a_column_of_its_own() -> None:
    """An ended session that lost its key for good is not routed as one that can come back."""
    assert column(session(state=SessionState.ENDED, final=True)) is Column.FINAL
