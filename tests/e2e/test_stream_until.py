"""What a stream waits for: OK means that it was delivered, and `opened` or `progress` names the run that is meant."""

from __future__ import annotations

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import INTERRUPT_MODE_FORCE
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_OLDEST,
    STREAM_UNTIL_CAUGHT_UP,
    STREAM_UNTIL_RUN_END,
    STREAM_UNTIL_SESSION_END,
)
from tests.support.refusals import refused
from tests.support.serving import Served
from tests.support.story import story, tell, terminals
from tests.support.wire import Wire

UNTIL_RUN_END = {"until": STREAM_UNTIL_RUN_END}
UNTIL_SESSION_END = {"until": STREAM_UNTIL_SESSION_END}


async def _served(wire: Wire, key: str = "chat") -> str:
    """Start a run and see it through; returns its id."""
    run_id = (await wire.start(key)).run.run_id
    await wire.run_through(run_id, "text")
    return run_id


async def test_run_end_of_a_named_run_waits_for_that_one(server: Served) -> None:
    """A run that is named ends the stream, not the one that is active before it."""
    wire = server.wire
    first, second = [(await wire.start("chat")).run.run_id for _ in range(2)]
    async with wire.stream("chat", until_run_id=second, **UNTIL_RUN_END) as stream:
        assert (stream.opened.run.run_id, stream.opened.until_run_id) == (second, second)
        await wire.run_through(first)
        await wire.run_through(second)
        await wire.start("chat", text="not of this stream")
        await stream.rest()
    assert stream.ended_by == "RUN_END"
    assert stream.events[-1].run_id == second
    assert len(terminals(stream.events)) == 2


async def test_run_end_without_a_name_means_the_run_in_the_lane(server: Served) -> None:
    """The run that is active when the stream opens is the one that is waited for, and `opened` says which it is."""
    wire = server.wire
    await _served(wire)
    active, queued = [(await wire.start("chat")).run.run_id for _ in range(2)]
    async with wire.stream("chat", **UNTIL_RUN_END) as stream:
        assert stream.opened.until_run_id == active
        await wire.run_through(active)
        await wire.run_through(queued)
        await stream.rest()
    assert stream.ended_by == "RUN_END"
    assert stream.events[-1].run_id == active


async def test_run_end_with_an_empty_lane_means_the_next_run_and_a_progress_frame_names_it(
    server: Served,
) -> None:
    """While nobody knows which run is meant the stream waits; once it is recorded a frame says which it is."""
    wire = server.wire
    before = await _served(wire)
    async with wire.stream("chat", start=STREAM_START_OLDEST, **UNTIL_RUN_END) as stream:
        assert stream.opened.until_run_id == ""
        following = await _served(wire)
        await stream.rest()
    named = [frame.progress.until_run_id for frame in stream.frames if frame.HasField("progress")]
    assert named == [following]
    assert stream.ended_by == "RUN_END"
    assert [event.run_id for event in stream.events if event.HasField("run_terminal")] == [before, following]


async def test_run_end_with_a_token_means_the_run_in_the_lane_at_the_token(server: Served) -> None:
    """A reconnect without a name waits for the run that was active where it stopped, though others came since."""
    wire = server.wire
    started = await wire.start("chat")
    await wire.run_through(started.run.run_id, "text")
    await _served(wire)
    stream = await wire.stream("chat", resume_token=started.resume_token, **UNTIL_RUN_END).rest()
    assert stream.opened.until_run_id == started.run.run_id
    assert stream.ended_by == "RUN_END"
    assert terminals(stream.events) == ["SUCCEEDED/RUNNER"]
    assert stream.events[-1].run_id == started.run.run_id


async def test_run_end_with_a_token_and_an_empty_lane_means_the_first_run_behind_it(server: Served) -> None:
    """Where no run was active at the token, the first one that was recorded behind it is meant, finished or not."""
    wire = server.wire
    token = (await wire.resolve("chat")).resume_token
    first = await _served(wire)
    await _served(wire)
    stream = await wire.stream("chat", resume_token=token, **UNTIL_RUN_END).rest()
    assert stream.opened.until_run_id == ""
    assert stream.ended_by == "RUN_END"
    assert stream.events[-1].run_id == first


async def test_run_end_that_lies_behind_the_token_is_over_at_once(server: Served) -> None:
    """A stream for a run whose terminal was read already has nothing to deliver, and says OK."""
    wire = server.wire
    run_id = await _served(wire)
    token = (await wire.get("chat")).resume_token
    for target in ({"key": "chat", "until_run_id": run_id}, {"run_id": run_id}):
        stream = await wire.stream(resume_token=token, **target, **UNTIL_RUN_END).rest()
        assert (stream.ended_by, stream.refusal, stream.events) == ("RUN_END", None, [])


async def test_a_stream_of_one_run_ends_with_it_unless_it_says_otherwise(server: Served) -> None:
    """Nothing follows a terminal, so a stream that names a run as its target waits for it by itself."""
    wire = server.wire
    run_id = await _served(wire)
    stream = await wire.stream(run_id=run_id).rest()
    assert stream.ended_by == "RUN_END"
    assert story(stream.events)[-1] == "terminal SUCCEEDED/RUNNER"


