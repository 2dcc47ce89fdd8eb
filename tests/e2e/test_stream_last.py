"""The end of a session as streams see it: reset, roll-over and deletion are told to the last event, and by name."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import EVENT_KIND_OUTPUT_DELTA
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_LATEST,
    STREAM_START_OLDEST,
    STREAM_UNTIL_CAUGHT_UP,
    STREAM_UNTIL_RUN_END,
    STREAM_UNTIL_SESSION_END,
)
from tests.support.frames import Following
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.story import check_log, story
from tests.support.wire import Held, Wire

UNTILS = [0, STREAM_UNTIL_RUN_END, STREAM_UNTIL_SESSION_END]
OBSERVED = {"presence": session_pb2.PRESENCE_OBSERVER}


async def _busy(wire: Wire) -> tuple[str, Held]:
    """A session with a run that says something, and one that waits; returns its id and the run."""
    started = await wire.start("chat")
    held = await wire.hold(started.run.run_id)
    await wire.publish(held, "some ", "text")
    await wire.start("chat")
    return started.session.session_id, held


def _is_final(stream: Following, successor: str) -> None:
    assert stream.ended_by == "SESSION_FINAL"
    assert stream.closing is not None
    assert (stream.closing.resumable, stream.closing.successor_session_id) == (False, successor)
    assert stream.refusal is not None
    assert (stream.refusal.code, stream.refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "SESSION_ENDED",
    )
    assert stream.refusal.metadata is not None
    assert stream.refusal.metadata["successor"] == successor


def _is_deleted(stream: Following, session_id: str) -> None:
    assert stream.ended_by == "SESSION_DELETED"
    assert stream.closing is not None
    assert (stream.closing.resumable, stream.closing.successor_session_id) == (False, "")
    assert stream.refusal is not None
    assert (stream.refusal.code, stream.refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert stream.refusal.metadata is not None
    assert stream.refusal.metadata["session_id"] == session_id
    assert stream.refusal.metadata["deleted_at"].startswith("20")


async def test_a_reset_is_told_to_its_last_event_and_names_who_has_the_key_now(server: Served) -> None:
    """Terminals, the end, the loss of the key; then the successor, though nobody knew it as the stream opened."""
    wire = server.wire
    old, _ = await _busy(wire)
    async with wire.stream("chat", start=STREAM_START_OLDEST) as stream:
        assert stream.opened.session.superseded_by == ""
        new = (await wire.reset("chat")).session.session_id
        await stream.rest()
    _is_final(stream, new)
    log = await wire.log(session_id=old)
    check_log(log)
    assert stream.events == log
    assert story(log)[-3:] == ["terminal INTERRUPTED/SESSION_ENDED", "session ACTIVE>ENDED", "key RESET"]
    late = await wire.stream(session_id=old, start=STREAM_START_OLDEST).rest()
    _is_final(late, new)
    assert late.events == log
    resumed = await wire.stream("chat", resume_token=stream.frames[0].resume_token).rest()
    _is_final(resumed, new)
    assert resumed.events == log


async def test_a_deletion_is_told_to_its_last_event(server: Served) -> None:
    """Open streams get the whole log, which ends with the deletion, then hear that the session is gone since when."""
    wire = server.wire
    session_id, _ = await _busy(wire)
    live = [wire.stream("chat", start=STREAM_START_OLDEST, **more) for more in ({}, OBSERVED)]
    for stream in live:
        await stream.__aenter__()
    await wire.delete("chat")
    for stream in live:
        await stream.rest()
        _is_deleted(stream, session_id)
        check_log(stream.events)
        assert not stream.events[-1].session_moved.holds
        assert stream.events[-1].session_moved.key == "agent:main:chat"
        assert stream.frames[-1].through_sequence == stream.events[-1].sequence


async def test_a_deleted_session_is_not_found_by_its_tokens(server: Served) -> None:
    """Whoever comes back for it hears what those heard who stayed; its key may have another session by then."""
    wire = server.wire
    session_id, _ = await _busy(wire)
    token = (await wire.get("chat")).resume_token
    await wire.delete("chat")
    await wire.resolve("chat")
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="chat"))
    for stream in (
        wire.stream("chat", resume_token=token),
        wire.stream(resolve=resolve, resume_token=token),
        wire.stream(session_id=session_id, resume_token=token),
        wire.stream(session_id=session_id),
        wire.stream(session_id=session_id, **OBSERVED),
    ):
        refusal = await refused(stream.__aenter__())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
        assert refusal.metadata is not None
        assert refusal.metadata["deleted_at"].startswith("20")


@pytest.mark.parametrize("way", ["reset", "delete"])
async def test_what_was_waited_for_ends_with_ok_in_a_reset_and_a_deletion(server: Served, way: str) -> None:
    """The end of the run, or of the session, is in the log before the session is lost: who waited for it gets OK."""
    wire = server.wire
    _, held = await _busy(wire)
    run = wire.stream("chat", until=STREAM_UNTIL_RUN_END, until_run_id=held.run_id)
    lane = wire.stream("chat", until=STREAM_UNTIL_RUN_END)
    session = wire.stream("chat", until=STREAM_UNTIL_SESSION_END)
    for stream in (run, lane, session):
        await stream.__aenter__()
    await getattr(wire, way)("chat")
    for stream in (run, lane, session):
        await stream.rest()
        assert stream.refusal is None
    assert [stream.ended_by for stream in (run, lane, session)] == ["RUN_END", "RUN_END", "SESSION_END"]
    assert run.events[-1].run_terminal.output_text == "some text"


@pytest.mark.parametrize(
    ("until", "ended_by"),
    [(0, "SESSION_FINAL"), (STREAM_UNTIL_CAUGHT_UP, "CAUGHT_UP"), (STREAM_UNTIL_SESSION_END, "SESSION_END")],
)
async def test_what_came_after_the_end_is_told_to_late_readers(
    server: Served, until: int, ended_by: str
) -> None:
    """A NO_OP or a late result in the log of a final session hides neither itself nor what a reader waited for."""
    wire = server.wire
    old, _ = await _busy(wire)
    await wire.reset("chat")
    await wire.sessions.Interrupt(pb.InterruptRequest(session=SessionRef(session_id=old)))
    late = await wire.stream(session_id=old, start=STREAM_START_OLDEST, until=until).rest()
    assert late.ended_by == ended_by
    assert (late.refusal is None) == bool(until)
    assert late.events == await wire.log(session_id=old)


async def test_a_run_that_never_came_ends_with_the_session(server: Served) -> None:
    """Who waits for the next run of a session that takes no more is told so."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.stream("chat", until=STREAM_UNTIL_RUN_END) as stream:
        new = (await wire.reset("chat")).session.session_id
        await stream.rest()
    _is_final(stream, new)
    async with wire.stream("chat", until=STREAM_UNTIL_RUN_END) as stream:
        await wire.delete("chat")
        await stream.rest()
    _is_deleted(stream, new)


