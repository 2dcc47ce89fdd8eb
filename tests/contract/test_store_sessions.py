"""What every store promises of the rows of sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sessionplane.domain.errors import RunNotFound
from sessionplane.domain.events import Fold
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.store.contract import Floor, Store, Tx
from tests.support.contract import ONE, START, add, change_number, log, refused
from tests.support.stores import newest
from tests.support.values import NAMESPACE, NOW_MS, created, key, session, session_id


class TestSessions:
    async def test_a_session_is_found_by_its_namespace_and_id_only(self, store: Store) -> None:
        """Another tenant's id is no session."""
        await add(store, session(1))
        assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is not None
        assert store.read(lambda tx: tx.session("other", ONE)) is None
        assert store.read(lambda tx: tx.session(NAMESPACE, session_id(2))) is None

    async def test_a_session_comes_back_as_it_was_written(self, store: Store) -> None:
        """Every field but the log's and the change number is the caller's."""
        given = session(
            1,
            key=key("settings2"),
            state=SessionState.ENDED,
            final=True,
            generation=3,
            active_run_id="r",
            queued_run_count=2,
            labels={"team": "größe"},
            display_name="Settings",
            last_interaction_at_ms=NOW_MS + 1,
            ended_at_ms=NOW_MS + 2,
            end_reason=SessionCause.EXPIRED,
            previous_session_id="p",
            superseded_by="s",
            compact_at_ms=NOW_MS + 3,
        )
        await add(store, given)
        found = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert found is not None
        assert found == replace(given, change_number=found.change_number)

    async def test_adding_ignores_the_log_of_the_value(self, store: Store) -> None:
        """A new session's log is empty whatever the value says."""
        log = {"head_sequence": 9, "head_hash": b"x", "log_bytes": 9}
        await add(store, session(1, **log, floor_sequence=5, floor_hash=b"y", floor_log_bytes=5))
        assert store.read(lambda tx: tx.head(ONE)) == START
        assert store.read(lambda tx: tx.floor(ONE)) == Floor(START, 0, Fold())

    async def test_saving_writes_all_but_the_log(self, store: Store) -> None:
        """The head moves by appending and the floor by removing, whatever a stale value says."""
        await add(store, session(1))
        await store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
        await store.submit(
            lambda tx: tx.save_session(session(1, state=SessionState.STARTING, floor_sequence=1))
        )
        found = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert found is not None
        assert (found.state, found.head_sequence, found.floor_sequence) == (SessionState.STARTING, 1, 0)
        assert found.log_bytes == len(log(store)[0].data)

    async def test_each_write_of_a_session_gets_a_higher_change_number(self, store: Store) -> None:
        """Watching resumes above a number, so none may come twice in a namespace."""
        await add(store, session(1), session(2))
        numbers = [change_number(store, each) for each in (1, 2)]
        await store.submit(lambda tx: tx.save_session(session(1)))
        assert [*numbers, change_number(store, 1)] == [1, 2, 3]

    async def test_an_undone_write_gives_its_change_number_back(self, store: Store) -> None:
        """A failed use case leaves no trace in the numbers."""
        await add(store, session(1))

        def use_case(tx: Tx) -> None:
            tx.save_session(session(1))
            raise RunNotFound

        await refused(store, use_case, RunNotFound)
        await store.submit(lambda tx: tx.save_session(session(1)))
        assert change_number(store, 1) == 2

    async def test_a_session_id_is_taken_once(self, store: Store) -> None:
        """Adding it again is refused."""
        await add(store, session(1))
        await refused(store, lambda tx: tx.add_session(session(1, generation=7)), KeyError)

    async def test_saving_an_unknown_session_is_refused(self, store: Store) -> None:
        """A lost update is never silent; another namespace's session is unknown."""
        await add(store, session(1))
        await refused(store, lambda tx: tx.save_session(session(2)), KeyError)
        await refused(store, lambda tx: tx.save_session(session(1, namespace="other")), KeyError)

    async def test_sessions_come_newest_first_behind_the_given_pair(self, store: Store) -> None:
        """Pages are cut at (updated_at_ms, session_id), which is unique."""
        times = {1: 10, 2: 30, 3: 20, 4: 20}
        await add(store, *(session(number, updated_at_ms=at) for number, at in times.items()))
        await add(store, session(5, namespace="other", updated_at_ms=25))

        def page(before: tuple[int, str] | None, limit: int) -> list[str]:
            found = store.read(lambda tx: newest(tx, before=before, limit=limit))
            return [each.session_id for each in found.sessions]

        assert page(None, 2) == [session_id(2), session_id(4)]
        assert page((20, session_id(4)), 10) == [session_id(3), session_id(1)]
        assert page((10, session_id(1)), 10) == []

    async def test_a_new_store_has_no_session(self, store: Store) -> None:
        """One of any namespace is enough."""
        assert not store.read(lambda tx: tx.has_sessions())
        await add(store, session(1, namespace="other"))
        assert store.read(lambda tx: tx.has_sessions())

    @pytest.mark.parametrize("state", list(SessionState))
    async def test_sessions_in_a_state_come_by_id(self, store: Store, state: SessionState) -> None:
        """Upkeep walks one state over all namespaces, a page at a time."""
        other = SessionState.CREATED if state is not SessionState.CREATED else SessionState.ACTIVE
        await add(store, session(3, state=state), session(1, state=state, namespace="other"))
        await add(store, session(2, state=other))

        def page(after: str) -> list[str]:
            found = store.read(lambda tx: tx.sessions_in_state(state, after=after, limit=1))
            return [each.session_id for each in found]

        assert [page(""), page(session_id(1)), page(session_id(3))] == [[session_id(1)], [session_id(3)], []]

    async def test_the_last_interaction_moves_forward_only(self, store: Store) -> None:
        """A late commit of an early interaction changes nothing, nor does anything else change."""
        await add(store, session(1))

        def touched(at_ms: int) -> Callable[[Tx], None]:
            return lambda tx: tx.touch_session(NAMESPACE, ONE, interaction_at_ms=at_ms)

        before = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert before is not None
        for at_ms in (NOW_MS + 5, NOW_MS + 9, NOW_MS + 7):
            await store.submit(touched(at_ms))
        after = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert after == replace(before, last_interaction_at_ms=NOW_MS + 9)

    async def test_postponing_a_session_is_no_change_of_it(self, store: Store) -> None:
        """It is due later, and whoever watches or lists sessions does not see it move."""
        await add(store, session(1, due_at_ms=5))
        before = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert before is not None
        later = replace(before, quiet_since_ms=7, due_at_ms=9, display_name="not written")
        await store.submit(lambda tx: tx.postpone_session(later))
        assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) == replace(later, display_name="")

    async def test_due_sessions_come_earliest_first(self, store: Store) -> None:
        """Those due at the moment are due, in all namespaces; those without a due time or elsewhere never are."""
        late, other = (
            session(2, due_at_ms=10, namespace="other"),
            session(5, due_at_ms=10, state=SessionState.CLOSING),
        )
        await add(store, session(1, due_at_ms=30), late, session(3), session(4, due_at_ms=31), other)

        def due(state: SessionState, limit: int = 10) -> list[str]:
            found = store.read(lambda tx: tx.sessions_due(state, at_ms=30, limit=limit))
            return [each.session_id for each in found]

        assert due(session(1).state) == [session_id(2), session_id(1)]
        assert due(session(1).state, limit=1) == [session_id(2)]
        assert due(SessionState.CLOSING) == [session_id(5)]

    async def test_sessions_to_compact_come_earliest_first(self, store: Store) -> None:
        """Those whose time has come are looked at, in all namespaces; those without a time never are."""
        late = session(2, compact_at_ms=10, namespace="other")
        await add(store, session(1, compact_at_ms=30), late, session(3), session(4, compact_at_ms=31))

        def found(limit: int) -> list[str]:
            sessions = store.read(lambda tx: tx.sessions_to_compact(at_ms=30, limit=limit))
            return [each.session_id for each in sessions]

        assert (found(10), found(1)) == ([session_id(2), session_id(1)], [session_id(2)])

    async def test_planning_a_compaction_is_no_change_of_the_session(self, store: Store) -> None:
        """Whoever lists or watches sessions does not see it move."""
        await add(store, session(1))
        before = store.read(lambda tx: tx.session(NAMESPACE, ONE))
        assert before is not None
        for at_ms in (7, None):
            await store.submit(lambda tx, at_ms=at_ms: tx.plan_compaction(ONE, at_ms))
            after = store.read(lambda tx: tx.session(NAMESPACE, ONE))
            assert after == replace(before, compact_at_ms=at_ms)
        await store.submit(lambda tx: tx.plan_compaction(session_id(2), 7))

    async def test_touching_an_unknown_session_is_skipped(self, store: Store) -> None:
        """It was removed while its interaction waited."""
        await store.submit(lambda tx: tx.touch_session(NAMESPACE, ONE, interaction_at_ms=1))
        assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is None
