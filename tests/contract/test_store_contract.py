"""What every store promises: each docstring of the contract is a test here, asked through the contract only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from sessionplane.domain.errors import Draining, Overloaded, RunNotFound
from sessionplane.domain.events import Entry, EventKind, Fold, Place
from sessionplane.domain.inputs import Input, InputStage
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.keys import from_stored
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import Run, RunOutcome, RunState
from sessionplane.domain.sessions import Session, SessionCause, SessionState
from sessionplane.store import codec
from sessionplane.store.contract import Committed, Floor, Import, Pointer, ReadTx, Request, Store, Topic, Tx
from sessionplane.v1.session_service_pb2 import EventBatch
from tests.support.stores import ClosableStore, HeldWriter, OpenStore, newest
from tests.support.values import (
    NAMESPACE,
    NOW_MS,
    created,
    delta,
    injected,
    interrupt,
    key,
    run,
    session,
    session_id,
    terminal,
)

ONE = session_id(1)
CLOSING = SessionState.CLOSING
START = Place(0, b"")
ALL = {"limit": 1_000, "bytes_max": 1 << 20}


async def add(store: Store, *values: Session | Run | Input) -> None:
    """Commit sessions, runs and injected inputs."""

    def use_case(tx: Tx) -> None:
        for value in values:
            if isinstance(value, Session):
                tx.add_session(value)
            elif isinstance(value, Input):
                tx.add_input(value)
            else:
                tx.add_run(value)

    await store.submit(use_case)


async def say(store: Store, *texts: str, number: int = 1) -> None:
    """Commit deltas of a run of session 1."""

    def use_case(tx: Tx) -> None:
        for text in texts:
            tx.append(ONE, delta(text), at_ms=NOW_MS, run_id=run(number).run_id)

    await store.submit(use_case)


def log(store: Store, after: Place = START) -> list[Entry]:
    """Return the log of session 1."""
    return store.read(lambda tx: tx.entries(ONE, after=after, **ALL))


async def refused(store: Store, use_case: Callable[[Tx], object], error: type[Exception]) -> None:
    """Run a use case that must fail, and find that it left nothing behind."""
    before = store.read(snapshot)
    with pytest.raises(error):
        await store.submit(use_case)
    assert store.read(snapshot) == before


def snapshot(tx: ReadTx) -> list[object]:
    """Return what the tests of refusals could see change."""
    sessions = newest(tx).sessions
    logs = [tx.entries(each.session_id, after=START, **ALL) for each in sessions]
    runs = [tx.run(NAMESPACE, run(number).run_id) for number in range(5)]
    requests = [tx.request(NAMESPACE, "StartRun", each) for each in ("a", "b")]
    return [sessions, logs, runs, requests]


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
        numbers = [self.number(store, each) for each in (1, 2)]
        await store.submit(lambda tx: tx.save_session(session(1)))
        assert [*numbers, self.number(store, 1)] == [1, 2, 3]

    async def test_an_undone_write_gives_its_change_number_back(self, store: Store) -> None:
        """A failed use case leaves no trace in the numbers."""
        await add(store, session(1))

        def use_case(tx: Tx) -> None:
            tx.save_session(session(1))
            raise RunNotFound

        await refused(store, use_case, RunNotFound)
        await store.submit(lambda tx: tx.save_session(session(1)))
        assert self.number(store, 1) == 2

    @staticmethod
    def number(store: Store, number: int) -> int:
        found = store.read(lambda tx: tx.session(NAMESPACE, session_id(number)))
        assert found is not None
        return found.change_number

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


class TestFacts:
    async def test_a_fact_is_what_was_saved_last(self, store: Store) -> None:
        """Unknown names are None, and a fact outlives nothing but a later one."""
        assert store.read(lambda tx: tx.fact("key_settings")) is None
        for value in ("1", "2"):
            await store.submit(lambda tx, value=value: tx.save_fact("key_settings", value))
        assert store.read(lambda tx: tx.fact("key_settings")) == "2"
        assert store.read(lambda tx: tx.fact("store_id")) == store.store_id


class TestKeys:
    async def test_a_key_names_its_session(self, store: Store) -> None:
        """One pointer for each namespace and key."""
        await add(store, session(1, key=key()))
        assert await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), ONE)) == ONE
        found = store.read(lambda tx: tx.session_by_key(NAMESPACE, key()))
        assert found is not None
        assert found.session_id == ONE
        assert store.read(lambda tx: tx.session_by_key(NAMESPACE, key("x"))) is None
        assert store.read(lambda tx: tx.session_by_key("other", key())) is None

    async def test_the_first_binding_stays(self, store: Store) -> None:
        """The loser of a race is told who won."""
        await add(store, session(1), session(2))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), ONE))
        assert await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), session_id(2))) == ONE
        assert await store.submit(lambda tx: tx.bind_key("other", key(), session_id(2))) == session_id(2)

    async def test_a_pointer_keeps_the_spelling_that_made_it(self, store: Store) -> None:
        """Whoever finds or takes the key later does not change it; a key that nobody spelled is its own."""
        spelled, echoed = (from_stored("agent:main:x", spelling=each) for each in (" X ", ""))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, spelled, ONE))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, echoed, session_id(2)))
        await store.submit(lambda tx: tx.bind_key("other", echoed, ONE))
        first = store.read(lambda tx: tx.pointer(NAMESPACE, echoed))
        second = store.read(lambda tx: tx.pointer("other", echoed))
        assert first == Pointer(namespace=NAMESPACE, key=spelled, session_id=ONE)
        assert second is not None
        assert (first.key.spelling, second.key.spelling) == (" X ", "agent:main:x")
        assert store.read(lambda tx: tx.pointer(NAMESPACE, key("y"))) is None

    async def test_a_released_key_is_told_as_it_was_spelled(self, store: Store) -> None:
        """It is free then; who does not hold it releases nothing."""
        spelled = from_stored("agent:main:x", spelling="X")
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, spelled, ONE))
        assert await store.submit(lambda tx: tx.release_key(NAMESPACE, key("x"), session_id(2))) is None
        assert await store.submit(lambda tx: tx.release_key("other", key("x"), ONE)) is None
        released = await store.submit(lambda tx: tx.release_key(NAMESPACE, key("x"), ONE))
        assert released is not None
        assert (released, released.spelling) == (spelled, "X")
        assert store.read(lambda tx: tx.pointer(NAMESPACE, key("x"))) is None

    async def test_all_pointers_are_read_in_pages(self, store: Store) -> None:
        """By namespace and key, each once, strictly behind the last one of the page before."""

        def use_case(tx: Tx) -> None:
            for namespace in ("b", "a"):
                for rest in ("y", "x", "z"):
                    tx.bind_key(namespace, key(rest), ONE)

        await store.submit(use_case)
        found = [("", "")]

        def page(tx: ReadTx) -> list[Pointer]:
            return tx.pointers(after=found[-1], limit=2)

        while some := store.read(page):
            assert len(some) <= 2
            found += [(each.namespace, each.key.text) for each in some]
        assert found[1:] == [(namespace, key(rest).text) for namespace in "ab" for rest in "xyz"]

    async def test_a_pointer_may_come_before_its_session(self, store: Store) -> None:
        """A use case binds and creates in the order that suits it."""

        def use_case(tx: Tx) -> None:
            tx.bind_key(NAMESPACE, key(), ONE)
            tx.add_session(session(1, key=key()))

        await store.submit(use_case)
        assert store.read(lambda tx: tx.session_by_key(NAMESPACE, key())) is not None


class TestImports:
    async def test_an_import_is_known_by_its_source_and_key(self, store: Store) -> None:
        """The same id under another key, or of another tenant, is another session."""
        await store.submit(lambda tx: tx.add_import(imported("s", "x")))
        assert store.read(lambda tx: tx.imported(NAMESPACE, "s", key("x"))) == ONE
        for namespace, source_id, rest in (("other", "s", "x"), (NAMESPACE, "t", "x"), (NAMESPACE, "s", "y")):
            found = store.read(lambda tx, n=namespace, s=source_id, r=rest: tx.imported(n, s, key(r)))
            assert found == ""

    async def test_an_import_is_added_once(self, store: Store) -> None:
        """A second one of the same source and key raises KeyError."""
        await store.submit(lambda tx: tx.add_import(imported("s", "x")))
        await refused(store, lambda tx: tx.add_import(imported("s", "x")), KeyError)
        await store.submit(lambda tx: tx.add_import(imported("s", "y")))

    async def test_all_imports_are_read_in_pages_with_their_spellings(self, store: Store) -> None:
        """In order, each once; a key that nobody spelled is its own spelling."""
        given = [imported(source, rest) for source in "ba" for rest in "yx"]

        def use_case(tx: Tx) -> None:
            for each in given:
                tx.add_import(each)

        await store.submit(use_case)
        found = [("", "", "")]

        def page(tx: ReadTx) -> list[Import]:
            return tx.imports(after=found[-1], limit=3)

        while some := store.read(page):
            assert all(each.key.spelling == each.key.text.upper() for each in some)
            found += [(each.namespace, each.source_id, each.key.text) for each in some]
        assert found[1:] == [(NAMESPACE, source, key(rest).text) for source in "ab" for rest in "xy"]

    async def test_an_import_is_renamed_unless_its_new_key_has_one(self, store: Store) -> None:
        """Two entries of one source under one key are one import; the one that is there stays."""

        def use_case(tx: Tx) -> None:
            for rest in ("x", "y"):
                tx.add_import(imported("s", rest))
            tx.rename_import(imported("s", "x"), key("z"))
            tx.rename_import(imported("s", "y"), key("z"))

        await store.submit(use_case)
        found = store.read(lambda tx: tx.imports(after=("", "", ""), limit=9))
        assert [each.key for each in found] == [key("y"), key("z")]


def imported(source_id: str, rest: str) -> Import:
    """A session of another system that became session 1."""
    spelled = from_stored(key(rest).text, spelling=key(rest).text.upper())
    return Import(namespace=NAMESPACE, source_id=source_id, key=spelled, session_id=ONE)


class TestRuns:
    async def test_a_run_comes_back_as_it_was_written(self, store: Store) -> None:
        """Every field is the caller's."""
        given = run(
            1,
            state=RunState.RUNNING,
            pool="gpu",
            place=3,
            input=b"in",
            fingerprint=b"fp",
            labels={"a": "b"},
            pending_ms=1,
            claimed_at_ms=2,
            due_at_ms=4,
            runner_id="r",
            lease_epoch=5,
            lease_token="secret",
            lease_ms=6,
            lease_confirmed=True,
            last_run_sequence=7,
            output_bytes=8,
            first_sequence=9,
            kept_from_ms=10,
            lane_sequence=11,
            first_output_sequence=12,
            interrupt_id="i",
            report_fingerprint=b"rf",
            late_fingerprint=b"lf",
        )
        await add(store, session(1), given)
        assert store.read(lambda tx: tx.run(NAMESPACE, given.run_id)) == given
        assert store.read(lambda tx: tx.run("other", given.run_id)) is None

    async def test_saving_writes_all_of_a_run(self, store: Store) -> None:
        """What comes back is the value that was saved last."""
        await add(store, session(1), run(1, input=b"in"))
        saved = run(1, input=b"in", state=RunState.RUNNING, pending_since_ms=None, lease_epoch=1)
        await store.submit(lambda tx: tx.save_run(saved))
        assert store.read(lambda tx: tx.run(NAMESPACE, saved.run_id)) == saved

    async def test_a_run_id_is_taken_once_in_a_namespace(self, store: Store) -> None:
        """Adding it again raises KeyError; another namespace may use the same."""
        await add(store, session(1), session(2, namespace="other"), run(1))
        await refused(store, lambda tx: tx.add_run(run(1, pool="x")), KeyError)
        await add(store, run(1, namespace="other", session_id=session_id(2)))

    async def test_saving_an_unknown_run_is_refused(self, store: Store) -> None:
        """A lost update is never silent."""
        await add(store, session(1))
        await refused(store, lambda tx: tx.save_run(run(1)), KeyError)

    async def test_the_line_of_a_session_is_ordered_by_place(self, store: Store) -> None:
        """The next one has the smallest place; positions count from 1."""
        places = {1: 5, 2: -1, 3: 7}
        await add(store, session(1), session(2))
        await add(store, *(run(each, state=RunState.QUEUED, place=at) for each, at in places.items()))
        await add(store, run(4, state=RunState.PENDING, place=-9))
        await add(store, run(5, state=RunState.QUEUED, place=-9, session_id=session_id(2)))
        first = store.read(lambda tx: tx.next_queued(ONE))
        assert first is not None
        assert first.run_id == run(2).run_id

        def position(number: int) -> int:
            queued = run(number, state=RunState.QUEUED, place=places[number])
            return store.read(lambda tx: tx.queue_position(queued))

        assert [position(number) for number in (2, 1, 3)] == [1, 2, 3]
        assert [each.place for each in store.read(lambda tx: tx.line(ONE))] == [-1, 5, 7]

    async def test_a_part_of_the_line_is_counted(self, store: Store) -> None:
        """How many of a session's own queued runs have a smaller place."""
        await add(store, session(1), session(2))
        await add(store, *(run(at + 3, state=RunState.QUEUED, place=at) for at in (-2, -1, 0, 1)))
        await add(store, run(5, state=RunState.PENDING, place=-9))
        await add(store, run(6, state=RunState.QUEUED, place=-9, session_id=session_id(2)))
        assert [store.read(lambda tx, at=at: tx.queued_before(ONE, at)) for at in (-2, 0, 9)] == [0, 2, 4]

    async def test_runs_are_listed_newest_first(self, store: Store) -> None:
        """By where they were recorded, of some states only, as many as are wanted, behind a place."""
        await add(store, session(1), session(2))
        states = {1: RunState.QUEUED, 2: RunState.RUNNING, 3: RunState.QUEUED, 4: RunState.PENDING}
        await add(store, *(run(each, first_sequence=10 - each, state=at) for each, at in states.items()))
        await add(store, run(5, first_sequence=99, session_id=session_id(2)))

        def listed(*wanted: RunState, before: int | None = None, limit: int = 9) -> list[int]:
            found = store.read(lambda tx: tx.runs(ONE, wanted, before=before, limit=limit))
            return [each.first_sequence for each in found]

        assert listed(*RunState) == [9, 8, 7, 6]
        assert listed(*RunState, before=8) == [7, 6]
        assert listed(*RunState, before=8, limit=1) == [7]
        assert listed(RunState.QUEUED, RunState.PENDING) == [9, 7, 6]
        assert listed() == []

    async def test_listed_runs_are_small(self, store: Store) -> None:
        """What may be long about a run is left out, and nothing else."""
        await add(store, session(1), run(1, input=b"in", first_sequence=1))
        ended = terminal(output_text="long", result=b"\x0a\x01r", interrupt_id="int_1")

        def use_case(tx: Tx) -> Run:
            return tx.finish_run(run(1, input=b"in", first_sequence=1), ended)

        whole = await store.submit(use_case)
        (listed,) = store.read(lambda tx: tx.runs(ONE, RunState, before=None, limit=9))
        assert replace(listed, input=b"in", terminal=whole.terminal) == whole
        brief = codec.encode_terminal(replace(ended, output_text="", result=b""))
        assert listed.terminal == brief

    async def test_an_empty_line_has_no_next(self, store: Store) -> None:
        """A run that is past QUEUED stands in no line."""
        await add(store, session(1), run(1))
        assert store.read(lambda tx: tx.next_queued(ONE)) is None

    async def test_the_oldest_pending_run_of_a_pool_is_next(self, store: Store) -> None:
        """A pool is a namespace's own, and PENDING counts from the present stay."""
        await add(store, session(1), session(2, namespace="other"))
        await add(store, run(1, pool="p", pending_since_ms=9), run(2, pool="p", pending_since_ms=8))
        await add(store, run(3, pool="q", pending_since_ms=1), run(4, pool="p", state=RunState.RUNNING))
        await add(store, run(5, pool="p", pending_since_ms=1, namespace="other", session_id=session_id(2)))
        found = store.read(lambda tx: tx.next_pending(NAMESPACE, "p"))
        assert found is not None
        assert found.run_id == run(2).run_id
        assert store.read(lambda tx: tx.next_pending(NAMESPACE, "z")) is None

    async def test_the_lane_is_told_for_every_place_in_the_log(self, store: Store) -> None:
        """A run is in the lane from its lane_sequence until before its terminal."""
        await add(store, session(1))
        await add(
            store,
            run(1, lane_sequence=2, terminal_sequence=5, state=RunState.FINISHED),
            run(2, lane_sequence=6),
            run(3, lane_sequence=0, state=RunState.QUEUED),
        )

        def in_lane(sequence: int) -> str:
            found = store.read(lambda tx: tx.lane_at(ONE, sequence))
            return found.run_id if found else ""

        first, second = run(1).run_id, run(2).run_id
        assert [in_lane(each) for each in range(1, 8)] == ["", first, first, first, "", second, second]

    async def test_claimed_runs_come_by_namespace_and_id(self, store: Store) -> None:
        """Both claimed states, all namespaces, a page at a time."""
        await add(store, session(1), session(2, namespace="other"))
        await add(store, run(3, state=RunState.RUNNING), run(1, state=RunState.INTERRUPTING), run(2))
        await add(store, run(0, state=RunState.RUNNING, namespace="other", session_id=session_id(2)))
        found = store.read(lambda tx: tx.leased_runs(after=("", ""), limit=2))
        assert [each.run_id for each in found] == [run(1).run_id, run(3).run_id]
        rest = store.read(lambda tx: tx.leased_runs(after=(NAMESPACE, run(3).run_id), limit=2))
        assert [(each.namespace, each.run_id) for each in rest] == [("other", run(0).run_id)]

    async def test_due_runs_come_earliest_first(self, store: Store) -> None:
        """Those due at the moment are due; those without a due time never are."""
        await add(store, session(1), run(1, due_at_ms=30), run(2, due_at_ms=10), run(3), run(4, due_at_ms=31))
        found = store.read(lambda tx: tx.runs_due(at_ms=30, limit=10))
        assert [each.run_id for each in found] == [run(2).run_id, run(1).run_id]
        assert len(store.read(lambda tx: tx.runs_due(at_ms=30, limit=1))) == 1

    async def test_due_sessions_come_earliest_first(self, store: Store) -> None:
        """Those due at the moment are due, in all namespaces; those without a due time or elsewhere never are."""
        late, other = session(2, due_at_ms=10, namespace="other"), session(5, due_at_ms=10, state=CLOSING)
        await add(store, session(1, due_at_ms=30), late, session(3), session(4, due_at_ms=31), other)

        def due(state: SessionState, limit: int = 10) -> list[str]:
            found = store.read(lambda tx: tx.sessions_due(state, at_ms=30, limit=limit))
            return [each.session_id for each in found]

        assert due(session(1).state) == [session_id(2), session_id(1)]
        assert due(session(1).state, limit=1) == [session_id(2)]
        assert due(CLOSING) == [session_id(5)]

    async def test_finishing_appends_the_terminal_and_writes_the_run(self, store: Store) -> None:
        """The terminal is the run's last event, and the row keeps its encoded form and sequence."""
        await add(store, session(1), run(1, due_at_ms=5))
        await say(store, "hello")
        ended = await store.submit(lambda tx: tx.finish_run(run(1), terminal()))
        last = log(store)[-1]
        assert (last.kind, last.run_id, last.sequence) == (EventKind.RUN_TERMINAL, run(1).run_id, 2)
        assert (ended.state, ended.outcome) == (RunState.FINISHED, RunOutcome.SUCCEEDED)
        assert (ended.terminal_sequence, ended.due_at_ms) == (2, None)
        assert ended.terminal == codec.encode_terminal(terminal())
        assert store.read(lambda tx: tx.run(NAMESPACE, run(1).run_id)) == ended

    async def test_a_second_terminal_is_refused(self, store: Store) -> None:
        """Even a use case that forgot to look cannot write one."""
        await add(store, session(1), run(1))
        await store.submit(lambda tx: tx.finish_run(run(1), terminal()))
        await refused(store, lambda tx: tx.finish_run(run(1), terminal()), KeyError)

    async def test_a_refused_terminal_cannot_be_swallowed(self, store: Store) -> None:
        """A use case that goes on after the refusal is rolled back all the same."""
        await add(store, session(1), run(1))
        await store.submit(lambda tx: tx.finish_run(run(1), terminal()))

        def use_case(tx: Tx) -> None:
            with pytest.raises(KeyError):
                tx.finish_run(run(1), terminal())

        await refused(store, use_case, KeyError)


