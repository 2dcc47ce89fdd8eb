"""DriveRun: one stream carries a run, its acknowledgements cover what was sent, and its end is never a surprise."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessionplane.domain.errors import StorageFull
from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as pb
from sessionplane.v1.run_pb2 import FINISH_RESULT_RECORDED, INTERRUPT_MODE_FORCE, RUN_OUTCOME_SUCCEEDED
from tests.support.driving import Driving, driving
from tests.support.planes import lose_the_commit
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.stores import HeldWriter
from tests.support.story import check_log, ending, story, terminals
from tests.support.wire import DEADLINE_S, Held, Wire, custom, span


async def _held(wire: Wire) -> Held:
    return await wire.hold((await wire.start("chat")).run.run_id)


async def test_publications_are_pipelined_and_acknowledgements_cover_all_before_them(server: Served) -> None:
    """A runner need not wait: fifty publications go out unread, and the acknowledgements rise to the last of them."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        for n in range(50):
            await drive.publish(f"{n} ", first=n + 1)
        answers = await drive.published(50)
    numbers = [answer.last_run_sequence for answer in answers]
    assert numbers == sorted(set(numbers))
    assert sum(answer.duplicate_count for answer in answers) == 0
    log = await server.wire.log("chat")
    check_log(log)
    assert [event.run_sequence for event in log if event.run_sequence] == list(range(1, 51))
    last = next(event for event in log if event.run_sequence == answers[-1].last_run_sequence)
    assert last.sequence == answers[-1].last_sequence


async def test_what_was_acknowledged_is_there_for_a_reader_at_once(server: Served) -> None:
    """An acknowledgement comes after the commit: whoever reads behind it finds the events."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        for n in range(5):
            await drive.publish(str(n))
            (answer,) = await drive.published(n + 1)
            assert (await server.wire.log("chat"))[answer.last_sequence - 1].output_delta.text == str(n)


async def test_what_is_sent_again_is_skipped(server: Served) -> None:
    """After a break a runner repeats what it does not know to be there; what is there is counted and not appended."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        await drive.publish("a", "b", "c", first=1)
        await drive.published(3)
    async with driving(server.wire, held) as drive:
        async with HeldWriter(server.running.store):
            await drive.publish("b", first=2)
            await drive.publish("c", "d", first=3)
            await _queued(server, 3)
        answers = await drive.published(4)
    assert sum(answer.duplicate_count for answer in answers) == 2
    assert [each for each in story(await server.wire.log("chat")) if each.startswith("text")] == [
        "text a",
        "text b",
        "text c",
        "text d",
    ]


async def test_a_hole_is_refused_with_the_number_that_is_expected(server: Served) -> None:
    """A publication that does not follow what is there ends the stream and leaves no trace."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        await drive.publish("a", first=1)
        await drive.published(1)
        await drive.publish("c", first=3)
        refusal = await drive.refused()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_SEQUENCE_GAP")
    assert (refusal.metadata or {})["expected"] == "2"
    assert (await server.wire.get_run(held.run_id)).last_run_sequence == 1


async def test_a_report_over_the_stream_ends_the_run_and_the_stream(server: Served) -> None:
    """`finished` is the last answer, with the terminal as it is in the log, and the status is OK."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        await drive.publish("do", "ne")
        await drive.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
        await drive.published(2)
        finished = (await drive.read()).finished
        assert await drive.read() is grpc.aio.EOF
    assert finished.finish_result == FINISH_RESULT_RECORDED
    log = await server.wire.log("chat")
    assert finished.terminal == log[-1].run_terminal
    assert finished.terminal_sequence == log[-1].sequence
    assert finished.terminal.output_text == "done"


