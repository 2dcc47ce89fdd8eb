"""What watching needs of a store: sessions by change number, and a word after each commit that moved some."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import RunNotFound
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.store.contract import ChangeNumbers, Committed, Store, Tx
from tests.support.stores import HeldWriter
from tests.support.values import NAMESPACE, NOW_MS, created, session, session_id

OTHER = "other"


async def save(store: Store, *sessions: Session) -> None:
    """Write sessions that are there already."""

    def use_case(tx: Tx) -> None:
        for each in sessions:
            tx.save_session(each)

    await store.submit(use_case)


async def add(store: Store, *sessions: Session) -> None:
    """Write new sessions."""

    def use_case(tx: Tx) -> None:
        for each in sessions:
            tx.add_session(each)

    await store.submit(use_case)


def changed(store: Store, *, after: int = 0, limit: int = 100, namespace: str = NAMESPACE) -> list[str]:
    found = store.read(lambda tx: tx.sessions_changed(namespace, after=after, limit=limit))
    return [f"{each.change_number}:{int(each.session_id[-4:], 16)}" for each in found]


async def test_changed_sessions_come_once_by_their_newest_number(store: Store) -> None:
    """However often a session changed it is there once, as it is now, behind whatever changed before."""
    await add(store, *(session(number) for number in (1, 2, 3)))
    await save(store, session(1))
    await save(store, session(1, display_name="newest"))
    assert changed(store) == ["2:2", "3:3", "5:1"]
    assert changed(store, after=3) == ["5:1"]
    assert changed(store, after=5) == []
    (newest,) = store.read(lambda tx: tx.sessions_changed(NAMESPACE, after=4, limit=1))
    assert newest.display_name == "newest"


async def test_changed_sessions_come_in_pages(store: Store) -> None:
    """The lowest numbers first, as many as are wanted."""
    await add(store, *(session(number) for number in range(1, 6)))
    assert changed(store, limit=2) == ["1:1", "2:2"]
    assert changed(store, after=2, limit=2) == ["3:3", "4:4"]


async def test_hidden_and_deleted_sessions_change_like_others(store: Store) -> None:
    """Who is told of them is not the store's decision."""
    await add(store, session(1, visibility=Visibility.INTERNAL), session(2, deleted_at_ms=NOW_MS))
    assert changed(store) == ["1:1", "2:2"]


async def test_each_namespace_has_numbers_of_its_own(store: Store) -> None:
    """What happens elsewhere is neither shown nor counted."""
    await add(store, session(1), session(2, namespace=OTHER), session(3, namespace=OTHER))
    assert (changed(store), changed(store, namespace=OTHER)) == (["1:1"], ["1:2", "2:3"])
    assert store.read(lambda tx: tx.change_numbers(OTHER)) == ChangeNumbers(newest=2, floor=0)


async def test_the_newest_number_is_known(store: Store) -> None:
    """Also to the use case that gave it, and in a namespace that has none."""
    assert store.read(lambda tx: tx.change_numbers(NAMESPACE)) == (0, 0)

    def use_case(tx: Tx) -> ChangeNumbers:
        tx.add_session(session(1))
        tx.save_session(session(1))
        return tx.change_numbers(NAMESPACE)

    assert await store.submit(use_case) == (2, 0)
    assert store.read(lambda tx: tx.change_numbers(NAMESPACE)) == (2, 0)


async def test_events_and_interactions_are_no_changes(store: Store) -> None:
    """What happens all the time moves no number and is told to nobody who watches."""
    await add(store, session(1))
    heard: list[Committed] = []
    store.on_commit(heard.append)
    await store.submit(lambda tx: tx.append(session_id(1), created(), at_ms=NOW_MS))
    await store.submit(lambda tx: tx.touch_session(NAMESPACE, session_id(1), interaction_at_ms=NOW_MS))
    assert changed(store) == ["1:1"]
    assert [set(each.namespaces) for each in heard] == [set()]


async def test_a_commit_says_where_sessions_changed(store: Store) -> None:
    """In all of its use cases, each namespace once; what failed changed nothing."""
    heard: list[Committed] = []
    await add(store, session(1), session(2, namespace=OTHER), session(3, namespace="third"))
    store.on_commit(heard.append)

    def failing(tx: Tx) -> None:
        tx.save_session(session(3, namespace="third"))
        raise RunNotFound

    async with HeldWriter(store):
        futures = [
            store.submit(lambda tx: tx.save_session(session(1))),
            store.submit(lambda tx: tx.save_session(session(2, namespace=OTHER))),
            store.submit(lambda tx: tx.save_session(replace(session(1), display_name="again"))),
        ]
        failed = store.submit(failing)
    for future in futures:
        await future
    with pytest.raises(RunNotFound):
        await failed
    assert [sorted(each.namespaces) for each in heard] == [[NAMESPACE, OTHER]]
    assert [(dict(each.entries), tuple(each.topics)) for each in heard] == [({}, ())]