class TestInputs:
    async def test_only_an_injected_input_is_one(self, store: Store) -> None:
        """What a run was started with is found by the run; an injected input by its own id and namespace."""
        await add(store, session(1), run(1), injected(1))
        assert store.read(lambda tx: tx.input(NAMESPACE, injected(1).input_id)) == injected(1)
        assert store.read(lambda tx: tx.input(NAMESPACE, run(1).run_id)) is None
        assert store.read(lambda tx: tx.input("other", injected(1).input_id)) is None
        assert store.read(lambda tx: tx.run(NAMESPACE, injected(1).input_id)) is None

    async def test_an_id_is_recorded_once(self, store: Store) -> None:
        """Runs and inputs share their ids."""
        await add(store, session(1), run(1), injected(1))
        for value in (injected(1), injected(2, input_id=run(1).run_id)):
            await refused(store, lambda tx, value=value: tx.add_input(value), KeyError)
        taken = run(2, run_id=injected(1).input_id)
        await refused(store, lambda tx: tx.add_run(taken), KeyError)

    async def test_waiting_inputs_come_by_place(self, store: Store) -> None:
        """Those of the run that are still RECORDED, behind a place, as many as are wanted."""
        await add(store, session(1), run(1), run(2))
        places = {1: 5, 2: -1, 3: 7, 4: 6}
        await add(store, *(injected(each, place=at) for each, at in places.items()))
        await add(store, injected(5, place=0, run_id=run(2).run_id))
        await store.submit(lambda tx: tx.save_input(injected(4, stage=InputStage.TAKEN, place=6)))

        def waiting(**bounds: int) -> list[int]:
            found = store.read(lambda tx: tx.waiting_inputs(run(1), **bounds))
            return [each.place for each in found]

        assert waiting() == [-1, 5, 7]
        assert waiting(after=-1) == [5, 7]

    async def test_waiting_inputs_come_as_far_as_they_fit(self, store: Store) -> None:
        """No more bytes than are wanted, but one larger input comes alone."""
        await add(store, session(1), run(1), *(injected(each, input=b"12345") for each in (1, 2, 3)))

        def waiting(bytes_max: int) -> list[int]:
            found = store.read(lambda tx: tx.waiting_inputs(run(1), bytes_max=bytes_max))
            return [each.place for each in found]

        assert [waiting(bytes_max) for bytes_max in (0, 9, 10, 15)] == [[1], [1], [1, 2], [1, 2, 3]]

    async def test_the_last_ids_of_a_stage_are_told(self, store: Store) -> None:
        """By place, and of too many the last."""
        await add(store, session(1), run(1), *(injected(each, place=-each) for each in (1, 2, 3)))
        ids = [injected(each).input_id for each in (3, 2, 1)]
        for limit in (5, 2):
            found = store.read(lambda tx, n=limit: tx.input_ids(run(1), InputStage.RECORDED, limit=n))
            assert found == ids[-limit:]
        assert store.read(lambda tx: tx.input_ids(run(1), InputStage.TAKEN, limit=5)) == []

    async def test_an_input_becomes_a_run(self, store: Store) -> None:
        """Its input stays where it is; who it waits for, its stage and its place change, and nothing else."""
        await add(store, session(1), run(1), injected(1, input=b"in", labels={"a": "b"}))
        input_id = injected(1).input_id
        made = run(2, run_id=input_id)
        moved = injected(1, run_id=input_id, stage=InputStage.QUEUED, place=9, input=b"in", labels={"a": "b"})

        def use_case(tx: Tx) -> None:
            tx.add_run(made, injected=True)
            tx.save_input(replace(moved, input=b"other", labels={}))

        await store.submit(use_case)
        assert store.read(lambda tx: tx.run(NAMESPACE, input_id)) == replace(made, input=b"in")
        assert store.read(lambda tx: tx.input(NAMESPACE, input_id)) == moved

    async def test_what_was_not_injected_is_not_saved(self, store: Store) -> None:
        """The input of a run never changes."""
        await add(store, session(1), run(1))
        for input_id in (run(1).run_id, "unknown"):
            value = injected(1, input_id=input_id)
            await refused(store, lambda tx, value=value: tx.save_input(value), KeyError)


