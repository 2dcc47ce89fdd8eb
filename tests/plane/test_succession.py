"""Reset and delete: a key goes to a new session or to nobody, and what was there ends once and for everybody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from sessionplane.domain.errors import (
    InterruptNotFound,
    KeyNeverBound,
    KeyNotBound,
    LeaseLost,
    RequestIdReused,
    RunFinished,
    SessionEnded,
    SessionNotFound,
    SessionPlaneError,
    SessionReplaced,
)
from sessionplane.domain.runs import FinishResult, RunDisposition, RunOutcome, RunState
from sessionplane.domain.sessions import Interaction, SessionState, Visibility
from sessionplane.plane import interrupts, streams
from sessionplane.plane.streams import StreamRequest
from tests.support.planes import KEY, NAMESPACE, Bench, ref
from tests.support.stores import HeldWriter
from tests.support.story import check_log, ending, story

UNKNOWN = "ses_" + "f" * 32


async def ended(bench: Bench) -> str:
    """The key's session has ended and keeps it."""
    started = await bench.start()
    await bench.interrupt(run_id=started.run.run_id)
    return started.view.session.session_id


# Reset


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_reset_moves_the_key_to_a_new_session(bench: Bench, by_id: bool) -> None:
    """Named by key or by id: its runs end, it is final, and what people gave it goes on."""
    old = (await bench.resolve(labels={"team": "a"}, display_name="Chat")).view.session
    run = await bench.running()
    new = await bench.reset(old.session_id if by_id else " MAIN ")
    assert bench.session().session_id == new.session_id != old.session_id
    assert (new.previous_session_id, new.state) == (old.session_id, SessionState.CREATED)
    assert (dict(new.labels), new.display_name) == ({"team": "a"}, "Chat")
    gone = bench.session(old.session_id)
    assert (gone.final, gone.superseded_by, gone.running) == (True, new.session_id, False)
    assert ending(bench.check_end(run.run_id).run_terminal) == "INTERRUPTED/SESSION_ENDED"
    assert bench.story(old.session_id)[-1] == bench.story(new.session_id)[1] == "key RESET"


async def test_a_reset_of_a_key_that_nobody_holds_creates_its_session(bench: Bench) -> None:
    """There is nothing to end, and a new session is what was asked for."""
    new = await bench.reset("New")
    assert (str(new.key), new.previous_session_id) == ("agent:main:new", "")
    assert bench.story("new") == ["session none>CREATED", "key CREATED"]


async def test_a_session_that_has_ended_is_reset_like_a_live_one(bench: Bench) -> None:
    """It held its key until now, and does not come back."""
    old = await ended(bench)
    new = await bench.reset()
    assert new.previous_session_id == old
    assert bench.session(old).final


@pytest.mark.parametrize("visibility", Visibility)
async def test_a_reset_is_nobody_s_visit(bench: Bench, visibility: Visibility) -> None:
    """Machinery resets too: a hidden session's successor is hidden, and no user is claimed to have been there."""
    await bench.resolve(visibility=visibility)
    new = await bench.reset()
    assert (new.visibility, new.last_interaction_at_ms) == (visibility, None)


async def test_a_final_session_is_not_reset(bench: Bench) -> None:
    """It has no key to move; the refusal names its successor."""
    old = (await bench.resolve()).view.session.session_id
    new = await bench.reset()
    error = await bench.refused(SessionEnded, bench.reset(old))
    assert error.details == {"session_id": old, "successor": new.session_id}


async def test_a_session_that_never_had_a_key_is_not_reset(bench: Bench) -> None:
    """There is none to move: the reason is that of a key that nobody holds."""
    nameless = (await bench.start(None)).view.session.session_id
    error = await bench.refused(KeyNeverBound, bench.reset(nameless))
    assert (error.reason, error.details) == ("KEY_NOT_BOUND", {"session_id": nameless})


async def test_an_unknown_id_is_not_reset(bench: Bench) -> None:
    """Only a key can call for a new session."""
    await bench.refused(SessionNotFound, bench.reset(UNKNOWN))


async def test_only_the_expected_session_is_reset(bench: Bench) -> None:
    """Another one, an unbound key and another session's id are refused with who holds the key."""
    old = (await bench.resolve()).view.session.session_id
    new = (await bench.reset(expected=old)).session_id
    assert (await bench.refused(SessionReplaced, bench.reset(expected=old))).details == {"current": new}
    assert (await bench.refused(SessionReplaced, bench.reset(new, expected=old))).details == {"current": new}
    assert (await bench.refused(SessionReplaced, bench.reset("other", expected=old))).details == {
        "current": ""
    }
    await bench.refused(SessionEnded, bench.reset(old, expected=old))


