"""Where a stream begins, what it lets pass, and what its frames say."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import (
    EVENT_KIND_CUSTOM,
    EVENT_KIND_OUTPUT_DELTA,
    EVENT_KIND_SESSION_CHANGED,
)
from sessionplane.v1.runner_service_pb2 import PublishEventsRequest
from sessionplane.v1.session_pb2 import RESOLUTION_CREATED, RESOLUTION_EXISTING, SessionRef
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_ACTIVE_RUN,
    STREAM_START_LATEST,
    STREAM_START_OLDEST,
    STREAM_START_SNAPSHOT,
    STREAM_START_UNSPECIFIED,
    STREAM_UNTIL_CAUGHT_UP,
)
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.story import story, tell, terminals
from tests.support.wire import Wire, custom, delta, span

UNTIL_CAUGHT_UP = {"until": STREAM_UNTIL_CAUGHT_UP}


async def _busy(wire: Wire) -> tuple[str, str]:
    """A session with a finished run, and one under way; returns their ids."""
    first = (await wire.start("chat", text="one")).run.run_id
    await wire.run_through(first, "first")
    second = (await wire.start("chat", text="two")).run.run_id
    await wire.publish(await wire.hold(second), "second")
    return first, second


@pytest.mark.parametrize("start", [STREAM_START_LATEST, STREAM_START_SNAPSHOT, STREAM_START_UNSPECIFIED])
async def test_latest_snapshot_and_the_default_begin_behind_what_is_there(server: Served, start: int) -> None:
    """Nothing old is delivered, and `opened` shows the session and its run as they are."""
    wire = server.wire
    _, active = await _busy(wire)
    async with wire.stream("chat", start=start) as stream:
        head = (await wire.get("chat")).session.head_sequence
        assert stream.frames[0].through_sequence == stream.frames[0].after_sequence == head
        assert stream.opened.session.active_run_id == active
        assert stream.opened.resume_result == pb.RESUME_RESULT_FRESH
        await wire.interrupt("chat")
        assert story([await stream.until(lambda _: True)]) == ["interrupt ACCEPTED"]


async def test_oldest_begins_with_the_first_event(server: Served) -> None:
    """The whole log comes, from sequence 1, without a gap."""
    await _busy(server.wire)
    stream = await server.wire.stream("chat", start=STREAM_START_OLDEST, **UNTIL_CAUGHT_UP).rest()
    assert stream.frames[0].after_sequence == 0
    assert stream.events == await server.wire.log("chat")


async def test_active_run_begins_with_that_run_s_input(server: Served) -> None:
    """The run in the lane is shown from its first event on, nothing before it."""
    wire = server.wire
    _, active = await _busy(wire)
    stream = await wire.stream("chat", start=STREAM_START_ACTIVE_RUN, **UNTIL_CAUGHT_UP).rest()
    assert story(stream.events)[0] == "input two"
    assert story(stream.events, run_id=active)[-1] == "text second"


async def test_active_run_without_one_begins_behind_what_is_there(server: Served) -> None:
    """Where no run is active, ACTIVE_RUN is LATEST."""
    await server.wire.run_through((await server.wire.start("chat")).run.run_id, "done")
    stream = await server.wire.stream("chat", start=STREAM_START_ACTIVE_RUN, **UNTIL_CAUGHT_UP).rest()
    assert stream.events == []


async def test_the_default_for_a_run_is_its_first_event(server: Served) -> None:
    """A stream that means a run begins with its input, whether the run is its target, its filter or its goal."""
    wire = server.wire
    first, _ = await _busy(wire)
    of_run = [event for event in await wire.log("chat") if event.run_id == first]
    target = await wire.stream(run_id=first).rest()
    assert target.events == of_run
    by_filter = await wire.stream("chat", filter=pb.EventFilter(run_id=first), **UNTIL_CAUGHT_UP).rest()
    assert by_filter.events == of_run
    by_goal = await wire.stream("chat", until=pb.STREAM_UNTIL_RUN_END, until_run_id=first).rest()
    assert by_goal.events[0] == of_run[0]
    assert by_goal.events[-1] == of_run[-1]


async def test_a_filter_of_kinds_lets_terminals_pass(server: Served) -> None:
    """Only what was asked for comes, and every terminal: who waits for an end must not filter it away."""
    wire = server.wire
    await _busy(wire)
    for kinds in ([EVENT_KIND_CUSTOM], [EVENT_KIND_OUTPUT_DELTA], [EVENT_KIND_SESSION_CHANGED]):
        wanted = pb.EventFilter(kinds=kinds)
        stream = await wire.stream("chat", start=STREAM_START_OLDEST, filter=wanted, **UNTIL_CAUGHT_UP).rest()
        log = await wire.log("chat")
        assert stream.events == [
            event for event in log if event.kind in kinds or event.HasField("run_terminal")
        ]
        assert terminals(stream.events) == ["SUCCEEDED/RUNNER"]
        assert stream.frames[-1].through_sequence == len(log)
        assert await wire.log("chat", filter=wanted) == stream.events


async def test_a_filter_of_types_chooses_among_custom_events(server: Served) -> None:
    """Custom events of the named types come, live and from the log, and all that is not custom."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    wanted = pb.EventFilter(custom_types=["tool.call"])
    async with wire.stream("chat", start=STREAM_START_OLDEST, filter=wanted) as live:
        await wire.runs.PublishEvents(
            PublishEventsRequest(
                run_id=held.run_id,
                lease_token=held.lease_token,
                events=[custom("tool.call"), custom("tool.call.result"), delta("text"), custom("picture")],
            )
        )
        await wire.finish(held)
        log = await wire.log("chat")
        await live.through(len(log))
    passing = [event for event in log if event.custom.type in {"", "tool.call"}]
    assert len(log) - len(passing) == 2
    assert live.events == passing
    assert await wire.log("chat", filter=wanted) == passing


