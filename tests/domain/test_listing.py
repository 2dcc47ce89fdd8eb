"""What a filter of a session list means, on the values themselves."""

from __future__ import annotations

import pytest
from hypothesis import given

from sessionplane.domain.listing import (
    ALL_SESSIONS,
    FIELDS,
    Condition,
    Field,
    Operator,
    SessionFilter,
    quote,
)
from sessionplane.domain.sessions import Session, SessionState
from tests.support.filters import UNNAMED, filters, sessions
from tests.support.values import NOW_MS, key, session

BARE = session(1)
BUSY = session(
    2,
    key=key("telegram:direct:42"),
    state=SessionState.ACTIVE,
    active_run_id="run",
    labels={"team": "billing", "": "empty"},
    created_at_ms=NOW_MS - 5,
    updated_at_ms=NOW_MS + 5,
)


def one(field: str, operator: str, value: str | int | bool, label: str = "") -> Condition:
    return Condition(field=Field(field), operator=Operator(operator), value=value, label=label)


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        (one("state", "=", "ACTIVE"), [BUSY]),
        (one("state", "!=", "ACTIVE"), [BARE]),
        (one("kind", "=", "direct"), [BUSY]),
        (one("kind", "!=", "cron"), [BARE, BUSY]),
        (one("agent", "=", "main"), [BUSY]),
        (one("agent", "=", "mai"), []),
        (one("agent", "!=", "main"), [BARE]),
        (one("key", "=", "agent:main:telegram:direct:42"), [BUSY]),
        (one("key", "=", "agent:main:telegram"), []),
        (one("key", ":", "agent:main:telegram:"), [BUSY]),
        (one("key", ":", ""), [BUSY]),
        (one("running", "=", value=True), [BUSY]),
        (one("running", "=", value=False), [BARE]),
        (one("labels", "=", "billing", "team"), [BUSY]),
        (one("labels", "!=", "billing", "team"), [BARE]),
        (one("labels", "!=", "", "absent"), [BARE, BUSY]),
        (one("labels", ":", "", "team"), [BUSY]),
        (one("labels", ":", "bill", "team"), [BUSY]),
        (one("labels", "=", "empty", ""), [BUSY]),
        (one("labels", ":", "", "Team"), []),
        (one("update_time", ">", NOW_MS), [BUSY]),
        (one("update_time", ">=", NOW_MS), [BARE, BUSY]),
        (one("update_time", "=", NOW_MS), [BARE]),
        (one("create_time", "<", NOW_MS), [BUSY]),
        (one("create_time", "<=", NOW_MS), [BARE, BUSY]),
    ],
    ids=str,
)
def test_a_condition_wants_what_it_says(condition: Condition, wanted: list[Session]) -> None:
    """What a session has nothing of differs from every value and equals none."""
    assert [each for each in (BARE, BUSY) if condition.matches(each)] == wanted


def test_a_queued_run_is_a_running_session() -> None:
    """Running means unfinished, as it does in answers."""
    assert one("running", "=", value=True).matches(session(1, queued_run_count=1))


def test_groups_are_joined_by_and_and_their_conditions_by_or() -> None:
    """The empty filter wants everything."""
    either = (one("state", "=", "ENDED"), one("state", "=", "ACTIVE"))
    assert SessionFilter(groups=(either,)).matches(BUSY)
    assert not SessionFilter(groups=(either, (one("agent", "=", "other"),))).matches(BUSY)
    assert ALL_SESSIONS.matches(BARE)
    assert str(ALL_SESSIONS) == ""


@given(filters, sessions(1))
def test_no_wanted_session_was_updated_outside_the_bounds(wanted: SessionFilter, found: Session) -> None:
    """A store need not look outside of them."""
    first, last = wanted.updated_within()
    assert first <= found.updated_at_ms <= last or not wanted.matches(found)


@pytest.mark.parametrize(
    ("conditions", "bounds"),
    [
        ([[("<", 5)]], (None, 4)),
        ([[("<=", 5)], [(">", 2)]], (3, 5)),
        ([[(">=", 5), ("=", 3)], [("<", 9)]], (3, 8)),
        ([[("=", 5)], [("=", 6)]], (6, 5)),
        ([[("<", 5), (">", 9)]], (None, None)),
    ],
)
def test_the_bounds_are_as_narrow_as_the_times(
    conditions: list[list[tuple[str, int]]], bounds: tuple[int | None, int | None]
) -> None:
    """The hull of what OR joins, and what AND joins must share."""
    groups = tuple(tuple(one("update_time", *each) for each in group) for group in conditions)
    first, last = SessionFilter(groups=groups).updated_within()
    assert (first if first > -(2**63) else None, last if last < 2**63 - 1 else None) == bounds


def test_every_field_has_its_rule() -> None:
    """The table of the docs is whole."""
    assert set(FIELDS) == set(Field)


@pytest.mark.parametrize(("field", "operator"), [("state", "<"), ("running", ":"), ("update_time", "!=")])
def test_an_operator_that_the_field_does_not_know_makes_no_condition(field: str, operator: str) -> None:
    """No store is ever asked for it."""
    with pytest.raises(ValueError, match="is not compared with"):
        one(field, operator, "x")


@pytest.mark.parametrize("name", UNNAMED)
def test_a_label_whose_name_needs_escapes_makes_no_condition(name: str) -> None:
    """A store may look for names as they are."""
    with pytest.raises(ValueError, match="The name of a label"):
        one("labels", "=", "x", name)


def test_a_group_is_about_one_field() -> None:
    """A label is a field of its own."""
    for group in ((), (one("labels", "=", "x", "a"), one("labels", "=", "x", "b"))):
        with pytest.raises(ValueError, match="one field"):
            SessionFilter(groups=(group,))


def test_a_text_is_quoted() -> None:
    """What would mean something else stands behind a backslash."""
    assert quote('a"b\\c*') == r'"a\"b\\c\*"'
    assert quote("a", begins=True) == '"a*"'
