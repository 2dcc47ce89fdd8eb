"""Overload: what is too much is refused aloud with the bound and the time to come back, and the rest is served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1.admin_service_pb2 import ImportEntry, ImportSessionsRequest
from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_OLDEST,
    STREAM_UNTIL_RUN_END,
    ResolveSessionRequest,
    StreamEventsRequest,
)
from tests.support.driving import driving
from tests.support.refusals import Refusal, refused
from tests.support.serving import serving
from tests.support.stores import HeldWriter
from tests.support.story import check_log, terminals
from tests.support.wire import DEADLINE_S

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def _kind(refusal: Refusal) -> tuple[grpc.StatusCode, str]:
    assert refusal.domain == "sessionplane"
    return refusal.code, refusal.reason


async def test_a_full_log_refuses_publications_and_takes_the_terminal(tmp_path: Path) -> None:
    """A run that writes too much hears LOG_FULL, all or nothing, and can still end with what it has written."""
    async with serving(tmp_path / "plane.db", limits={"log_events_max": 20}) as server:
        wire = server.wire
        held = await wire.hold((await wire.start("chat")).run.run_id)
        await wire.publish(held, *"abcde")
        before = await wire.log("chat")
        refusal = await refused(wire.publish(held, *["x"] * 20))
        assert _kind(refusal) == (EXHAUSTED, "LOG_FULL")
        assert await wire.log("chat") == before
        assert (await wire.finish(held)).terminal.output_text == "abcde"
        check_log(await wire.log("chat"))
        await wire.run_through((await wire.start("chat")).run.run_id, "a new run has room of its own")
        assert terminals(await wire.log("chat")) == ["SUCCEEDED/RUNNER"] * 2


@pytest.mark.parametrize("way", ["PublishEvents", "DriveRun"])
async def test_a_publication_that_does_not_fit_is_refused_as_a_whole(tmp_path: Path, way: str) -> None:
    """One event too many: those before it would have fitted, and none of them is kept."""
    async with serving(tmp_path / "plane.db", limits={"log_events_max": 20}) as server:
        wire = server.wire
        held = await wire.hold((await wire.start("chat")).run.run_id)
        await wire.publish(held, "first")
        before = await wire.log("chat")
        # What stands before the run makes room for it.
        older = [event.run_id for event in before].index(held.run_id)
        texts = ["x"] * (20 - len(before) + older)
        if way == "PublishEvents":
            refusal = await refused(wire.publish(held, *texts, "one too many"))
        else:
            async with driving(wire, held) as drive:
                await drive.publish(*texts, "one too many")
                refusal = await drive.refused()
        assert _kind(refusal) == (EXHAUSTED, "LOG_FULL")
        assert await wire.log("chat") == before
        assert (await wire.publish(held, *texts)).last_run_sequence == 1 + len(texts)


async def test_a_log_that_is_full_by_bytes_is_full(tmp_path: Path) -> None:
    """The bound in bytes is kept as well as the one in events."""
    async with serving(tmp_path / "plane.db", limits={"log_bytes_max": 100_000}) as server:
        wire = server.wire
        held = await wire.hold((await wire.start("chat")).run.run_id)
        await wire.publish(held, "x" * 90_000)
        assert _kind(await refused(wire.publish(held, "x" * 20_000))) == (EXHAUSTED, "LOG_FULL")
        await wire.publish(held, "x" * 1_000)
        assert len((await wire.finish(held)).terminal.output_text) == 91_000


async def test_too_many_streams_of_a_session_are_refused_and_a_place_that_is_left_is_free(
    tmp_path: Path,
) -> None:
    """The bound is per session: another session is not concerned, and the refused stream leaves nobody attached."""
    async with serving(tmp_path / "plane.db", limits={"session_streams_max": 2}) as server:
        wire = server.wire
        await wire.resolve("chat")
        await wire.resolve("other")
        async with wire.stream("chat") as first, wire.stream("chat", presence=session_pb2.PRESENCE_OBSERVER):
            refusal = await refused(wire.stream("chat").__aenter__())
            assert _kind(refusal) == (EXHAUSTED, "STREAM_LIMIT")
            assert refusal.retry_after_s
            async with wire.stream("other"):
                pass
            first.leave()
            async with asyncio.timeout(DEADLINE_S):
                while (await wire.get("chat")).session.attached_count:
                    continue
            async with wire.stream("chat") as again:
                assert again.opened.session.attached_count == 1


async def test_too_many_streams_of_a_server_are_refused(tmp_path: Path) -> None:
    """The server's own bound counts the streams of all sessions."""
    async with serving(tmp_path / "plane.db", limits={"server_streams_max": 2}) as server:
        wire = server.wire
        for key in ("a", "b", "c"):
            await wire.resolve(key)
        async with wire.stream("a"), wire.stream("b"):
            assert _kind(await refused(wire.stream("c").__aenter__())) == (EXHAUSTED, "STREAM_LIMIT")


async def test_a_full_queue_refuses_writes_and_still_reads_and_streams(tmp_path: Path) -> None:
    """While the disk is slow new writes are turned away at once; those that wait are done, and readers feel nothing."""
    async with serving(
        tmp_path / "plane.db", limits={"writer_commands_max": 3, "sweep_ms": 60_000}
    ) as server:
        wire = server.wire
        started = await wire.start("chat")
        stream = wire.stream("chat", start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END)
        await stream.frame()
        async with HeldWriter(server.running.store):
            waiting = [asyncio.create_task(wire.start("chat", text=str(n))) for n in range(2)]
            async with asyncio.timeout(DEADLINE_S):
                while server.running.store._waiting < 3:
                    await wire.get("chat")
            refusal = await refused(wire.start("new", text="refused"))
            assert _kind(refusal) == (EXHAUSTED, "OVERLOADED")
            assert refusal.retry_after_s
            assert (await wire.get("chat")).session.running
            assert (await wire.resolve("chat")).session.session_id == started.session.session_id
        assert len({(await each).run.run_id for each in waiting}) == 2
        await wire.run_through(started.run.run_id, "done")
        assert (await stream.rest()).ended_by == "RUN_END"
        assert (await refused(wire.get("new"))).reason == "KEY_NOT_BOUND"


async def test_what_waits_for_the_writer_is_bounded_by_its_bytes_however_it_came(tmp_path: Path) -> None:
    """A run that a stream starts, and an import, count with what they carry; small ones still go through."""
    async with serving(tmp_path / "plane.db", limits={"writer_bytes_max": 1_000}) as server:
        wire = server.wire
        for size, fits in ((100, True), (2_000, False)):
            text = "x" * size
            run = RunSpec(input=Payload(text=text))
            asked = ResolveSessionRequest(session=SessionRef(key=f"chat-{size}"), run=run)
            stream = wire.sessions.StreamEvents(StreamEventsRequest(resolve=asked), timeout=DEADLINE_S)
            labels = {"about": text}
            entry = ImportEntry(raw_key=f"old-{size}", source_id="1", labels=labels)
            imported = wire.admin.ImportSessions(ImportSessionsRequest(entries=[entry]), timeout=DEADLINE_S)
            if fits:
                assert (await stream.read()).HasField("opened")
                assert (await imported).results[0].session_id
                stream.cancel()
            else:
                assert _kind(await refused(stream.read())) == (EXHAUSTED, "OVERLOADED")
                assert _kind(await refused(imported)) == (EXHAUSTED, "OVERLOADED")
