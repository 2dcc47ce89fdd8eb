"""What every store promises of runs: their rows, their line and pools, and their one terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.events import EventKind
from sessionplane.domain.runs import Run, RunOutcome, RunState
from sessionplane.store import codec
from sessionplane.store.contract import Store, Tx
from tests.support.contract import ONE, add, log, refused, say
from tests.support.values import NAMESPACE, run, session, session_id, terminal


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
