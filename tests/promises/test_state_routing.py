"""state-routing: where a message goes is decided by what is on disk, never by what a process remembers.

Seen in the wild: an in-memory "is active" flag swallowed the first message after a reconnect; a session that was
closing was treated as alive; a runner that had been given up went on writing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import ROUTE_ADMIT, ROUTE_END_THEN_RESUME, ROUTE_RESUME, SessionRef
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, story, tell, terminals
from tests.support.wire import Held, Wire

KEY = "chat"


async def _created(wire: Wire) -> None:
    await wire.resolve(KEY)


async def _starting(wire: Wire) -> None:
    await wire.hold((await wire.start(KEY)).run.run_id)


async def _active(wire: Wire) -> None:
    """A run is under way, and somebody watches."""
    held = await wire.hold((await wire.start(KEY)).run.run_id)
    async with wire.stream(KEY):
        await wire.publish(held, "so far")


async def _detached(wire: Wire) -> None:
    await wire.run_through((await wire.start(KEY)).run.run_id, "done")


async def _suspended(wire: Wire) -> None:
    """A run is under way, and its subscriber went to the background."""
    await _active(wire)
    await wire.suspend(KEY)


async def _closing(wire: Wire) -> None:
    """A run is under way that was asked to finish."""
    await _active(wire)
    await wire.close(KEY)


async def _ended(wire: Wire) -> None:
    await wire.interrupt(run_id=(await wire.start(KEY)).run.run_id)


Before = Callable[[Wire], Awaitable[None]]
STATES: dict[str, Before] = {
    "CREATED": _created,
    "STARTING": _starting,
    "ACTIVE": _active,
    "DETACHED": _detached,
    "SUSPENDED": _suspended,
    "CLOSING": _closing,
    "ENDED": _ended,
}
ROUTES = {"CLOSING": ROUTE_END_THEN_RESUME, "ENDED": ROUTE_RESUME}


async def _serve_all(wire: Wire) -> None:
    """Be the runner of whatever is active or waits in the session, until nothing does."""
    while run_id := (await wire.get(KEY)).session.active_run_id:
        run = await wire.get_run(run_id)
        if run.state == run_pb2.RUN_STATE_PENDING:
            await wire.run_through(run_id, "answer")
        else:
            await wire.interrupt(run_id=run_id, mode=run_pb2.INTERRUPT_MODE_FORCE)


@pytest.mark.parametrize("state", STATES)
async def test_a_message_after_a_subscriber_attached_is_not_swallowed_in_any_state(
    server: Served, state: str
) -> None:
    """Whatever state a session is in, whoever attaches and then sends sees the message, its run and its end."""
    wire = server.wire
    await STATES[state](wire)
    async with wire.stream(KEY) as stream:
        started = await wire.start(KEY, text="are you there?")
        await _serve_all(wire)
        await stream.until(
            lambda event: event.run_id == started.run.run_id and event.HasField("run_terminal")
        )
    seen = story(stream.events, run_id=started.run.run_id)
    assert seen[0] == "input are you there?"
    assert seen[-3:] == ["text answer", "run RUNNING>FINISHED", "terminal SUCCEEDED/RUNNER"]
    check_log(await wire.log(KEY))


async def test_a_message_to_a_key_that_had_no_session_is_seen_by_who_resolved_it_by_streaming(
    server: Served,
) -> None:
    """A stream that resolves is attached before it is answered: what is started afterwards is in it."""
    wire = server.wire
    resolve = pb.ResolveSessionRequest(session=SessionRef(key=KEY))
    async with wire.stream(resolve=resolve, until=STREAM_UNTIL_RUN_END) as stream:
        assert stream.opened.resolution == session_pb2.RESOLUTION_CREATED
        started = await wire.start(KEY)
        await wire.run_through(started.run.run_id, "answer")
        await stream.rest()
    assert story(stream.events, run_id=started.run.run_id)[0] == "input hello"
    assert terminals(stream.events) == ["SUCCEEDED/RUNNER"]


async def test_a_session_that_ended_serves_the_next_message_to_its_subscriber(server: Served) -> None:
    """Attaching to an ended session changes no state; the message brings its next generation, in the same log."""
    wire = server.wire
    await _ended(wire)
    async with wire.stream(KEY, start=STREAM_START_OLDEST) as stream:
        assert stream.opened.session.state == session_pb2.SESSION_STATE_ENDED
        assert stream.opened.session.generation == 1
        started = await wire.start(KEY)
        assert started.session.generation == 2
        await wire.run_through(started.run.run_id, "answer")
        await stream.until(
            lambda event: event.run_id == started.run.run_id and event.HasField("run_terminal")
        )
    assert stream.events == (await wire.log(KEY))[: len(stream.events)]
    told = story(stream.events)
    assert told.index("session ENDED>CREATED") < told.index(
        "session CREATED>STARTING", told.index("session ENDED>CREATED")
    )


async def test_the_first_message_after_a_reconnect_is_served(tmp_path: Path) -> None:
    """A subscriber that left, was missed, and came back sends a message, and it runs like any other."""
    async with serving(tmp_path / "plane.db", limits={"detach_linger_ms": 100}) as server:
        wire = server.wire
        held = await wire.hold((await wire.start(KEY)).run.run_id)
        async with (
            wire.stream(KEY) as watcher,
            wire.stream(KEY, presence=session_pb2.PRESENCE_OBSERVER) as observer,
        ):
            await wire.work(held, "first")
            await watcher.until(lambda event: event.HasField("run_terminal"))
            watcher.leave()
            await observer.until(lambda event: tell(event) == "session ACTIVE>DETACHED")
        async with wire.stream(KEY) as watcher:
            assert watcher.opened.session.state == session_pb2.SESSION_STATE_ACTIVE
            started = await wire.start(KEY)
            await wire.run_through(started.run.run_id, "second")
            await watcher.until(lambda event: event.HasField("run_terminal"))
        assert terminals(await wire.log(KEY)) == ["SUCCEEDED/RUNNER"] * 2


@pytest.mark.parametrize("state", STATES)
async def test_route_says_what_start_run_then_does(server: Served, state: str) -> None:
    """An answer's route is the routing table's word for the session's state, and StartRun keeps it."""
    wire = server.wire
    await STATES[state](wire)
    answer = await wire.get(KEY)
    assert answer.route == ROUTES.get(state, ROUTE_ADMIT)
    assert (await wire.resolve(KEY)).route == answer.route
    started = await wire.start(KEY)
    assert started.session.generation == answer.session.generation + (state in ROUTES)
    waits = bool(answer.session.active_run_id) and state not in ROUTES
    assert started.disposition == (
        run_pb2.RUN_DISPOSITION_QUEUED if waits else run_pb2.RUN_DISPOSITION_PENDING
    )