async def test_nothing_may_follow_a_report(server: Served) -> None:
    """What a runner sends behind its report is refused or unread; it is never in the log."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as drive:
        await drive.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
        await drive.publish("too late")
        assert (await drive.read()).HasField("finished")
    log = await server.wire.log("chat")
    check_log(log)
    assert not [each for each in story(log) if each.startswith("text")]


async def test_a_graceful_interrupt_passes_through_all_its_stages(server: Served) -> None:
    """ACCEPTED, DELIVERED once the command is written, ACKNOWLEDGED by the runner, COMPLETED by the terminal."""
    wire = server.wire
    held = await _held(wire)
    async with driving(wire, held) as drive:
        await drive.publish("so far")
        await drive.published(1)
        accepted = (await wire.interrupt("chat", reason="enough")).interrupt
        command = (await drive.read()).command.interrupt
        assert (command.interrupt_id, command.reason) == (accepted.interrupt_id, "enough")
        assert command.deadline == accepted.escalate_time
        await drive.send(acknowledge=pb.DriveRunAcknowledge(interrupt_id=accepted.interrupt_id))
        assert (await drive.read()).HasField("lease")
        await drive.send(finish=pb.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_INTERRUPTED))
        finished = (await drive.read()).finished
    assert ending(finished.terminal) == "INTERRUPTED/RUNNER"
    assert finished.terminal.interrupt_id == accepted.interrupt_id
    assert story(await wire.log("chat"), run_id=held.run_id)[4:] == [
        "interrupt ACCEPTED",
        "run RUNNING>INTERRUPTING",
        "interrupt DELIVERED",
        "interrupt ACKNOWLEDGED",
        "interrupt COMPLETED",
        "run INTERRUPTING>FINISHED",
        "terminal INTERRUPTED/RUNNER",
    ]


async def test_an_interrupt_is_told_once_until_it_changes(server: Served) -> None:
    """What else happens to the run does not repeat it; that it is more urgent now does."""
    wire = server.wire
    held = await _held(wire)
    await wire.publish(held, "so far")
    async with driving(wire, held) as drive:
        await wire.interrupt("chat", grace_period=span(100))
        told = (await drive.read()).command.interrupt
        await wire.start("chat", text="more", policy=run_pb2.RUN_POLICY_INJECT)
        assert (await drive.read()).command.input.input.text == "more"
        await wire.close("chat", close_timeout=span(50))
        again = (await drive.read()).command.interrupt
    assert told.interrupt_id == again.interrupt_id
    assert again.deadline.ToMilliseconds() < told.deadline.ToMilliseconds()


async def test_an_interrupt_from_before_the_stream_is_its_first_command(server: Served) -> None:
    """A runner that reconnects hears of what it missed."""
    held = await _held(server.wire)
    accepted = (await server.wire.interrupt("chat")).interrupt
    async with driving(server.wire, held) as drive:
        assert (await drive.read()).command.interrupt.interrupt_id == accepted.interrupt_id


async def test_force_fences_the_runner_at_once(server: Served) -> None:
    """The runner reads `finished` with the terminal, then RUN_FINISHED, and what it sends meanwhile is not kept."""
    wire = server.wire
    held = await _held(wire)
    async with driving(wire, held) as drive:
        await drive.publish("so far")
        await drive.published(1)
        await wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE)
        finished = (await drive.read()).finished
        assert (ending(finished.terminal), finished.terminal.output_text) == ("INTERRUPTED/FORCED", "so far")
        assert finished.finish_result == 0
        refusal = await drive.refused()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
    assert refusal.metadata is not None
    assert refusal.metadata["terminal_sequence"] == str(finished.terminal_sequence)


async def test_publications_under_way_when_a_run_is_forced_are_all_before_its_terminal(
    server: Served,
) -> None:
    """A runner that writes on without reading is fenced in the middle of it; the log keeps its order."""
    wire = server.wire
    held = await _held(wire)
    async with driving(wire, held) as drive:
        for n in range(30):
            await drive.publish(f"{n} ", first=n + 1)
        await wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE)
        while not (await drive.read()).HasField("finished"):
            continue
        assert (await drive.refused()).reason == "RUN_FINISHED"
    log = await wire.log("chat")
    check_log(log)
    assert terminals(log) == ["INTERRUPTED/FORCED"]
    texts = "".join(event.output_delta.text for event in log)
    assert texts == log[-1].run_terminal.output_text


async def test_publications_that_nobody_hears_of_any_more_are_no_errors_of_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What stood in line when the run was forced is refused, and that leaves nothing behind in the server's log."""
    # No sweep stands in line with them.
    async with serving(tmp_path / "other.db", limits={"sweep_ms": 60_000}) as server:
        wire = server.wire
        held = await _held(wire)
        async with driving(wire, held) as drive:
            async with HeldWriter(server.running.store):
                force = asyncio.create_task(wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE))
                await _queued(server, 2)
                for n in range(10):
                    await drive.publish(str(n), first=n + 1)
                await _queued(server, 12)
            await force
            assert (await drive.read()).HasField("finished")
            assert (await drive.refused()).reason == "RUN_FINISHED"
    gc.collect()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("before", [(), ("said on another stream, ",)])
async def test_no_end_hides_a_publication_that_was_lost(tmp_path: Path, before: Sequence[str]) -> None:
    """A publication is lost with its commit, and the report behind it comes when the disk has room again: the run
    does not end as if its text were complete.
    """
    # Small groups, so that the report is in a later commit; no sweep between them.
    async with serving(tmp_path / "other.db", limits={"group_commands_max": 2, "sweep_ms": 60_000}) as server:
        held = await _held(server.wire)
        await server.wire.publish(held, *before)
        async with driving(server.wire, held) as drive:
            async with HeldWriter(server.running.store):
                await drive.publish("lost")
                await _queued(server, 2)
                lost = server.running.plane.execute(lose_the_commit)
                await drive.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
                await _queued(server, 4)
            with pytest.raises(StorageFull):
                await lost
            assert (await drive.refused()).reason == "STORAGE_FULL"
        assert (await server.wire.get_run(held.run_id)).state == run_pb2.RUN_STATE_RUNNING
        async with driving(server.wire, held) as drive:
            await drive.publish("lost", first=len(before) + 1)
            await drive.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
            await drive.published(len(before) + 1)
            assert (await drive.read()).finished.terminal.output_text == "".join(before) + "lost"