async def test_a_session_without_a_key_is_deleted_like_any(server: Served) -> None:
    """The last event has no key then."""
    wire = server.wire
    session_id = (await wire.start()).session.session_id
    async with wire.stream(session_id=session_id, start=STREAM_START_OLDEST) as stream:
        await wire.delete(session_id=session_id)
        await stream.rest()
    _is_deleted(stream, session_id)
    assert stream.events[-1].HasField("session_moved")
    assert stream.events[-1].session_moved.key == ""


@pytest.mark.parametrize("start", [0, STREAM_START_OLDEST, STREAM_START_LATEST])
async def test_a_run_outlives_its_session_for_a_while(tmp_path: Path, start: int) -> None:
    """A stream of a run in a deleted session shows how it ended and nothing else, also after a restart."""
    async with serving(tmp_path / "plane.db") as server:
        _, held = await _busy(server.wire)
        token = (await server.wire.get("chat")).resume_token
        await server.wire.delete("chat")
    async with serving(tmp_path / "plane.db") as server:
        for presence in (session_pb2.PRESENCE_ATTACHED, session_pb2.PRESENCE_OBSERVER):
            stream = await server.wire.stream(run_id=held.run_id, start=start, presence=presence).rest()
            assert (stream.ended_by, stream.refusal) == ("RUN_END", None)
            assert story(stream.events) == ["terminal INTERRUPTED/SESSION_ENDED"]
            assert stream.opened.run.run_id == stream.opened.until_run_id == held.run_id
            assert server.running.plane.attached_count(stream.opened.session.session_id) == 0
        resumed = await server.wire.stream(run_id=held.run_id, resume_token=token).rest()
        assert (resumed.ended_by, resumed.refusal) == ("RUN_END", None)
        assert story(resumed.events)[-1] == "terminal INTERRUPTED/SESSION_ENDED"
        assert resumed.opened.resume_result == pb.RESUME_RESULT_RESUMED
        over = await server.wire.stream(run_id=held.run_id, resume_token=resumed.token).rest()
        assert (over.ended_by, over.events) == ("RUN_END", [])
        other = await server.wire.stream(run_id=held.run_id, until=STREAM_UNTIL_CAUGHT_UP).rest()
        assert (other.ended_by, len(other.events)) == ("CAUGHT_UP", 1)


async def test_a_stream_of_a_run_ends_with_it_when_its_session_is_deleted(server: Served) -> None:
    """The run's end is what it waited for, and a filter changes nothing about that."""
    wire = server.wire
    _, held = await _busy(wire)
    wanted = pb.EventFilter(kinds=[EVENT_KIND_OUTPUT_DELTA])
    async with (
        wire.stream(run_id=held.run_id) as whole,
        wire.stream(run_id=held.run_id, filter=wanted) as some,
    ):
        await wire.delete("chat")
        for stream in (await whole.rest(), await some.rest()):
            assert (stream.ended_by, stream.refusal) == ("RUN_END", None)
            assert stream.events[-1].run_terminal.output_text == "some text"


async def test_a_stream_that_waits_for_the_active_run_begins_with_it(server: Served) -> None:
    """Where a run is meant it is shown from its first event, named or not; LATEST is there for who wants less."""
    wire = server.wire
    before = (await wire.start("chat")).run.run_id
    await wire.run_through(before, "before")
    _, held = await _busy(wire)
    async with wire.stream("chat", until=STREAM_UNTIL_RUN_END) as stream:
        assert stream.opened.until_run_id == held.run_id
        await wire.finish(held)
        await stream.rest()
    assert stream.ended_by == "RUN_END"
    assert stream.events[0].input_recorded.input_id == held.run_id
    assert before not in {event.run_id for event in stream.events}
    _, held = await _again(wire)
    latest = wire.stream("chat", until=STREAM_UNTIL_RUN_END, start=STREAM_START_LATEST)
    async with latest:
        await wire.finish(held)
        await latest.rest()
    assert [event.HasField("input_recorded") for event in latest.events].count(True) == 0


async def _again(wire: Wire) -> tuple[str, Held]:
    """Take the run that waited."""
    session = (await wire.get("chat")).session
    held = await wire.hold(session.active_run_id)
    await wire.publish(held, "text")
    return session.session_id, held