class TestInterruptsAndRequests:
    async def test_an_interrupt_comes_back_as_it_was_written(self, store: Store) -> None:
        """And it is unknown to other namespaces."""
        given = interrupt(1, reason="stop", escalate_at_ms=NOW_MS + 1)
        await add(store, session(1))
        await store.submit(lambda tx: tx.add_interrupt(given))
        assert store.read(lambda tx: tx.interrupt(NAMESPACE, given.interrupt_id)) == given
        assert store.read(lambda tx: tx.interrupt("other", given.interrupt_id)) is None

    async def test_saving_an_interrupt_writes_stage_mode_and_times(self, store: Store) -> None:
        """Who it stops and why stays as it was said first."""
        await add(store, session(1))
        await store.submit(lambda tx: tx.add_interrupt(interrupt(1, reason="stop")))
        later = interrupt(
            1,
            reason="else",
            stage=InterruptStage.DELIVERED,
            mode=InterruptMode.FORCE,
            escalate_at_ms=NOW_MS,
        )
        await store.submit(lambda tx: tx.save_interrupt(later))
        found = store.read(lambda tx: tx.interrupt(NAMESPACE, later.interrupt_id))
        assert found == replace(later, reason="stop")

    async def test_a_request_id_is_remembered_in_its_scope(self, store: Store) -> None:
        """Namespace, RPC and id together."""
        given = request("a", session_id="s", run_id="r", interrupt_id="i", detail="CREATED")
        await store.submit(lambda tx: tx.remember(given))
        assert store.read(lambda tx: tx.request(NAMESPACE, "StartRun", "a")) == given
        assert store.read(lambda tx: tx.request(NAMESPACE, "Interrupt", "a")) is None
        assert store.read(lambda tx: tx.request("other", "StartRun", "a")) is None

    async def test_a_request_id_is_remembered_once(self, store: Store) -> None:
        """A second one of the same scope rolls its use case back."""
        await add(store, session(1))
        await store.submit(lambda tx: tx.remember(request("a")))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.remember(request("a", run_id="other"))

        await refused(store, use_case, KeyError)

    async def test_the_oldest_request_ids_are_forgotten_first(self, store: Store) -> None:
        """Only those before the moment, a bounded number at a time."""
        for name, at_ms in (("a", 3), ("b", 1), ("c", 2), ("d", 9)):
            await store.submit(self.remembering(name, at_ms))
        assert await store.submit(lambda tx: tx.forget_requests(before_ms=9, limit=2)) == 2
        assert self.known(store) == ["a", "d"]
        assert await store.submit(lambda tx: tx.forget_requests(before_ms=9, limit=2)) == 1
        assert self.known(store) == ["d"]

    @staticmethod
    def remembering(name: str, at_ms: int) -> Callable[[Tx], None]:
        return lambda tx: tx.remember(request(name, at_ms=at_ms))

    @staticmethod
    def known(store: Store) -> list[str]:
        def query(tx: ReadTx) -> list[str]:
            return [each for each in "abcd" if tx.request(NAMESPACE, "StartRun", each)]

        return store.read(query)