async def test_a_runner_that_comes_after_the_end_is_shown_it(server: Served) -> None:
    """A stream that is opened when the run has ended elsewhere begins with `finished`, too."""
    held = await _held(server.wire)
    await server.wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE)
    call = server.wire.runs.DriveRun()
    drive = Driving(call)
    await drive.send(open=pb.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token))
    assert ending((await drive.read()).finished.terminal) == "INTERRUPTED/FORCED"
    assert (await drive.refused()).reason == "RUN_FINISHED"


async def test_a_stream_that_says_nothing_is_not_kept(tmp_path: Path) -> None:
    """The first message is waited for, but not for ever."""
    async with serving(tmp_path / "other.db", limits={"drive_open_ms": 100}) as server:
        refusal = await Driving(server.wire.runs.DriveRun()).refused()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")


async def _queued(server: Served, count: int) -> None:
    """Ask the server something until so many commands wait for its writer."""
    async with asyncio.timeout(DEADLINE_S):
        while server.running.store._waiting < count:
            await server.wire.get("chat")


async def test_an_interrupt_whose_grace_is_over_fences_a_runner_that_will_not_stop(server: Served) -> None:
    """The command says until when; then the terminal is written over the runner's head."""
    wire = server.wire
    held = await _held(wire)
    async with driving(wire, held) as drive:
        await wire.interrupt("chat", grace_period=span(0.2))
        assert (await drive.read()).HasField("command")
        assert ending((await drive.read()).finished.terminal) == "INTERRUPTED/FORCED"
        assert (await drive.refused()).reason == "RUN_FINISHED"


async def test_a_newer_stream_replaces_the_older_one(server: Served) -> None:
    """Under one lease the newest stream drives: the one before is told so each time, and nothing is lost in between."""
    held = await _held(server.wire)
    async with driving(server.wire, held) as older:
        await older.publish("a", first=1)
        await older.published(1)
        async with driving(server.wire, held) as newer:
            refusal = await older.refused()
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "DISCONNECTED")
            await newer.publish("b", first=2)
            await newer.published(2)
            async with driving(server.wire, held) as newest:
                assert (await newer.refused()).reason == "DISCONNECTED"
                await newest.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
                assert (await newest.read()).finished.terminal.output_text == "ab"


async def test_a_stream_keeps_its_run_alive_and_a_closed_one_does_not(server: Served) -> None:
    """Heartbeats extend the lease; a runner that closes its side and stays away loses the run by its lease."""
    wire = server.wire
    started = await wire.start("chat")
    held = await wire.hold(started.run.run_id, lease_s=0.5)
    async with driving(wire, held) as drive:
        first = await wire.heartbeat(held)
        await drive.send(heartbeat=pb.DriveRunHeartbeat())
        lease = (await drive.read()).lease
        assert lease.expire_time.ToMilliseconds() >= first.lease.expire_time.ToMilliseconds()
    assert ending((await wire.wait(held.run_id)).terminal) == "LOST/LEASE_EXPIRED"


async def test_a_runner_whose_run_was_given_to_another_is_told_on_its_stream(server: Served) -> None:
    """A lease that is not the run's any more ends the stream with LEASE_LOST, without the runner having to write."""
    wire = server.wire
    held = await _held(wire)
    async with driving(wire, held) as drive:
        await wire.release(held)
        refusal = await drive.refused()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"heartbeat": pb.DriveRunHeartbeat()}, "FIELD_INVALID"),
        ({}, "FIELD_INVALID"),
        ({"open": pb.DriveRunOpen(run_id="none", lease_token="x")}, "RUN_NOT_FOUND"),
        ({"open": pb.DriveRunOpen(run_id="none")}, "FIELD_INVALID"),
    ],
)
async def test_a_stream_that_does_not_begin_with_a_lease_is_refused(
    server: Served, request_: dict[str, Any], reason: str
) -> None:
    """The first message opens, and nothing else may."""
    call = server.wire.runs.DriveRun()
    await call.write(pb.DriveRunRequest(**request_))
    assert (await refused(call.read())).reason == reason


async def test_a_drive_s_empty_and_second_opening_messages_are_refused(server: Served) -> None:
    """A message that says nothing, or opens what is open, ends the stream and not the run."""
    held = await _held(server.wire)
    again = pb.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token)
    for message in ({}, {"open": again}, {"publish": pb.DriveRunPublish(events=[custom("no good")])}):
        async with driving(server.wire, held) as drive:
            await drive.send(**message)
            refusal = await drive.refused()
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert (await server.wire.get_run(held.run_id)).state == run_pb2.RUN_STATE_RUNNING