@pytest.mark.parametrize("state", STATES)
async def test_a_restart_changes_no_routing(tmp_path: Path, state: str) -> None:
    """What a session is, and what a message to it does, is the same for the process that comes next."""
    async with serving(tmp_path / "plane.db") as server:
        await STATES[state](server.wire)
        before = await server.wire.get(KEY)
    async with serving(tmp_path / "plane.db") as server:
        after = await server.wire.get(KEY)
        assert (after.session.state, after.route) == (before.session.state, before.route)
        assert (after.session.generation, after.session.active_run_id) == (
            before.session.generation,
            before.session.active_run_id,
        )
        started = await server.wire.start(KEY)
        await _serve_all(server.wire)
        assert (await server.wire.wait(started.run.run_id)).terminal.outcome == run_pb2.RUN_OUTCOME_SUCCEEDED


@pytest.mark.parametrize("watched", [True, False])
async def test_who_is_attached_never_decides_where_a_message_goes(server: Served, *, watched: bool) -> None:
    """A message is admitted alike with and without subscribers."""
    wire = server.wire
    await wire.resolve(KEY)
    async with wire.stream(
        KEY, presence=session_pb2.PRESENCE_ATTACHED if watched else session_pb2.PRESENCE_OBSERVER
    ):
        assert (await wire.get(KEY)).session.attached_count == watched
        started = await wire.start(KEY)
        assert started.disposition == run_pb2.RUN_DISPOSITION_PENDING
        await wire.run_through(started.run.run_id, "answer")
    assert terminals(await wire.log(KEY)) == ["SUCCEEDED/RUNNER"]


