"""Retention as clients meet it: what late readers of removed runs get, and what a token that came too late is told."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sessionplane.domain.events import EventKind, Place
from sessionplane.domain.tokens import parse_resume_token
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.admin_service_pb2 import CompactEventsRequest, CompactEventsResponse
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import RUN_OUTCOME_SUCCEEDED, Payload
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from sessionplane_client import SessionPlaneError
from tests.support.commands import command
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.wire import DEADLINE_S, Wire, named, report

ALL = Duration()
UNTIL_RUN_END = {"until": STREAM_UNTIL_RUN_END}


async def finished(wire: Wire, key: str = "chat") -> str:
    """Let a run of a key come and go, with a result of which the order of keys is nobody's; returns its id."""
    held = await wire.hold((await wire.start(key)).run.run_id)
    await wire.publish(held, "some ", "text")
    result = Payload()
    result.structured.update({f"name {number}": number for number in range(40)})
    await wire.runs.FinishRun(report(held, RUN_OUTCOME_SUCCEEDED, result=result), timeout=DEADLINE_S)
    return held.run_id


async def compact(wire: Wire, key: str = "chat", older_than: Duration | None = ALL) -> CompactEventsResponse:
    """Remove the beginning of a key's log."""
    request = CompactEventsRequest(session=named(key), older_than=older_than)
    return await wire.admin.CompactEvents(request, timeout=DEADLINE_S)


async def terminal_of(wire: Wire, run_id: str, key: str = "chat") -> Event:
    """The terminal as it stands in the log."""
    (event,) = [
        each for each in await wire.log(key) if each.run_id == run_id and each.HasField("run_terminal")
    ]
    return event


async def test_a_log_loses_its_beginning_and_says_how_much(server: Served) -> None:
    """The answer has the floors and what went; the session shows its floor, and pages begin there."""
    wire = server.wire
    await finished(wire)
    whole = await wire.log("chat")
    second = (await wire.start("chat")).run.run_id
    done = await compact(wire)
    assert (done.previous_floor_sequence, done.floor_sequence) == (0, len(whole))
    assert done.removed_event_count == len(whole)
    assert done.removed_bytes > 100 * len(whole)
    assert (await wire.get("chat")).session.floor_sequence == done.floor_sequence
    rest = await wire.log("chat")
    assert [event.sequence for event in rest] == [len(whole) + 1, len(whole) + 2]
    again = await compact(wire)
    assert (again.previous_floor_sequence, again.floor_sequence, again.removed_event_count) == (
        len(whole),
        len(whole),
        0,
    )
    await wire.run_through(second, "goes on")


async def test_young_runs_stay_unless_all_may_go(server: Served) -> None:
    """Without an age it is the window of the server, 7 days."""
    await finished(server.wire)
    assert (await compact(server.wire, older_than=None)).floor_sequence == 0
    assert (await compact(server.wire, older_than=Duration(seconds=3_600))).floor_sequence == 0
    assert (await compact(server.wire)).floor_sequence


async def test_what_does_not_exist_is_not_compacted(server: Served) -> None:
    """The session is named like everywhere else, and an age is not negative."""
    refusal = await refused(compact(server.wire, "nobody"))
    assert refusal.reason == "KEY_NOT_BOUND"
    refusal = await refused(compact(server.wire, older_than=Duration(seconds=-1)))
    assert (refusal.reason, "older_than" in refusal.message) == ("FIELD_INVALID", True)


@pytest.mark.parametrize("how", ["target", "until_run_id", "filter"])
async def test_a_late_reader_of_a_compacted_run_is_served(server: Served, how: str) -> None:
    """opened, its terminal in a frame that accounts for nothing, closing, OK: byte for byte what was in the log."""
    wire = server.wire
    run_id = await finished(wire)
    terminal = await terminal_of(wire, run_id)
    floor = (await compact(wire)).floor_sequence
    asked = {
        "target": wire.stream(run_id=run_id),
        "until_run_id": wire.stream("chat", until_run_id=run_id, **UNTIL_RUN_END),
        "filter": wire.stream("chat", filter=pb.EventFilter(run_id=run_id), **UNTIL_RUN_END),
    }
    async with asked[how] as stream:
        await stream.rest()
    assert (stream.refusal, stream.ended_by) == (None, "RUN_END")
    assert [frame.WhichOneof("frame") for frame in stream.frames] == ["opened", "batch", "closing"]
    assert {(frame.after_sequence, frame.through_sequence) for frame in stream.frames} == {(floor, floor)}
    (event,) = stream.events
    assert event == terminal
    assert event.SerializeToString(deterministic=True) == terminal.SerializeToString(deterministic=True)
    assert len(event.run_terminal.result.structured) == 40
    assert stream.opened.run.run_id == run_id


