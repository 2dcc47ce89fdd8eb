"""Resuming: from every token each later event comes exactly once and in order, across reconnects and restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import EVENT_KIND_OUTPUT_DELTA
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_OLDEST,
    STREAM_UNTIL_CAUGHT_UP,
    STREAM_UNTIL_RUN_END,
)
from tests.support.serving import Served, serving
from tests.support.story import check_log, sequences
from tests.support.wire import Wire

OBSERVED = {"until": STREAM_UNTIL_CAUGHT_UP, "presence": session_pb2.PRESENCE_OBSERVER}


async def _history(wire: Wire) -> str:
    """A log with two generations, a queued run, an interrupt and some text; returns the id of its last run."""
    stopped = await wire.start("chat")
    await wire.interrupt(run_id=stopped.run.run_id)
    first, second = await wire.start("chat"), await wire.start("chat")
    await wire.run_through(first.run.run_id, "a", "b", "c")
    await wire.run_through(second.run.run_id, "d")
    return second.run.run_id


async def _tokens(wire: Wire) -> dict[int, str]:
    """A token for every place in the log, from pages of one event each."""
    found: dict[int, str] = {}
    request = pb.ListEventsRequest(page_size=1)
    request.session.key = "chat"
    while True:
        page = await wire.sessions.ListEvents(request)
        found[page.events[0].sequence] = page.resume_token
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def test_a_stream_resumes_at_every_place_of_a_log(server: Served) -> None:
    """Wherever a stream broke off, the next one begins with the event behind it: nothing twice, nothing missing."""
    await _history(server.wire)
    log = await server.wire.log("chat")
    tokens = await _tokens(server.wire)
    assert list(tokens) == sequences(log)
    for sequence, token in tokens.items():
        stream = await server.wire.stream("chat", resume_token=token, **OBSERVED).rest()
        assert stream.opened.resume_result == pb.RESUME_RESULT_RESUMED
        assert stream.frames[0].after_sequence == sequence
        assert stream.events == log[sequence:]
        assert await server.wire.log("chat", resume_token=token) == log[sequence:]


async def test_every_token_outlives_a_restart(tmp_path: Path) -> None:
    """Tokens are places in the log, not memories of a process."""
    async with serving(tmp_path / "plane.db") as server:
        await _history(server.wire)
        log = await server.wire.log("chat")
        tokens = await _tokens(server.wire)
    async with serving(tmp_path / "plane.db") as server:
        for sequence, token in tokens.items():
            stream = await server.wire.stream("chat", resume_token=token, **OBSERVED).rest()
            assert stream.events == log[sequence:]


async def test_a_subscriber_that_reconnects_after_every_frame_sees_each_event_once(server: Served) -> None:
    """A live run, read by a subscriber that leaves after each frame, comes out whole at its end."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    token, seen = "", []
    for n in range(20):
        stream = wire.stream("chat", resume_token=token, start=0 if token else STREAM_START_OLDEST)
        async with stream:
            await wire.publish(held, str(n))
            await stream.frame()
        seen += stream.events
        token = stream.token
    await wire.finish(held)
    async with wire.stream("chat", resume_token=token, until=STREAM_UNTIL_RUN_END) as stream:
        await stream.rest()
    seen += stream.events
    log = await wire.log("chat")
    check_log(log)
    assert seen == log


async def test_resuming_in_the_middle_of_a_backlog_repeats_nothing(server: Served) -> None:
    """A backlog of many frames, taken one frame at a time with a new call for each, is the log."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    for _ in range(5):
        await wire.publish(held, *["x" * 10_000] * 50)
    token, seen = "", []
    log = await wire.log("chat")
    while len(seen) < len(log):
        start = 0 if token else STREAM_START_OLDEST
        async with wire.stream("chat", resume_token=token, start=start, **OBSERVED) as stream:
            await stream.frame()
        seen += stream.events
        token = stream.token
    assert seen == log


async def test_a_filter_belongs_to_the_request_and_not_to_the_token(server: Served) -> None:
    """A token got with one filter resumes with another: each call says anew what it wants."""
    wire = server.wire
    await _history(wire)
    log = await wire.log("chat")
    wanted = pb.EventFilter(kinds=[EVENT_KIND_OUTPUT_DELTA])
    async with wire.stream(
        "chat", start=STREAM_START_OLDEST, filter=wanted, presence=session_pb2.PRESENCE_OBSERVER
    ) as some:
        await some.until(lambda event: event.output_delta.text == "a")
    frame = next(each for each in some.frames if each.HasField("batch"))
    rest = await wire.stream("chat", resume_token=frame.resume_token, **OBSERVED).rest()
    assert rest.events == log[frame.through_sequence :]


@pytest.mark.parametrize("start", [STREAM_START_OLDEST, pb.STREAM_START_LATEST, pb.STREAM_START_ACTIVE_RUN])
async def test_a_token_decides_where_a_stream_begins_whatever_start_says(server: Served, start: int) -> None:
    """With a token, `start` has no say."""
    await _history(server.wire)
    log = await server.wire.log("chat")
    token = (await _tokens(server.wire))[7]
    stream = await server.wire.stream("chat", resume_token=token, start=start, **OBSERVED).rest()
    assert stream.events == log[7:]