def request(name: str, *, at_ms: int = NOW_MS, **ids: str) -> Request:
    """Return what is remembered of a StartRun."""
    return Request(
        namespace=NAMESPACE, rpc="StartRun", request_id=name, fingerprint=b"fp", at_ms=at_ms, **ids
    )


class TestLogs:
    async def test_sequences_are_one_more_each_time(self, store: Store) -> None:
        """Without a gap, within a use case and across them, for each session by itself."""
        await add(store, session(1), session(2))

        def use_case(tx: Tx) -> list[int]:
            return [tx.append(ONE, created(), at_ms=NOW_MS) for _ in range(70)]

        assert await store.submit(use_case) == list(range(1, 71))
        assert await store.submit(use_case) == list(range(71, 141))
        assert await store.submit(lambda tx: tx.append(session_id(2), created(), at_ms=NOW_MS)) == 1
        assert [each.sequence for each in log(store)] == list(range(1, 141))

    async def test_an_undone_use_case_leaves_no_gap(self, store: Store) -> None:
        """Its sequences are given again."""
        await add(store, session(1))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.head(ONE)
            tx.append(ONE, created(), at_ms=NOW_MS)
            raise RunNotFound

        await refused(store, use_case, RunNotFound)
        await say(store, "x")
        assert [each.sequence for each in log(store)] == [1]

    async def test_joined_entries_are_a_batch(self, store: Store) -> None:
        """Concatenation is the frame of a stream."""
        await add(store, session(1))
        await say(store, "a", "b", "c")
        joined = b"".join(each.data for each in log(store))
        assert [each.output_delta.text for each in EventBatch.FromString(joined).events] == [
            "a",
            "b",
            "c",
        ]

    async def test_appending_to_an_unknown_session_is_refused(self, store: Store) -> None:
        """There is no log to move."""
        await refused(store, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS), KeyError)
        with pytest.raises(KeyError):
            store.read(lambda tx: tx.head(ONE))

    async def test_reads_of_a_use_case_see_what_it_wrote(self, store: Store) -> None:
        """Head, row, entries and text, at any point of the transaction."""
        await add(store, session(1), run(1))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, delta("ab"), at_ms=NOW_MS, run_id=run(1).run_id)
            found = tx.session(NAMESPACE, ONE)
            assert found is not None
            assert (found.head_sequence, tx.head(ONE).sequence) == (1, 1)
            tx.append(ONE, delta("cd"), at_ms=NOW_MS, run_id=run(1).run_id)
            assert tx.output_text(run(1, first_output_sequence=1), bytes_max=10) == ("abcd", True)
            assert [each.sequence for each in tx.entries(ONE, after=START, **ALL)] == [1, 2]
            assert tx.place(ONE, 2) == tx.head(ONE)

        await store.submit(use_case)

    async def test_every_place_of_a_log_is_known(self, store: Store) -> None:
        """From before the first event to the head, and none behind it."""
        await add(store, session(1))
        await say(store, "a", "b")
        entries = log(store)

        def place(sequence: int) -> Place | None:
            return store.read(lambda tx: tx.place(ONE, sequence))

        assert [place(0), place(1), place(2), place(3)] == [
            START,
            Place(1, entries[0].chain),
            Place(2, entries[1].chain),
            None,
        ]
        assert store.read(lambda tx: tx.head(ONE)) == place(2)
        assert store.read(lambda tx: tx.place(session_id(2), 0)) is None

    async def test_the_floor_is_the_first_place_that_is_known(self, store: Store) -> None:
        """What retention removed is no place any more."""
        await add(store, session(1))
        await say(store, "a", "b", "c")
        second = log(store)[1]
        await store.submit(lambda tx: tx.remove_events(ONE, through=2, bytes_max=1 << 20))
        assert store.read(lambda tx: tx.place(ONE, 2)) == Place(2, second.chain)
        assert store.read(lambda tx: tx.place(ONE, 1)) is None
        assert store.read(lambda tx: tx.place(ONE, 0)) is None

    async def test_entries_come_in_pages_behind_a_place(self, store: Store) -> None:
        """Bounded by number and by bytes; a single larger one comes alone."""
        await add(store, session(1))
        await say(store, "a", "b", "x" * 5_000, "c")
        entries = log(store)
        size = len(entries[0].data)

        def page(after: int, limit: int, bytes_max: int) -> list[int]:
            place = store.read(lambda tx: tx.place(ONE, after))
            assert place is not None
            found = store.read(lambda tx: tx.entries(ONE, after=place, limit=limit, bytes_max=bytes_max))
            assert found == entries[after : after + len(found)]
            return [each.sequence for each in found]

        assert page(0, 1, 1 << 20) == [1]
        assert page(0, 10, 2 * size) == [1, 2]
        assert page(0, 10, 2 * size - 1) == [1]
        assert page(2, 10, 10) == [3]
        assert page(4, 10, 1 << 20) == []

    async def test_output_is_the_run_s_own_deltas(self, store: Store) -> None:
        """In order, from the first output on, without other runs' and other events."""
        await add(store, session(1))
        await say(store, "early")
        await say(store, "no", number=2)
        await say(store, "größe ", "und")
        await store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
        await say(store, " mehr")
        text = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=2), bytes_max=100))
        assert text == ("größe und mehr", True)
        assert store.read(lambda tx: tx.output_text(run(1), bytes_max=100)) == ("", True)

    @pytest.mark.parametrize(
        ("bytes_max", "expected"),
        [(7, ("aé€", False)), (6, ("aé€", False)), (5, ("aé", False)), (2, ("a", False)), (0, ("", False))],
    )
    async def test_output_is_cut_between_two_characters(
        self, store: Store, bytes_max: int, expected: tuple[str, bool]
    ) -> None:
        """The bound is bytes of UTF-8, and half a character is none."""
        await add(store, session(1))
        await say(store, "aé", "€𝄞")
        found = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=1), bytes_max=bytes_max))
        assert found == expected

    async def test_output_that_fits_exactly_is_whole(self, store: Store) -> None:
        """The bound itself is within the bound."""
        await add(store, session(1))
        await say(store, "aé", "€")
        found = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=1), bytes_max=6))
        assert found == ("aé€", True)