async def test_run_end_of_a_resolve_s_key_waits_for_what_runs_there(server: Served) -> None:
    """A stream that resolves can wait for the end of the active run like any other."""
    wire = server.wire
    started = await wire.start("chat")
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="chat"))
    async with wire.stream(resolve=resolve, **UNTIL_RUN_END) as stream:
        assert stream.opened.until_run_id == started.run.run_id
        await wire.run_through(started.run.run_id)
        await stream.rest()
    assert stream.ended_by == "RUN_END"


async def _end(wire: Wire, key: str = "chat") -> None:
    """Bring a session to its end: its only run is stopped before it was claimed."""
    run_id = (await wire.start(key)).run.run_id
    await wire.interrupt(run_id=run_id, mode=INTERRUPT_MODE_FORCE)


async def test_session_end_waits_for_the_end_of_the_generation_that_is_current(server: Served) -> None:
    """A fresh stream ends with the session's present life; an end that its log tells of an earlier one is no end."""
    wire = server.wire
    await _end(wire)
    run_id = (await wire.start("chat")).run.run_id
    async with wire.stream("chat", start=STREAM_START_OLDEST, **UNTIL_SESSION_END) as stream:
        assert stream.opened.session.generation == 2
        await wire.interrupt(run_id=run_id)
        await stream.rest()
    assert stream.ended_by == "SESSION_END"
    assert story(stream.events).count("session CREATED>ENDED") == 2
    assert tell(stream.events[-1]) == "session CREATED>ENDED"
    assert stream.events[-1].session_changed.generation == 2


async def test_session_end_with_a_token_is_the_first_end_behind_it(server: Served) -> None:
    """A reconnect waits for the end of the life that it was reading, though the session lives again."""
    wire = server.wire
    token = (await wire.resolve("chat")).resume_token
    await _end(wire)
    await wire.start("chat")
    stream = await wire.stream("chat", resume_token=token, **UNTIL_SESSION_END).rest()
    assert stream.ended_by == "SESSION_END"
    assert stream.events[-1].session_changed.generation == 1
    assert stream.frames[-1].through_sequence < (await wire.get("chat")).session.head_sequence


async def test_session_end_with_a_token_of_an_ended_session_is_over_at_once(server: Served) -> None:
    """Where the session had ended at the token and still has, there is nothing to wait for."""
    wire = server.wire
    await _end(wire)
    token = (await wire.get("chat")).resume_token
    stream = await wire.stream("chat", resume_token=token, **UNTIL_SESSION_END).rest()
    assert (stream.ended_by, stream.refusal, stream.events) == ("SESSION_END", None, [])


async def test_session_end_of_an_ended_session_comes_after_its_whole_log(server: Served) -> None:
    """A late reader gets everything that is in the log, also what came after the end, and then OK."""
    wire = server.wire
    await _end(wire)
    await wire.interrupt("chat", reason="too late")
    stream = await wire.stream("chat", start=STREAM_START_OLDEST, **UNTIL_SESSION_END).rest()
    assert (stream.ended_by, stream.refusal) == ("SESSION_END", None)
    assert stream.events == await wire.log("chat")
    assert story(stream.events)[-1] == "interrupt NO_OP"


async def test_caught_up_ends_where_the_log_ended_at_opening(server: Served) -> None:
    """What was there is delivered, then OK; with a token only what lies behind it, with nothing new nothing."""
    wire = server.wire
    token = (await wire.resolve("chat")).resume_token
    await _served(wire)
    log = await wire.log("chat")
    observed = {"until": STREAM_UNTIL_CAUGHT_UP, "presence": session_pb2.PRESENCE_OBSERVER}
    whole = await wire.stream("chat", start=STREAM_START_OLDEST, **observed).rest()
    behind = await wire.stream("chat", resume_token=token, **observed).rest()
    nothing = await wire.stream("chat", **observed).rest()
    assert [stream.ended_by for stream in (whole, behind, nothing)] == ["CAUGHT_UP"] * 3
    assert [stream.events for stream in (whole, behind, nothing)] == [log, log[2:], []]


@pytest.mark.parametrize("until", [STREAM_UNTIL_RUN_END, STREAM_UNTIL_SESSION_END, 0])
async def test_a_stream_that_is_left_by_the_server_never_ends_ok(server: Served, until: int) -> None:
    """What a stream waited for did not come: its end is an error that says so, with a token to go on from."""
    stream = server.wire.stream(
        resolve=pb.ResolveSessionRequest(session=SessionRef(key="chat")),
        until=until,
        start=STREAM_START_OLDEST,
    )
    async with stream:
        await stream.through(2)
        server.running.plane.drain()
        await stream.rest()
    assert stream.ended_by == "DRAINING"
    assert stream.refusal is not None
    assert stream.refusal.code == grpc.StatusCode.UNAVAILABLE
    assert stream.closing is not None
    assert stream.closing.resumable


async def test_until_run_id_must_be_a_run_of_the_session(server: Served) -> None:
    """Waiting for a run of another session would never end, so it is refused."""
    elsewhere = (await server.wire.start("elsewhere")).run.run_id
    await server.wire.resolve("chat")
    stream = server.wire.stream("chat", until_run_id=elsewhere, **UNTIL_RUN_END)
    refusal = await refused(stream.__aenter__())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
