"""A filter as SQL: every field and operator has its piece, no caller's text is in it, and no row is looked up twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given

from sessionplane.domain.listing import FIELDS, Condition, Field, Operator, SessionFilter
from sessionplane.store import schema
from sessionplane.store import statements as sql
from sessionplane.store.selecting import narrowed
from sessionplane.store.statements_listing import FACTS, TESTS
from tests.support.filters import filters

EVERY = [(field, operator) for field, rule in FIELDS.items() for operator in rule.operators]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with our tables, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)
        yield connection


def test_every_field_and_operator_has_its_piece() -> None:
    """A new one is refused by a test, not by a caller's request."""
    assert set(FACTS) == set(Field)
    assert set(TESTS) == set(Operator)


@pytest.mark.parametrize(("field", "operator"), EVERY, ids=[" ".join(each) for each in EVERY])
def test_a_condition_is_judged_along_the_one_index(
    connection: sqlite3.Connection, field: Field, operator: Operator
) -> None:
    """Nothing is sorted and no other table or index is asked: a page costs what it looks at."""
    condition = Condition(field=field, operator=operator, value=1 if field.endswith("_time") else "x")
    text, values = narrowed(SessionFilter(groups=((condition, condition),)), show_internal=False)
    statement = f"EXPLAIN QUERY PLAN {sql.SESSIONS}{text}{sql.NEWEST_FIRST}"
    (step,) = connection.execute(statement, ("n", 2, "", 1, "", *values, 10)).fetchall()
    assert step[3].startswith(
        "SEARCH s USING INDEX sessions_by_update (namespace=? AND (updated_at_ms,session_id)>"
    )


@given(filters)
def test_no_text_of_a_caller_is_in_a_statement(wanted: SessionFilter) -> None:
    """Filters that differ in their values and labels only have one statement."""
    other = SessionFilter(
        groups=tuple(
            tuple(
                replace(one, value="' OR 1 --", label="' OR 1 --" if one.field is Field.LABEL else "")
                for one in group
            )
            for group in wanted.groups
        )
    )
    assert narrowed(wanted, show_internal=False)[0] == narrowed(other, show_internal=False)[0]
    assert narrowed(wanted, show_internal=False)[0].count("?") == len(
        narrowed(wanted, show_internal=False)[1]
    )
