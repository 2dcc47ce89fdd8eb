"""What every store selects for a list is what the filter's own predicate wants, whatever the cut of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessionplane.domain.listing import FIELDS, Condition, Field, Operator, SessionFilter
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.store.contract import SessionPage, Store, Tx
from tests.support.filters import LABELS, VALUES, filters, population, sessions
from tests.support.stores import newest
from tests.support.values import NOW_MS, session, session_id

NUMBERS = count(1)
EVERY = [(field, operator) for field, rule in FIELDS.items() for operator in rule.operators]
ASKED = SessionFilter(
    groups=((Condition(field=Field.LABEL, operator=Operator.HAS, value="", label="asked"),),)
)


async def add(store: Store, *given: Session) -> None:
    """Commit sessions."""

    def use_case(tx: Tx) -> None:
        for each in given:
            tx.add_session(each)

    await store.submit(use_case)


def ids(found: Sequence[Session]) -> list[str]:
    return [each.session_id for each in found]


def pages(store: Store, namespace: str, **asked: object) -> list[SessionPage]:
    """Read a list to its end."""
    found = [store.read(lambda tx: newest(tx, namespace, **asked))]
    while (before := found[-1].next_before) is not None:
        found.append(store.read(lambda tx: newest(tx, namespace, before=before, **asked)))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=filters,
    given_sessions=st.lists(sessions(1), max_size=12),
    hidden=st.sets(st.integers(0, 11)),
    deleted=st.sets(st.integers(0, 11)),
    show_internal=st.booleans(),
    limit=st.integers(1, 6),
    examine_max=st.integers(1, 6),
)
async def test_the_pages_of_a_list_hold_what_its_filter_wants(
    store: Store,
    wanted: SessionFilter,
    given_sessions: list[Session],
    hidden: set[int],
    deleted: set[int],
    show_internal: bool,
    limit: int,
    examine_max: int,
) -> None:
    """Each wanted session once, newest first, and no page looks at more sessions than it may."""
    first = next(NUMBERS) * 100
    namespace = f"n{first}"
    rows = [
        replace(
            each,
            session_id=session_id(first + number),
            namespace=namespace,
            visibility=Visibility.INTERNAL if number in hidden else Visibility.VISIBLE,
            deleted_at_ms=NOW_MS if number in deleted else None,
        )
        for number, each in enumerate(given_sessions)
    ]
    await add(store, *rows)
    rows.sort(key=lambda each: (each.updated_at_ms, each.session_id), reverse=True)
    shown = [
        each
        for each in rows
        if wanted.matches(each)
        and each.deleted_at_ms is None
        and (show_internal or each.visibility is Visibility.VISIBLE)
    ]

    found = pages(
        store, namespace, wanted=wanted, show_internal=show_internal, limit=limit, examine_max=examine_max
    )
    assert ids([each for page in found for each in page.sessions]) == ids(shown)
    assert all(len(page.sessions) <= limit for page in found)
    cuts = [page.next_before for page in found[:-1] if page.next_before is not None]
    places = [(each.updated_at_ms, each.session_id) for each in rows]
    for newer, older in zip([(NOW_MS * 2, ""), *cuts], cuts, strict=False):
        assert sum(older <= place < newer for place in places) <= examine_max


@pytest.mark.parametrize(("field", "operator"), EVERY, ids=[" ".join(each) for each in EVERY])
async def test_one_condition_selects_what_it_matches(store: Store, field: Field, operator: Operator) -> None:
    """Every field with every operator, over every value that could tell a store's way from the predicate's."""
    rows = population()
    await add(store, *rows)
    for value, label in product(
        VALUES[field, operator is Operator.HAS], LABELS if field is Field.LABEL else [""]
    ):
        condition = Condition(field=field, operator=operator, value=value, label=label)
        (page,) = pages(store, "default", wanted=SessionFilter(groups=((condition,),)))
        assert set(ids(page.sessions)) == set(ids([each for each in rows if condition.matches(each)])), (
            condition
        )


async def test_a_page_ends_where_it_may_look_no_further(store: Store) -> None:
    """It may hold nothing and yet go on, so that a rare wish among many sessions costs no page more than others."""
    await add(store, *(session(number, updated_at_ms=number) for number in range(2, 10)))
    await add(store, session(1, updated_at_ms=1, labels={"asked": ""}))
    found = pages(store, "default", wanted=ASKED, examine_max=4)
    assert [ids(page.sessions) for page in found] == [[], [], [session_id(1)]]
    assert [page.next_before for page in found] == [(6, session_id(6)), (2, session_id(2)), None]


@pytest.mark.parametrize(("limit", "next_before"), [(2, (2, session_id(2))), (3, None), (4, None)])
async def test_a_full_page_goes_on_behind_its_last_session(
    store: Store, limit: int, next_before: tuple[int, str] | None
) -> None:
    """One that ends with the last session has no next."""
    await add(store, *(session(number, updated_at_ms=number) for number in (1, 2, 3)))
    page = store.read(lambda tx: newest(tx, limit=limit))
    assert (len(page.sessions), page.next_before) == (min(limit, 3), next_before)


async def test_a_list_by_update_time_looks_only_at_that_time(store: Store) -> None:
    """What was updated before or after is not among what a page may look at."""
    await add(store, *(session(number, updated_at_ms=number) for number in range(1, 10)))
    groups = tuple(
        (Condition(field=Field.UPDATE_TIME, operator=operator, value=value),)
        for operator, value in ((Operator.AT_LEAST, 5), (Operator.LESS, 7))
    )
    page = store.read(lambda tx: newest(tx, wanted=SessionFilter(groups=groups), examine_max=3))
    assert ids(page.sessions) == [session_id(6), session_id(5)]
    assert page.next_before is None
