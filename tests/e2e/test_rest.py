"""Sessions that are put to rest: suspended, closed, expired, with the clocks of a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1.session_service_pb2 import STREAM_UNTIL_SESSION_END
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, ending, story, tell
from tests.support.wire import Held, Wire, span


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that keeps nothing for long."""
    limits = {"detach_linger_ms": 100, "detached_ttl_ms": 800}
    async with serving(tmp_path / "plane.db", limits=limits) as served:
        yield served


async def _served(wire: Wire) -> Held:
    """A session whose runner was heard, and whose run goes on."""
    held = await wire.hold((await wire.start("chat")).run.run_id, lease_s=60)
    await wire.publish(held, "so far")
    return held


@pytest.mark.parametrize("watched", [True, False])
async def test_a_suspension_ends_by_itself(server: Served, *, watched: bool) -> None:
    """Its subscriber, if there still is one, finds the session ACTIVE; else it is DETACHED. The run goes on."""
    wire = server.wire
    held = await _served(wire)
    async with wire.stream("chat", presence=0 if watched else session_pb2.PRESENCE_OBSERVER) as stream:
        suspended = await wire.suspend("chat", grace_period=span(0.2))
        assert suspended.session.state == session_pb2.SESSION_STATE_SUSPENDED
        assert (suspended.session.running, suspended.session.attached_count) == (True, watched)
        to = "ACTIVE" if watched else "DETACHED"
        await stream.until(lambda event: tell(event) == f"session SUSPENDED>{to}")
    await wire.publish(held, "more")


async def test_the_answers_leave_no_blind_spot(server: Served) -> None:
    """What follows the token of an answer is exactly what came behind it."""
    wire = server.wire
    held = await _served(wire)
    suspended = await wire.suspend("chat", grace_period=span(60))
    closing = await wire.close("chat")
    await wire.finish(held)
    told = []
    for token in (suspended.resume_token, closing.resume_token):
        stream = await wire.stream("chat", resume_token=token, until=STREAM_UNTIL_SESSION_END).rest()
        told.append(story(stream.events))
    assert told[0][0] == "session SUSPENDED>CLOSING"
    assert told[1] == told[0][-len(told[1]) :]
    assert told[1][-1] == "session CLOSING>ENDED"
    assert told[1][0] == "interrupt COMPLETED"


async def test_a_repeat_under_another_spelling_is_the_same_call(server: Served) -> None:
    """A request id stands for one effect, shown as the session is now; with other content it is refused."""
    wire = server.wire
    await _served(wire)
    await wire.suspend("chat", grace_period=span(60), request_id="s1")
    await wire.close("chat", request_id="c1")
    before = rows(server.database)
    again = await wire.suspend(" CHAT ", grace_period=span(60), request_id="s1")
    assert again.session.state == session_pb2.SESSION_STATE_CLOSING
    assert (await wire.close("Agent:Main:Chat", request_id="c1")).active_run.run_id
    for call in (
        wire.suspend("chat", grace_period=span(61), request_id="s1"),
        wire.close("chat", reason="another", request_id="c1"),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert rows(server.database) == before


async def test_a_close_deadline_cuts_the_run_and_ends_the_session(server: Served) -> None:
    """Whoever waits for the run, and whoever waits for the session, sees the end."""
    wire = server.wire
    held = await _served(wire)
    stream = wire.stream("chat", until=STREAM_UNTIL_SESSION_END)
    await stream.frame()
    await wire.close("chat", close_timeout=span(0.2))
    terminal = (await wire.wait(held.run_id)).terminal
    assert (ending(terminal), terminal.output_text) == ("INTERRUPTED/SESSION_ENDED", "so far")
    await stream.rest()
    assert (stream.ended_by, story(stream.events)[-1]) == ("SESSION_END", "session CLOSING>ENDED")
    session = (await wire.get("chat")).session
    assert session.end_reason == session_pb2.SESSION_CAUSE_CLOSE_EXPIRED


async def test_a_session_that_nobody_uses_ends_and_goes(tmp_path: Path) -> None:
    """DETACHED, then ENDED by EXPIRED, then gone, each with its event; the key is free for the next one."""
    limits = {"detach_linger_ms": 100, "detached_ttl_ms": 200, "ended_ttl_ms": 200}
    async with serving(tmp_path / "plane.db", limits=limits) as server:
        wire = server.wire
        held = await _served(wire)
        async with wire.stream("chat", presence=session_pb2.PRESENCE_OBSERVER) as stream:
            await wire.finish(held)
            await stream.rest()
        told = story(stream.events)
        assert told[-2:] == ["session DETACHED>ENDED", "key DELETED"]
        gone = await refused(wire.get(session_id=stream.opened.session.session_id))
        assert gone.reason == "SESSION_NOT_FOUND"
        assert (await wire.resolve("chat")).resolution == session_pb2.RESOLUTION_CREATED


async def test_whoever_follows_keeps_a_new_session(server: Served) -> None:
    """A stream that waits for a first message does not lose its session under its hands."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.stream("chat"):
        await wire.resolve("other")
        await wire.stream(
            "other", presence=session_pb2.PRESENCE_OBSERVER, until=STREAM_UNTIL_SESSION_END
        ).rest()
        assert (await wire.get("chat")).session.state == session_pb2.SESSION_STATE_CREATED
        await wire.run_through((await wire.start("chat")).run.run_id, "answer")
    check_log(await wire.log("chat"))


async def test_a_restart_ends_no_suspension_before_its_client_could_come_back(tmp_path: Path) -> None:
    """An overdue suspension waits for the linger after ready: who attaches meanwhile finds it suspended."""
    async with serving(tmp_path / "plane.db", limits={"sweep_ms": 60_000}) as server:
        await _served(server.wire)
        await server.wire.suspend("chat", grace_period=span(0))
    async with serving(tmp_path / "plane.db", limits={"detach_linger_ms": 60_000}) as server:
        wire = server.wire
        await wire.wait((await wire.start("clock", start_timeout=span(0.2))).run.run_id)
        assert (await wire.get("chat")).session.state == session_pb2.SESSION_STATE_SUSPENDED
        async with wire.stream("chat") as stream:
            assert stream.opened.session.state == session_pb2.SESSION_STATE_ACTIVE
