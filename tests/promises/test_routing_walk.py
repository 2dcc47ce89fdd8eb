"""state-routing, cell by cell: each verb in each column, by calls over the wire, does what the routing table says.

A column is reached by calls, too. What a verb did is read from its answer, from the log and from the rows, and named
with the table's own words; a call that was refused must have left every row as it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sessionplane.domain.routing import ROUTES, Action, Column, Verb
from sessionplane.rpc import render
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.session_pb2 import CONFLICT_POLICY_FAIL, ENDED_POLICY_FAIL, MISSING_POLICY_FAIL
from tests.support.refusals import Refusal, refused
from tests.support.rows import rows
from tests.support.serving import Served
from tests.support.story import story
from tests.support.wire import Held, Wire

NOBODY = Held("run-of-nobody", "lse_of_nobody")
HELD = {Column.STARTING, Column.ACTIVE, Column.DETACHED, Column.SUSPENDED, Column.CLOSING}
"""The columns in which a runner can hold a run."""
ATTENDED = {Column.ACTIVE, Column.SUSPENDED}
"""The columns that are reached with a subscriber attached."""


@dataclass
class Place:
    """A session in a column, by its key and its id, and its last run: claimed but silent where a run can be held, else
    waiting or finished.
    """

    server: Served
    column: Column
    key: str
    session_id: str = ""
    held: Held = NOBODY
    successor: str = ""

    @property
    def wire(self) -> Wire:
        return self.server.wire

    @property
    def name(self) -> dict[str, str]:
        """Name the session: by its key, unless it has lost that."""
        return {"session_id": self.session_id} if self.column is Column.FINAL else {"key": self.key}

    async def session(self) -> session_pb2.Session:
        """Read the session."""
        return (await self.wire.get(**self.name)).session

    async def log_behind(self, sequence: int) -> list[str]:
        """Tell what happened in the session since."""
        return story((await self.wire.log(session_id=self.session_id))[sequence:])

    async def refused(self, call: Awaitable[Any]) -> Refusal:
        """Await a call that must be refused, and leave no trace."""
        before = rows(self.server.database)
        refusal = await refused(call)
        assert rows(self.server.database) == before
        return refusal


async def _hold(place: Place) -> None:
    """Begin a run of the session and claim it."""
    started = await place.wire.start(place.key)
    place.held = await place.wire.hold(started.run.run_id, lease_s=60)
    place.session_id = started.session.session_id


async def _serve(place: Place) -> None:
    """Serve a run, so that the session has been under way."""
    await _hold(place)
    await place.wire.work(place.held, "served")


async def _go(place: Place, stack: AsyncExitStack) -> None:
    """Bring a session into the column, in steps that callers, runners and subscribers can make."""
    wire, column = place.wire, place.column
    if column is Column.CREATED:
        started = await wire.start(place.key)
        place.session_id = started.session.session_id
        place.held = Held(started.run.run_id, NOBODY.lease_token)
        return
    if column is Column.STARTING:
        await _hold(place)
        return
    await _serve(place)
    if column in ATTENDED:
        await stack.enter_async_context(wire.stream(place.key))
    if column in HELD:
        await _hold(place)
    if column is Column.SUSPENDED:
        await wire.suspend(place.key)
    if column in {Column.CLOSING, Column.ENDED}:
        await wire.close(place.key)
    if column is Column.FINAL:
        place.successor = (await wire.reset(place.key)).session.session_id


@asynccontextmanager
async def place_in(server: Served, column: Column, verb: Verb) -> AsyncIterator[Place]:
    """Arrange a session in a column; the key is of this cell alone."""
    place = Place(server, column, f"{verb}-{column}".lower().replace(", ", "-"))
    async with AsyncExitStack() as stack:
        if column is not Column.NONE:
            await _go(place, stack)
            session = await place.session()
            state = Column.ENDED if column is Column.FINAL else column
            assert session_pb2.SessionState.Name(session.state) == f"SESSION_STATE_{state}"
            assert session.final == (column is Column.FINAL)
            assert session.running == (column in HELD | {Column.CREATED})
            assert session.attached_count == (column in ATTENDED)
        yield place


async def _resolve(place: Place) -> Action:
    policies = {
        "missing_policy": MISSING_POLICY_FAIL,
        "conflict_policy": CONFLICT_POLICY_FAIL,
        "ended_policy": ENDED_POLICY_FAIL,
    }
    call = place.wire.resolve(**place.name, **policies)
    if place.column is Column.FINAL:
        answer = await call
        assert answer.session.session_id == place.session_id
        assert answer.route == session_pb2.ROUTE_REFUSED
        return Action.FOUND
    by_reason = {
        "KEY_NOT_BOUND": Action.BY_MISSING,
        "SESSION_EXISTS": Action.BY_CONFLICT,
        "SESSION_ENDED": Action.BY_ENDED,
    }
    return by_reason[(await place.refused(call)).reason]


async def _start_run(place: Place) -> Action:
    call = place.wire.start(**place.name)
    if place.column is Column.FINAL:
        refusal = await place.refused(call)
        assert (refusal.reason, refusal.metadata["successor"]) == ("SESSION_ENDED", place.successor)  # type: ignore[index]
        return Action.REFUSE_FINAL
    before = None if place.column is Column.NONE else await place.session()
    answer = await call
    if before is None:
        assert answer.session.generation == 1
        return Action.CREATE
    assert answer.session.session_id == place.session_id
    if answer.session.generation == before.generation:
        return Action.ADMIT
    told = await place.log_behind(before.head_sequence)
    return Action.END_THEN_RESUME if "session CLOSING>ENDED" in told else Action.RESUME


async def _claim(place: Place) -> Action:
    if place.column in HELD - {Column.CLOSING}:
        await place.wire.release(place.held)  # so that there is something to grant
    call = place.wire.claim(place.held.run_id)
    if place.column is Column.NONE:
        assert (await place.refused(call)).reason == "RUN_NOT_FOUND"
        return Action.NOT_FOUND
    before = rows(place.server.database)
    answer = await call
    assert answer.run.run_id == place.held.run_id
    if answer.claimed:
        return Action.GRANT
    assert rows(place.server.database) == before
    return Action.DECLINE


async def _release(place: Place) -> Action:
    if place.column in HELD:
        run = (await place.wire.release(place.held)).run
        finished = run.state == run_pb2.RUN_STATE_FINISHED
        return Action.BY_LEASE_THEN_END if finished else Action.BY_LEASE
    reason = (await place.refused(place.wire.release(place.held))).reason
    return Action.NO_LEASE if reason == "LEASE_LOST" else _without_lease(reason)


def _without_lease(reason: str) -> Action:
    """What a lease's refusal says of the column."""
    by_reason = {
        "RUN_NOT_FOUND": Action.NOT_FOUND,
        "LEASE_LOST": Action.BY_LEASE,
        "RUN_FINISHED": Action.BY_LEASE_FINISHED,
    }
    return by_reason[reason]