async def test_a_message_that_will_not_wait_is_told_which_run_is_active(server: Served) -> None:
    """REJECT refuses while the lane is taken, names the run in it, changes nothing, and is served when it is free."""
    wire = server.wire
    active = await wire.start(KEY)
    before = rows(server.database)
    refusal = await refused(wire.start(KEY, policy=run_pb2.RUN_POLICY_REJECT))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "RUN_IN_PROGRESS")
    assert (refusal.metadata or {})["active_run_id"] == active.run.run_id
    assert rows(server.database) == before
    await wire.run_through(active.run.run_id)
    assert (
        await wire.start(KEY, policy=run_pb2.RUN_POLICY_REJECT)
    ).disposition == run_pb2.RUN_DISPOSITION_PENDING


async def test_a_zombie_is_fenced_from_the_run_that_was_given_to_another(server: Served) -> None:
    """A runner whose run was offered again can neither publish nor stay alive nor finish, and hurts no successor."""
    wire = server.wire
    started = await wire.start(KEY)
    silent = await wire.claim(started.run.run_id, lease_s=0.1)
    zombie = Held(started.run.run_id, silent.lease.token)
    holder = await wire.hold(started.run.run_id)
    await wire.publish(holder, "mine")
    before = rows(server.database)
    for call in (
        wire.publish(zombie, "theirs"),
        wire.heartbeat(zombie),
        wire.finish(zombie),
        wire.release(zombie),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")
        assert (refusal.metadata or {})["current_epoch"] == "2"
    assert rows(server.database) == before
    assert (await wire.finish(holder)).terminal.output_text == "mine"


async def test_a_zombie_of_an_ended_run_cannot_write_into_the_next_one(server: Served) -> None:
    """A forced run's runner is told so, and the run behind it has its log to itself."""
    wire = server.wire
    zombie = await wire.hold((await wire.start(KEY, text="first")).run.run_id)
    following = await wire.start(KEY, text="second")
    await wire.interrupt(KEY, mode=run_pb2.INTERRUPT_MODE_FORCE)
    holder = await wire.hold(following.run.run_id)
    assert (await refused(wire.publish(zombie, "theirs"))).reason == "RUN_FINISHED"
    await wire.work(holder, "mine")
    log = await wire.log(KEY)
    check_log(log)
    assert [each for each in story(log) if each.startswith("text")] == ["text mine"]


async def test_a_run_of_an_ended_session_is_not_to_be_claimed(server: Served) -> None:
    """ClaimRun answers with the run as it is, and neither waits nor grants."""
    wire = server.wire
    started = await wire.start(KEY)
    await wire.interrupt(KEY)
    before = rows(server.database)
    answer = await wire.claim(started.run.run_id, wait_s=20)
    assert not answer.claimed
    assert answer.run.state == run_pb2.RUN_STATE_FINISHED
    assert rows(server.database) == before


async def test_an_answer_s_token_has_no_blind_spot(server: Served) -> None:
    """A stream from the token of an answer begins right behind what that answer knew."""
    wire = server.wire
    resolved = await wire.resolve(KEY)
    started = await wire.start(KEY)
    await wire.run_through(started.run.run_id, "answer")
    behind_resolve = await wire.stream(
        KEY, resume_token=resolved.resume_token, until=pb.STREAM_UNTIL_CAUGHT_UP
    ).rest()
    behind_start = await wire.stream(
        KEY, resume_token=started.resume_token, until=pb.STREAM_UNTIL_CAUGHT_UP
    ).rest()
    log = await wire.log(KEY)
    assert behind_resolve.events == log[2:]
    assert behind_start.events == log[4:]
    assert story(log)[:4] == ["session none>CREATED", "key CREATED", "input hello", "run none>PENDING"]