async def test_a_repeated_reset_has_no_second_effect(bench: Bench) -> None:
    """The same new session again, as it is now."""
    old = (await bench.resolve()).view.session.session_id
    new = await bench.reset(request_id="r1")
    await bench.running()
    before = bench.contents()
    again = await bench.reset(request_id="r1")
    assert (again.session_id, again.previous_session_id) == (new.session_id, old)
    assert again.state is SessionState.STARTING
    assert bench.contents() == before
    await bench.refused(RequestIdReused, bench.reset("other", request_id="r1"))


async def test_two_resets_at_once_are_two_sessions_in_turn(bench: Bench) -> None:
    """Each gets one of its own; with the expected session one of them wins."""
    old = (await bench.resolve()).view.session.session_id
    async with HeldWriter(bench.store):
        first, second = (asyncio.ensure_future(bench.reset()) for _ in range(2))
        await asyncio.sleep(0)
    assert (await first).previous_session_id == old
    assert (await second).previous_session_id == (await first).session_id
    current = (await second).session_id
    async with HeldWriter(bench.store):
        rivals = [asyncio.ensure_future(bench.reset(expected=current)) for _ in range(2)]
        await asyncio.sleep(0)
    won, lost = await asyncio.gather(*rivals, return_exceptions=True)
    assert isinstance(lost, SessionReplaced)
    assert not isinstance(won, BaseException)
    assert lost.details == {"current": won.session_id}


# Delete


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_deleted_session_is_gone_and_its_key_is_free(bench: Bench, by_id: bool) -> None:
    """Reading, listing and finding it end at once; the next resolve makes another session."""
    old = (await bench.resolve()).view.session
    gone = await bench.delete(old.session_id if by_id else " MAIN ")
    assert (gone.deleted, gone.session_id) == (True, old.session_id)
    assert gone.deleted_at_ms == bench.clock.wall_ms()
    with pytest.raises(KeyNotBound):
        bench.session()
    with pytest.raises(SessionNotFound) as refused:
        bench.session(old.session_id)
    moment = datetime.fromtimestamp(bench.clock.wall_ms() / 1000, UTC)
    assert refused.value.details["deleted_at"] == moment.isoformat(timespec="seconds")
    assert (await bench.resolve()).view.session.session_id != old.session_id


async def test_a_final_session_is_deleted_without_its_successor(bench: Bench) -> None:
    """The key is another session's by now, and stays there."""
    old = (await bench.resolve()).view.session.session_id
    new = await bench.reset()
    assert (await bench.delete(old)).deleted
    assert bench.session().session_id == new.session_id


async def test_what_is_not_there_is_deleted_already(bench: Bench) -> None:
    """An unknown id, a key that nobody holds, a session that is gone: nothing is written, nothing is wrong."""
    old = (await bench.resolve()).view.session.session_id
    first = await bench.delete(request_id="r1")
    before = bench.contents()
    for name in (UNKNOWN, "nobody", KEY):
        nothing = await bench.delete(name, request_id="r2", content="any")
        assert (nothing.deleted, nothing.session_id, nothing.deleted_at_ms) == (False, "", None)
    bench.clock.advance(5_000)
    again = await bench.delete(old)
    assert (again.deleted, again.session_id, again.deleted_at_ms) == (False, old, first.deleted_at_ms)
    assert bench.contents() == before


async def test_a_repeated_delete_says_what_the_first_did(bench: Bench) -> None:
    """And leaves the session alone that holds the key by now."""
    await bench.resolve()
    first = await bench.delete(request_id="r1")
    new = (await bench.resolve()).view.session
    before = bench.contents()
    assert await bench.delete(request_id="r1") == first
    assert bench.contents() == before
    assert bench.session().session_id == new.session_id
    await bench.refused(RequestIdReused, bench.delete("other", request_id="r1"))


async def test_what_is_asked_of_a_deleted_session_by_its_id_is_not_found(bench: Bench) -> None:
    """Every call that names it is refused with the time, and changes nothing."""
    old = (await bench.resolve(request_id="r1")).view.session.session_id
    run = await bench.running()
    stopped = await bench.interrupt(run_id=run.run_id)
    await bench.delete()
    calls = [
        bench.resolve(old),
        bench.resolve("other", bind=old),
        bench.resolve(request_id="r1"),
        bench.start(old),
        bench.reset(old),
        bench.update(old, display_name="x"),
        bench.interrupt(old),
        bench.interrupt(run_id=run.run_id),
        bench.do(streams.open_stream, StreamRequest(namespace=NAMESPACE, session=ref(old))),
    ]
    for call in calls:
        error = await bench.refused(SessionNotFound, call)
        assert error.details["session_id"] == old
        assert "deleted_at" in error.details
    kinds: tuple[type[SessionPlaneError], ...] = (SessionNotFound, InterruptNotFound)
    with pytest.raises(kinds):
        bench.plane.read(lambda tx: interrupts.get_interrupt(tx, NAMESPACE, stopped.interrupt.interrupt_id))