def _by_lease(call: Callable[[Place, Held], Awaitable[Any]]) -> Callable[[Place], Awaitable[Action]]:
    """Try a verb of runners: another token is refused wherever there is a run, its own is good while it goes on."""

    async def observe(place: Place) -> Action:
        stranger = Held(place.held.run_id, NOBODY.lease_token)
        reason = (await place.refused(call(place, stranger))).reason
        if place.column not in {Column.NONE, Column.CREATED}:
            assert reason == "LEASE_LOST"
        if place.column in HELD:
            await call(place, place.held)
            return Action.BY_LEASE
        return _without_lease((await place.refused(call(place, place.held))).reason)

    return observe


async def _finish(place: Place) -> Action:
    if place.column in {Column.NONE, Column.CREATED}:
        return _without_lease((await place.refused(place.wire.finish(place.held))).reason)
    result = (await place.wire.finish(place.held)).finish_result
    recorded = result == run_pb2.FINISH_RESULT_RECORDED
    return Action.BY_LEASE if recorded else Action.BY_LEASE_FINISHED


async def _interrupt(place: Place) -> Action:
    call = place.wire.interrupt(**place.name)
    if place.column is Column.NONE:
        assert (await place.refused(call)).reason == "KEY_NOT_BOUND"
        return Action.NOT_FOUND
    stage = (await call).interrupt.stage
    return Action.NO_OP if stage == run_pb2.INTERRUPT_STAGE_NO_OP else Action.SIGNAL


async def _attach(place: Place) -> Action:
    if place.column is Column.NONE:
        stream = place.wire.stream(**place.name)
        assert (await place.refused(stream.__aenter__())).reason == "KEY_NOT_BOUND"
        return Action.NOT_FOUND
    before = await place.session()
    async with place.wire.stream(**place.name) as stream:
        shown = stream.opened.session
        if place.column is Column.FINAL:
            await stream.rest()
            assert stream.closing is not None
            assert (stream.ended_by, stream.closing.successor_session_id) == (
                "SESSION_FINAL",
                place.successor,
            )
            assert shown.attached_count == 0
            return Action.REPLAY
        assert shown.attached_count == before.attached_count + 1
        if shown.state != before.state:
            assert shown.state == session_pb2.SESSION_STATE_ACTIVE
            return Action.ACTIVATE
        started = await place.wire.start(place.key, text="next")
        event = await stream.until(lambda event: event.run_id == started.run.run_id)
        assert event.input_recorded.input.text == "next"
        follows = started.session.generation > before.generation
        return Action.ATTACH_AND_FOLLOW if follows else Action.ATTACH


