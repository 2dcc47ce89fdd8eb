"""What use cases know of sessions: read, shown, and moved along the table or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from sessionplane.domain.errors import InvalidTransition, KeyNotBound, SessionNotFound
from sessionplane.domain.routing import Action
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.plane import sessions
from sessionplane.plane.context import Context
from sessionplane.store.contract import Tx
from tests.support.planes import KEY, NAMESPACE, Bench, ref


async def test_an_answer_says_where_the_log_ends(bench: Bench) -> None:
    """The head in the answer is the newest event, so that a stream from there has no blind spot."""
    resolved = await bench.resolve()
    assert resolved.view.head.sequence == 2 == resolved.view.session.head_sequence
    assert resolved.view.head.chain == bench.session().head_hash


async def test_reading_an_unbound_key_is_refused(bench: Bench) -> None:
    """GetSession creates nothing, and names the canonical key."""
    with pytest.raises(KeyNotBound) as refused:
        bench.session(" Nobody ")
    assert refused.value.details == {"canonical_key": "agent:main:nobody"}


async def test_another_namespace_sees_nothing(bench: Bench) -> None:
    """The same key and the same id mean nothing in another namespace."""
    created = await bench.resolve()
    session_id = created.view.session.session_id
    assert bench.plane.read(lambda tx: sessions.find(tx, "other", ref(KEY))) is None
    with pytest.raises(SessionNotFound):
        bench.plane.read(lambda tx: sessions.find(tx, "other", ref(session_id)))


async def test_the_answer_says_what_a_start_would_do(bench: Bench) -> None:
    """`route` is the cell of start_run for the session as it is."""
    assert (await bench.resolve()).view.route is Action.ADMIT
    run = await bench.start()
    await bench.interrupt(run_id=run.run.run_id)
    assert (await bench.resolve()).view.route is Action.RESUME


async def test_the_answer_shows_the_active_run(bench: Bench) -> None:
    """A resolve of a busy session brings the run in its lane along."""
    assert (await bench.resolve()).view.active_run is None
    started = await bench.start()
    found = await bench.resolve()
    assert found.view.active_run is not None
    assert found.view.active_run.run.run_id == started.run.run_id


@pytest.mark.parametrize("cause", SessionCause)
async def test_a_refused_move_changes_nothing(bench: Bench, cause: SessionCause) -> None:
    """A cause that leads nowhere from the session's state leaves every table as it was."""
    session = (await bench.resolve()).view.session

    def move(tx: Tx, context: Context) -> Any:
        return sessions.move(tx, session, cause, context)

    allowed = {
        SessionCause.RUN_CLAIMED,
        SessionCause.RUN_ENDED,
        SessionCause.CLOSED,
        SessionCause.EXPIRED,
        SessionCause.SUPERSEDED,
        SessionCause.DELETED,
    }
    if cause in allowed:
        await bench.write(move)
        assert bench.session().state is not SessionState.CREATED
        return
    error = await bench.refused(InvalidTransition, bench.write(move))
    assert error.details["from"] == "CREATED"


async def test_resuming_begins_a_generation(bench: Bench) -> None:
    """ENDED keeps when and why; resuming counts the generation and begins anew."""
    session_id = (await bench.resolve()).view.session.session_id
    for cause in (SessionCause.CLOSED, SessionCause.RESUMED):
        bench.clock.advance(1_000)

        def move(tx: Tx, context: Context, cause: SessionCause = cause) -> Any:
            return sessions.move(tx, sessions.require(tx, NAMESPACE, session_id), cause, context)

        await bench.write(move)
        session = bench.session()
        ended = cause is SessionCause.CLOSED
        assert session.ended_at_ms == (bench.clock.wall_ms() if ended else None)
        assert session.end_reason == (cause if ended else None)
        assert session.generation == (1 if ended else 2)
    assert session.started_at_ms == bench.clock.wall_ms() == session.created_at_ms + 2_000
    assert bench.log()[-1].session_changed.generation == 2