async def test_the_bytes_of_a_terminal_outlive_its_event(tmp_path: Path) -> None:
    """What is made from the run's row is what the log had, to the last byte, also after a restart."""
    async with serving(tmp_path / "plane.db") as server:
        run_id = await finished(server.wire)
        session_id = (await server.wire.get("chat")).session.session_id
        log = server.running.store.read(
            lambda tx: tx.entries(session_id, after=Place(0, b""), limit=100, bytes_max=1 << 20)
        )
        (entry,) = [each for each in log if each.kind is EventKind.RUN_TERMINAL]
        await compact(server.wire)
    async with (
        serving(tmp_path / "plane.db") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        follow = channel.unary_stream("/sessionplane.v1.SessionService/StreamEvents")
        request = pb.StreamEventsRequest(run_id=run_id).SerializeToString()
        opened, batch, closing = [frame async for frame in follow(request)]
    assert batch.endswith(entry.data)
    assert not opened.endswith(entry.data)
    assert not closing.endswith(entry.data)


async def test_the_python_client_is_served_as_well(server: Served) -> None:
    """A client that follows a compacted run gets its terminal once, and its iteration ends."""
    run_id = await finished(server.wire)
    terminal = await terminal_of(server.wire, run_id)
    await compact(server.wire)
    async with server.client.stream(run_id=run_id) as events:
        assert [event async for event in events] == [terminal]
    run = await server.client.wait_run(run_id)
    assert run.terminal == terminal.run_terminal


async def test_a_token_that_came_too_late_is_told_where_to_go_on(server: Served) -> None:
    """TOKEN_COMPACTED carries the floor's token, on streams and pages; that one goes on without a gap."""
    wire = server.wire
    await wire.resolve("chat")
    old = (await wire.get("chat")).resume_token
    run_id = await finished(wire)
    terminal = await terminal_of(wire, run_id)
    await wire.start("chat")
    floor = (await compact(wire)).floor_sequence
    by_stream = await refused(wire.stream("chat", resume_token=old).__aenter__())
    by_page = await refused(wire.log("chat", resume_token=old))
    for refusal in (by_stream, by_page):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "TOKEN_COMPACTED")
        assert parse_resume_token(refusal.metadata["floor_token"]).sequence == floor
    token = by_stream.metadata["floor_token"]
    assert [event.sequence for event in await wire.log("chat", resume_token=token)] == [floor + 1, floor + 2]
    # Whoever waited for the run that is gone still hears how it ended.
    asked = {"resume_token": token, "until_run_id": run_id, **UNTIL_RUN_END}
    async with wire.stream("chat", **asked) as stream:
        await stream.rest()
    assert (stream.events, stream.ended_by) == ([terminal], "RUN_END")


async def test_a_stream_that_is_overtaken_ends_with_the_floor_s_token(tmp_path: Path) -> None:
    """A reader that is still at the beginning when that is removed hears TOKEN_COMPACTED, and not of damage."""
    bounds = {"batch_events_max": 4}
    async with serving(tmp_path / "plane.db", limits=bounds) as server:
        wire = server.wire
        held = await wire.hold((await wire.start("chat")).run.run_id)
        for _ in range(40):
            # Frames so large that the transport takes only a few before they are read.
            await wire.publish(held, *["x" * 200_000] * 4)
        async with wire.stream("chat", start=STREAM_START_OLDEST) as stream:
            await stream.frame()
            await wire.finish(held)
            floor = (await compact(wire)).floor_sequence
            await stream.rest()
        assert stream.refusal is not None
        assert (stream.refusal.code, stream.refusal.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "TOKEN_COMPACTED",
        )
        # It may end between two steps of the compaction, with the floor as it was then.
        assert (
            len(stream.events) < parse_resume_token(stream.refusal.metadata["floor_token"]).sequence <= floor
        )
        assert [event.sequence for event in stream.events] == list(range(1, len(stream.events) + 1))


async def test_retention_runs_by_itself(tmp_path: Path) -> None:
    """A server with a short window removes an old run without being asked, beside everything else."""
    async with serving(tmp_path / "plane.db", limits={"log_window_ms": 50}) as server:
        run_id = await finished(server.wire)
        async with asyncio.timeout(DEADLINE_S):
            while not (await server.wire.get("chat")).session.floor_sequence:
                continue
        assert (await server.wire.get_run(run_id)).terminal.output_text == "some text"


async def test_an_operator_compacts_a_session(server: Served) -> None:
    """The command says what went, or that nothing could, in words or as JSON."""
    await finished(server.wire)
    target = ("--target", server.address)
    none = await command("compact", "chat", "--older-than", "1d", *target)
    assert (none.code, none.out) == (0, "Nothing could go; the log begins behind 0.\n")
    done = await command("compact", "chat", "--older-than", "0s", *target)
    assert re.fullmatch(r"(\d+) events of \d+ bytes removed; the log begins behind \1 now\.\n", done.out)
    again = await command("compact", "chat", "--json", *target)
    floor = (await server.wire.get("chat")).session.floor_sequence
    assert json.loads(again.out) == {"previous_floor_sequence": str(floor), "floor_sequence": str(floor)}
    wrong = await command("compact", "chat", "--older-than", "yesterday", *target)
    assert (wrong.code, "such as 1d, 12h, 30m or 45s" in wrong.err) == (2, True)
    nobody = await command("compact", "nobody", *target)
    assert (nobody.code, "KEY_NOT_BOUND" in nobody.err) == (1, True)


async def test_the_python_client_compacts(server: Served) -> None:
    """By key or id, with an age in seconds."""
    await finished(server.wire)
    done = await server.client.compact_events(key="chat", older_than_s=0)
    assert done.removed_event_count
    with pytest.raises(SessionPlaneError):
        await server.client.compact_events(session_id="ses_" + "f" * 32)