async def _suspend(place: Place) -> Action:
    call = place.wire.suspend(**place.name)
    if place.column is Column.NONE:
        assert (await place.refused(call)).reason == "KEY_NOT_BOUND"
        return Action.NOT_FOUND
    if ROUTES[Verb.SUSPEND][place.column] is Action.REFUSE:
        refusal = await place.refused(call)
        before = session_pb2.SessionState.Name((await place.session()).state)
        assert refusal.reason == "INVALID_TRANSITION"
        assert refusal.metadata == {
            "from": before.removeprefix("SESSION_STATE_"),
            "to": "SUSPENDED",
            "subject": "The session",
        }
        return Action.REFUSE
    before_rows = rows(place.server.database)
    assert (await call).session.state == session_pb2.SESSION_STATE_SUSPENDED
    return Action.NO_OP if rows(place.server.database) == before_rows else Action.SUSPEND


async def _close(place: Place) -> Action:
    call = place.wire.close(**place.name)
    if place.column is Column.NONE:
        assert (await place.refused(call)).reason == "KEY_NOT_BOUND"
        return Action.NOT_FOUND
    before = rows(place.server.database)
    answer = await call
    if rows(place.server.database) == before:
        return Action.NO_OP
    if answer.session.state == session_pb2.SESSION_STATE_ENDED:
        return Action.END
    assert answer.session.state == session_pb2.SESSION_STATE_CLOSING
    assert answer.active_run.run_id == place.held.run_id
    return Action.CLOSE


async def _reset(place: Place) -> Action:
    if place.column is Column.FINAL:
        assert (await place.refused(place.wire.reset(**place.name))).reason == "SESSION_ENDED"
        return Action.REFUSE
    answer = await place.wire.reset(place.key)
    if place.column is Column.NONE:
        assert answer.session.previous_session_id == ""
        return Action.CREATE
    old = (await place.wire.get(session_id=place.session_id)).session
    assert (old.final, old.superseded_by) == (True, answer.session.session_id)
    assert answer.session.previous_session_id == place.session_id
    return Action.SUPERSEDE


async def _delete(place: Place) -> Action:
    before = rows(place.server.database)
    answer = await place.wire.delete(**place.name)
    if not answer.deleted:
        assert rows(place.server.database) == before
        return Action.NO_OP
    assert (await refused(place.wire.get(session_id=place.session_id))).reason == "SESSION_NOT_FOUND"
    return Action.DELETE


OBSERVE: Mapping[Verb, Callable[[Place], Awaitable[Action]]] = {
    Verb.RESOLVE: _resolve,
    Verb.START_RUN: _start_run,
    Verb.CLAIM: _claim,
    Verb.RELEASE: _release,
    Verb.PUBLISH: _by_lease(lambda place, held: place.wire.publish(held, "text")),
    Verb.FINISH: _finish,
    Verb.HEARTBEAT: _by_lease(lambda place, held: place.wire.heartbeat(held)),
    Verb.INTERRUPT: _interrupt,
    Verb.ATTACH: _attach,
    Verb.SUSPEND: _suspend,
    Verb.CLOSE: _close,
    Verb.RESET: _reset,
    Verb.DELETE: _delete,
}


@pytest.mark.parametrize("verb", Verb)
async def test_each_verb_does_in_each_state_what_the_table_says(server: Served, verb: Verb) -> None:
    """What a call over the wire does is its cell's word, in all nine columns."""
    did = {}
    for column in Column:
        async with place_in(server, column, verb) as place:
            did[column] = await OBSERVE[verb](place)
    assert did == dict(ROUTES[verb])


async def test_every_answer_says_what_start_run_would_do(server: Served) -> None:
    """`route` is the cell of start_run, in each column in which there is a session to answer with."""
    for column in set(Column) - {Column.NONE}:
        async with place_in(server, column, Verb.START_RUN) as place:
            route = render.ROUTES[ROUTES[Verb.START_RUN][column]]
            assert (await server.wire.get(**place.name)).route == route
            assert (await server.wire.resolve(**place.name)).route == route


async def test_state_running_and_attached_are_three_facts(server: Served) -> None:
    """In every state a further subscriber, an observer and a further run each change one of them, or none."""
    for column in (Column.CREATED, Column.STARTING, Column.ACTIVE, Column.CLOSING, Column.ENDED):
        async with place_in(server, column, Verb.ATTACH) as place:
            before = await place.session()
            async with server.wire.stream(place.key, presence=session_pb2.PRESENCE_OBSERVER):
                assert await place.session() == before
            async with server.wire.stream(place.key), server.wire.stream(place.key):
                watched = await place.session()
            assert (watched.state, watched.running) == (before.state, before.running)
            assert watched.attached_count == before.attached_count + 2