async def test_a_filter_of_a_run_keeps_other_runs_terminals_out(server: Served) -> None:
    """The filter by run is the one that a terminal does not pass by right."""
    wire = server.wire
    first, second = await _busy(wire)
    wanted = pb.EventFilter(kinds=[EVENT_KIND_OUTPUT_DELTA], run_id=second)
    stream = await wire.stream("chat", start=STREAM_START_OLDEST, filter=wanted, **UNTIL_CAUGHT_UP).rest()
    assert story(stream.events) == ["text second"]
    assert first not in {event.run_id for event in stream.events}


async def test_a_filtered_stretch_is_accounted_for_on_a_live_stream(server: Served) -> None:
    """Events that a filter keeps back still move the token, so that a reconnect does not go back to them."""
    async with serving(server.database.with_name("second.db"), limits={"progress_after_ms": 100}) as second:
        wire = second.wire
        await wire.resolve("chat")
        async with wire.stream("chat", filter=pb.EventFilter(kinds=[EVENT_KIND_CUSTOM])) as stream:
            await wire.start("chat")
            head = (await wire.get("chat")).session.head_sequence
            await stream.through(head)
            assert stream.events == []
            assert stream.frames[-1].progress.caught_up
        resumed = await wire.stream("chat", resume_token=stream.token, **UNTIL_CAUGHT_UP).rest()
        assert resumed.events == []


async def test_a_silent_stream_shows_signs_of_life(server: Served) -> None:
    """After a while without a frame a progress frame says that all is delivered, where the log is, and the state."""
    async with serving(server.database.with_name("second.db"), limits={"progress_after_ms": 50}) as second:
        wire = second.wire
        await wire.resolve("chat")
        async with wire.stream("chat") as stream:
            for _ in range(3):
                frame = await stream.frame()
                assert frame is not None
                assert frame.progress.caught_up
                assert frame.progress.lag == 0
                assert frame.progress.state == stream.opened.session.state
                assert frame.after_sequence == frame.through_sequence == 2


async def test_late_readers_of_a_finished_run_are_served(server: Served) -> None:
    """Long after the end a stream still gives opened, events, closing and OK, as often as it is asked."""
    wire = server.wire
    first, _ = await _busy(wire)
    streams = await asyncio.gather(*[wire.stream(run_id=first).rest() for _ in range(5)])
    for stream in streams:
        assert stream.opened.run.run_id == first
        assert stream.opened.run.terminal.output_text == ""  # rows in frames stay small; the event has it all
        assert stream.events[-1].run_terminal.output_text == "first"
        assert (stream.ended_by, stream.refusal) == ("RUN_END", None)


async def test_resolve_attach_and_follow_are_one_step(server: Served) -> None:
    """A stream whose target is a resolve creates the session once, says so, and finds it the next time."""
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="chat"), labels={"a": "b"})
    wanted = {"resolve": resolve, "start": STREAM_START_OLDEST, "until": STREAM_UNTIL_CAUGHT_UP}
    created = await server.wire.stream(**wanted).rest()
    found = await server.wire.stream(**wanted).rest()
    assert created.opened.resolution == RESOLUTION_CREATED
    assert found.opened.resolution == RESOLUTION_EXISTING
    assert created.opened.session.labels["a"] == "b"
    assert created.events == found.events
    assert story(created.events) == ["session none>CREATED", "key CREATED"]


async def test_a_run_that_does_not_exist_yet_can_be_waited_for(server: Served) -> None:
    """With a pending_timeout a subscriber may come before the run; it then misses nothing of it."""
    wire = server.wire
    stream = wire.stream(run_id="my-run", pending_timeout=span(20))
    opening = asyncio.create_task(stream.__aenter__())
    started = await wire.start("chat", run_id="my-run")
    await wire.run_through("my-run", "text")
    await opening
    assert stream.opened.session.session_id == started.session.session_id
    await stream.rest()
    assert tell(stream.events[0]) == "input hello"
    assert terminals(stream.events) == ["SUCCEEDED/RUNNER"]


@pytest.mark.parametrize("patience", [None, span(0.1)])
async def test_a_run_that_never_comes_is_not_found_when_the_time_is_over(
    server: Served, patience: object
) -> None:
    """Without patience it is refused at once, with patience later, and never left open."""
    refusal = await refused(server.wire.stream(run_id="never", pending_timeout=patience).__aenter__())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_frames_hold_as_many_events_as_wait_and_no_more_than_fit(server: Served) -> None:
    """A backlog comes in frames of at most 256 events and 256 KiB, and a single larger event goes alone."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    for _ in range(3):
        await wire.publish(held, *["x"] * 200)
    await wire.publish(held, "y" * 200_000, "z" * 200_000, "small")
    stream = await wire.stream("chat", start=STREAM_START_OLDEST, **UNTIL_CAUGHT_UP).rest()
    sizes = [len(frame.batch.events) for frame in stream.frames if frame.HasField("batch")]
    assert max(sizes) == 256
    assert len(sizes) <= 6
    assert all(frame.ByteSize() < 300_000 for frame in stream.frames)
    assert stream.events == await wire.log("chat")