class TestCommits:
    async def test_commands_run_in_the_order_of_submission(self, store: Store) -> None:
        """And their futures are done in that order."""
        done: list[int] = []
        numbers = iter(range(50))
        futures = [store.submit(lambda _: next(numbers)) for _ in range(50)]
        for future in futures:
            future.add_done_callback(lambda each: done.append(each.result()))
        assert await asyncio.gather(*futures) == list(range(50))
        assert done == list(range(50))

    async def test_a_failing_use_case_hurts_no_other(self, store: Store) -> None:
        """Of three in one commit the middle one fails, with what it raised, and leaves nothing."""
        await add(store, session(1))

        def failing(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.add_session(session(2))
            raise RunNotFound(run_id="r")

        results = await asyncio.gather(
            store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)),
            store.submit(failing),
            store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)),
            return_exceptions=True,
        )
        assert [results[0], results[2]] == [1, 2]
        assert isinstance(results[1], RunNotFound)
        assert store.read(lambda tx: tx.session(NAMESPACE, session_id(2))) is None
        assert len(log(store)) == 2

    async def test_a_use_case_that_raises_stop_iteration_fails_alone(self, store: Store) -> None:
        """A future cannot carry it, and those behind it must still be told."""
        failing, behind = store.submit(lambda _: next(iter(()))), store.submit(lambda _: 1)
        with pytest.raises(RuntimeError):
            await failing
        assert await behind == 1

    async def test_the_listener_hears_of_a_commit_before_its_callers(self, store: Store) -> None:
        """With the entries of each session in order, and the topics as often as they were to be woken."""
        heard: list[Committed] = []
        await add(store, session(1))
        store.on_commit(heard.append)
        topic = Topic("session", NAMESPACE, ONE)

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(topic)
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(topic)

        future = store.submit(use_case)
        future.add_done_callback(lambda _: heard.append(Committed(entries={}, topics=())))
        await future
        assert heard[0] == Committed(entries={ONE: log(store)}, topics=(topic, topic))
        assert len(heard) == 2

    async def test_the_listener_hears_nothing_of_what_was_undone(self, store: Store) -> None:
        """Neither entries, topics nor changed sessions of a failed use case, and of an empty commit nothing at all."""
        heard: list[Committed] = []
        await add(store, session(1))
        store.on_commit(heard.append)

        def failing(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(Topic("session", NAMESPACE, ONE))
            tx.save_session(session(1))
            raise RunNotFound

        await refused(store, failing, RunNotFound)
        assert heard == []

    async def test_undo_runs_for_a_failed_use_case_only_and_backwards(self, store: Store) -> None:
        """Memory that mirrors rows goes back the way it came, on the writer's thread."""
        undone: list[tuple[str, int]] = []

        def noting(name: str, *, fails: bool) -> Callable[[Tx], None]:
            def use_case(tx: Tx) -> None:
                tx.on_undo(lambda: undone.append((f"{name} 1", threading.get_ident())))
                tx.on_undo(lambda: undone.append((f"{name} 2", threading.get_ident())))
                if fails:
                    raise RunNotFound

            return use_case

        await store.submit(noting("good", fails=False))
        with pytest.raises(RunNotFound):
            await store.submit(noting("bad", fails=True))
        writer = await store.submit(lambda _: threading.get_ident())
        assert undone == [("bad 2", writer), ("bad 1", writer)]

    async def test_giving_up_a_future_does_not_take_the_command_back(self, store: Store) -> None:
        """A caller that went away changes nothing for the rows."""
        await add(store, session(1))
        store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)).cancel()
        await store.submit(lambda _: None)
        assert len(log(store)) == 1

    async def test_reading_and_scanning_see_what_is_committed(self, store: Store) -> None:
        """Both give the query's result, or raise what it raises."""
        await add(store, session(1))
        assert await store.scan(lambda tx: tx.session(NAMESPACE, ONE)) == store.read(
            lambda tx: tx.session(NAMESPACE, ONE)
        )

        def failing(_: ReadTx) -> None:
            raise RunNotFound

        with pytest.raises(RunNotFound):
            store.read(failing)
        with pytest.raises(RunNotFound):
            await store.scan(failing)
        assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is not None

    async def test_a_scan_is_one_snapshot(self, store: Store) -> None:
        """What is committed while it runs belongs to the next one."""
        await add(store, session(1))
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def query(tx: ReadTx) -> tuple[Place, Place]:
            first = tx.head(ONE)
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(timeout=10)
            return first, tx.head(ONE)

        scan = asyncio.create_task(store.scan(query))
        await begun.wait()
        await say(store, "meanwhile")
        go_on.set()
        assert await scan == (START, START)
        assert store.read(lambda tx: tx.head(ONE)).sequence == 1


