"""How a key leaves a session: with its runs' terminals, its end and the move in one commit, and never by halves."""

from __future__ import annotations

import pytest

from sessionplane.domain.errors import KeyNotBound, SessionEnded, SessionNotFound
from sessionplane.domain.runs import FinishResult
from sessionplane.domain.sessions import MoveReason, Session, SessionCause, SessionState
from sessionplane.plane import lane, pointers, sessions
from sessionplane.plane.context import Context
from sessionplane.store.contract import Tx
from tests.support.planes import KEY, NAMESPACE, Bench
from tests.support.story import check_log, ending

REASONS = (MoveReason.RESET, MoveReason.ROLLED_OVER, MoveReason.REPLACED, MoveReason.CREATE_NEW)


async def hand_over(
    bench: Bench, name: str = KEY, reason: MoveReason = MoveReason.RESET, **given: object
) -> Session:
    """Move the key of a session to a new one."""
    old = bench.session(name)
    return await bench.write(lambda tx, use: pointers.hand_over(tx, old, reason, use, **given))


async def delete(bench: Bench, name: str = KEY) -> Session:
    """Delete a session."""
    old = bench.session(name)
    return await bench.write(lambda tx, use: pointers.delete(tx, old, use))


async def end(bench: Bench) -> Session:
    """End the session of the key, which keeps it."""
    old = bench.session()

    def close(tx: Tx, context: Context) -> Session:
        return lane.end_all(tx, old, SessionCause.CLOSED, context)

    return await bench.write(close)


@pytest.mark.parametrize("reason", REASONS)
async def test_a_key_moves_with_everything_that_belongs_to_it(bench: Bench, reason: MoveReason) -> None:
    """The old session ends with its terminals, its change and the move; the new one begins with its birth and the
    move; each names the other.
    """
    await bench.resolve(labels={"team": "a", "old": "1"}, display_name="Chat")
    active = await bench.running()
    await bench.publish(active.run_id, "so far")
    queued = (await bench.start()).run
    old = bench.session()
    new = await hand_over(bench, reason=reason, labels={"team": "b"})
    assert bench.session() == new
    assert (new.state, new.previous_session_id) == (SessionState.CREATED, old.session_id)
    assert (dict(new.labels), new.display_name) == ({"team": "b", "old": "1"}, "Chat")
    gone = bench.session(old.session_id)
    assert (gone.state, gone.end_reason, gone.final) == (SessionState.ENDED, SessionCause.SUPERSEDED, True)
    assert (gone.superseded_by, gone.running) == (new.session_id, False)
    log = bench.log(old.session_id)
    check_log(log)
    assert ending(bench.check_end(active.run_id, log).run_terminal) == "INTERRUPTED/SESSION_ENDED"
    assert ending(bench.check_end(queued.run_id, log).run_terminal) == "REJECTED/SESSION_ENDED"
    assert bench.run(active.run_id).terminal.find(b"so far") > 0
    assert bench.story(old.session_id)[-2:] == ["session DETACHED>ENDED", f"key {reason}"]
    assert (log[-1].session_moved.other_session_id, log[-1].session_moved.holds) == (new.session_id, False)
    born = bench.log(new.session_id)
    assert bench.story(new.session_id) == ["session none>CREATED", f"key {reason}"]
    assert (born[1].session_moved.other_session_id, born[1].session_moved.holds) == (old.session_id, True)


async def test_a_final_session_never_runs_again_and_names_its_successor(bench: Bench) -> None:
    """Its id is refused with the successor; its key runs in the successor."""
    old = (await bench.resolve()).view.session
    new = await hand_over(bench)
    refusal = await bench.refused(SessionEnded, bench.start(old.session_id))
    assert refusal.details["successor"] == new.session_id
    assert (await bench.start()).view.session.session_id == new.session_id


async def test_an_ended_session_hands_over_what_it_still_holds(bench: Bench) -> None:
    """It does not end twice, and keeps the reason of its end."""
    await bench.resolve()
    old = await end(bench)
    await hand_over(bench, reason=MoveReason.CREATE_NEW)
    gone = bench.session(old.session_id)
    assert (gone.final, gone.end_reason, gone.ended_at_ms) == (True, SessionCause.CLOSED, old.ended_at_ms)
    assert bench.story(old.session_id)[-2:] == ["session CREATED>ENDED", "key CREATE_NEW"]


async def test_a_session_without_a_key_is_deleted_with_an_event_of_its_own(bench: Bench) -> None:
    """So that whoever follows it learns of it."""
    old = (await bench.start(None)).view.session
    await delete(bench, old.session_id)
    stored = bench.plane.read(lambda tx: sessions.require_row(tx, NAMESPACE, old.session_id))
    assert stored.deleted_at_ms == bench.clock.wall_ms()
    entries = bench.plane.read(lambda tx: tx.place(old.session_id, stored.head_sequence))
    assert entries is not None


async def test_a_deleted_session_is_gone_and_its_runs_are_still_known(bench: Bench) -> None:
    """The id answers with the time, the key is free, and a run's id still says how it ended."""
    active = await bench.running()
    old = bench.session()
    await delete(bench)
    with pytest.raises(SessionNotFound) as refusal:
        bench.session(old.session_id)
    assert refusal.value.details["deleted_at"].startswith("20")
    with pytest.raises(KeyNotBound):
        bench.session()
    assert bench.view(active.run_id).session.deleted_at_ms is not None
    assert ending_of(bench, active.run_id) == "INTERRUPTED"
    before = bench.contents()
    assert (await bench.finish(active.run_id, "late")).result is FinishResult.SUPERSEDED
    assert bench.contents() == before
    assert (await bench.resolve()).view.session.session_id != old.session_id


def ending_of(bench: Bench, run_id: str) -> str:
    """How a run ended, by its row."""
    return str(bench.run(run_id).outcome)


@pytest.mark.parametrize("reason", [*REASONS, MoveReason.DELETED])
async def test_a_key_that_could_not_move_stays_where_it_was(bench: Bench, reason: MoveReason) -> None:
    """A commit that is lost changes nothing: neither the pointer, nor a run, nor a lease."""
    await bench.running()
    old = bench.session()

    def fails(tx: Tx, context: Context) -> None:
        if reason is MoveReason.DELETED:
            pointers.delete(tx, old, context)
        else:
            pointers.hand_over(tx, old, reason, context)
        raise SessionEnded(session_id=old.session_id)

    await bench.refused(SessionEnded, bench.write(fails))


async def test_a_key_that_moves_keeps_the_spelling_that_made_it(bench: Bench) -> None:
    """Whatever moved it, and however the caller who moved it wrote it; a key that was free is spelled anew."""
    await bench.resolve(" Settings2 ")
    for reason in REASONS:
        await hand_over(bench, "settings2", reason)
        assert bench.spelling("SETTINGS2") == "Settings2"
    await delete(bench, "settings2")
    await bench.resolve("SETTINGS2")
    assert bench.spelling("settings2") == "SETTINGS2"


async def test_a_key_that_is_bound_keeps_the_spelling_of_the_binding(bench: Bench) -> None:
    """The session began without a key, so whoever named it first spelled it."""
    started = await bench.start(None)
    await bench.resolve("Agent:Ops:Notes", bind=started.run.session_id)
    assert bench.spelling("agent:ops:notes") == "Agent:Ops:Notes"