async def test_a_run_of_a_deleted_session_is_known_by_its_id(bench: Bench) -> None:
    """GetRun, WaitRun and a claim show it with its end; a queued one has ended like the active one."""
    active = await bench.running()
    await bench.publish(active.run_id, "so far")
    queued = (await bench.start()).run
    waiting = asyncio.ensure_future(bench.plane.wait_run(NAMESPACE, active.run_id, wait_s=60))
    await asyncio.sleep(0)
    old = bench.session().session_id
    await bench.delete()
    assert (await waiting).run.outcome is RunOutcome.INTERRUPTED
    assert bench.view(active.run_id).session.session_id == old
    assert b"so far" in bench.run(active.run_id).terminal
    assert bench.run(queued.run_id).outcome is RunOutcome.REJECTED
    claimed = await bench.claim(queued.run_id)
    assert claimed is not None
    assert (claimed.lease, claimed.run.run.state) == (None, RunState.FINISHED)


async def test_a_runner_of_a_deleted_session_is_told_to_stop(bench: Bench) -> None:
    """Its publications and heartbeats are refused, its report is answered, and nothing is written."""
    run = await bench.running()
    await bench.delete()
    await bench.refused(RunFinished, bench.publish(run.run_id, "late"))
    await bench.refused(RunFinished, bench.heartbeat(run.run_id))
    await bench.refused(RunFinished, bench.release(run.run_id))
    await bench.refused(LeaseLost, bench.finish(run.run_id, token="another"))
    before = bench.contents()
    assert (await bench.finish(run.run_id, "late")).result is FinishResult.SUPERSEDED
    assert bench.contents() == before


async def test_a_finished_run_of_a_deleted_session_is_a_duplicate(bench: Bench) -> None:
    """A runner that lost the answer to its report gets it again."""
    run = await bench.running()
    await bench.finish(run.run_id, "done")
    await bench.delete()
    before = bench.contents()
    again = await bench.finish(run.run_id, "done")
    assert (again.result, again.run.outcome) == (FinishResult.DUPLICATE, RunOutcome.SUCCEEDED)
    assert bench.contents() == before


async def test_work_that_is_known_is_not_done_again_in_the_next_session(bench: Bench) -> None:
    """A run id of a deleted session stays that run's as long as it is known, also for a repeated call."""
    run = (await bench.start(run_id="mine", request_id="r1")).run
    old = bench.session().session_id
    await bench.delete()
    await bench.resolve()
    before = bench.contents()
    again = await bench.start(run_id="mine")
    assert again.disposition is RunDisposition.DUPLICATE
    assert (again.run.run_id, again.run.session_id, again.run.state) == (
        run.run_id,
        old,
        RunState.FINISHED,
    )
    repeated = await bench.start(run_id="mine", request_id="r1")
    assert (repeated.disposition, repeated.run) == (RunDisposition.PENDING, again.run)
    assert bench.contents() == before


async def test_a_deleted_log_ends_with_the_deletion(bench: Bench) -> None:
    """Behind the terminals and the end; whoever still reads it learns why."""
    run = await bench.running()
    old = bench.session()
    before = bench.story()
    await bench.delete()
    log = bench.log(old.session_id)
    check_log(log)
    assert story(log)[len(before) :] == [
        "run RUNNING>FINISHED",
        "terminal INTERRUPTED/SESSION_ENDED",
        "session STARTING>ENDED",
        "key DELETED",
    ]
    assert bench.run(run.run_id).terminal_sequence == log[-3].sequence


@pytest.mark.parametrize("order", [1, -1])
async def test_a_resolve_beside_a_deletion_finds_or_creates(bench: Bench, order: int) -> None:
    """Whichever comes first, the key has at most one session, and never the deleted one."""
    old = (await bench.resolve()).view.session.session_id
    async with HeldWriter(bench.store):
        asked = [bench.delete(), bench.resolve(visibility=Visibility.VISIBLE, run=None), bench.start()]
        calls = [asyncio.ensure_future(each) for each in asked[::order]]
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    if order == 1:
        assert bench.session().session_id != old
    else:
        with pytest.raises(KeyNotBound):
            bench.session()
    assert bench.plane.read(lambda tx: tx.session(NAMESPACE, old)) is not None


async def test_a_note_of_a_visitor_brings_no_session_back(bench: Bench) -> None:
    """A last interaction that was waiting to be written finds the session gone."""
    old = (await bench.resolve()).view.session.session_id
    bench.clock.advance(10)
    await bench.resolve(interaction=Interaction.USER)
    await bench.delete()
    await bench.plane.sweeper.sweep()
    with pytest.raises(SessionNotFound):
        bench.session(old)
    with pytest.raises(KeyNotBound):
        bench.session()