class TestBounds:
    async def test_a_full_queue_refuses_at_once(self, open_any: OpenStore) -> None:
        """By the number of commands; what was accepted is done, and there is room again."""
        store = await open_any(limits=Limits(writer_commands_max=2))
        async with HeldWriter(store):
            second = store.submit(lambda _: 2)
            with pytest.raises(Overloaded):
                store.submit(lambda _: 3)
        assert await second == 2
        assert await store.submit(lambda _: 4) == 4

    async def test_a_queue_that_is_full_of_bytes_refuses_at_once(self, open_any: OpenStore) -> None:
        """By the sizes that the callers named."""
        store = await open_any(limits=Limits(writer_bytes_max=100))
        async with HeldWriter(store):
            second = store.submit(lambda _: 2, size=60)
            with pytest.raises(Overloaded):
                store.submit(lambda _: 3, size=41)
            third = store.submit(lambda _: 3, size=40)
        assert [await second, await third] == [2, 3]

    async def test_closing_settles_what_is_queued_and_refuses_the_rest(self, store: ClosableStore) -> None:
        """Nothing that was accepted is lost."""
        await add(store, session(1))
        futures = [store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)) for _ in range(20)]
        await store.close()
        assert [await each for each in futures] == list(range(1, 21))
        with pytest.raises(Draining):
            store.submit(lambda _: None)
        with pytest.raises(Draining):
            store.read(lambda tx: tx.store_id)
        with pytest.raises(Draining):
            await store.scan(lambda tx: tx.store_id)

    async def test_a_database_keeps_its_rows_and_its_identity(self, open_any: OpenStore) -> None:
        """Opened again, it is the same store, and logs and numbers go on where they were."""
        store = await open_any()
        await add(store, session(1, key=key()), run(1))
        await say(store, "a", "b")
        identity, before = store.store_id, store.read(snapshot)
        await store.close()
        again = await open_any()
        assert (again.store_id, again.read(lambda tx: tx.store_id)) == (identity, identity)
        assert again.read(snapshot) == before
        await say(again, "c")
        await again.submit(lambda tx: tx.save_session(session(1)))
        assert [each.sequence for each in log(again)] == [1, 2, 3]
        assert TestSessions.number(again, 1) == 2
