"""Inputs that are sent into a run under way: heard on every way to the runner, taken once, never lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1.run_pb2 import Command, InputCommand, Payload
from sessionplane.v1.session_service_pb2 import STREAM_UNTIL_RUN_END, StartRunResponse
from tests.support.driving import Driving, driving
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.story import check_log, ending, story, terminals
from tests.support.wire import Held, Wire


async def _held(wire: Wire) -> Held:
    return await wire.hold((await wire.start("chat")).run.run_id)


async def _send(wire: Wire, text: str, run_id: str = "", **more: str) -> StartRunResponse:
    return await wire.start("chat", text=text, run_id=run_id, policy=run_pb2.RUN_POLICY_INJECT, **more)


def _input(text: str, input_id: str) -> Command:
    return Command(input=InputCommand(input_id=input_id, input=Payload(text=text)))


async def _acknowledge(drive: Driving, *input_ids: str) -> None:
    """Say which inputs were taken, and read the answer."""
    await drive.send(acknowledge=runner.DriveRunAcknowledge(input_ids=input_ids))
    answer = await drive.read()
    assert answer.HasField("lease"), answer


@pytest.mark.parametrize("way", ["publish", "heartbeat"])
async def test_an_input_is_heard_in_unary_answers_until_it_is_acknowledged(server: Served, way: str) -> None:
    """A runner without a stream is told in each answer, so that a lost one costs nothing."""
    wire = server.wire
    held = await _held(wire)
    sent = await _send(wire, "more", "mine")
    assert (sent.disposition, sent.input_id, sent.run.run_id) == (
        run_pb2.RUN_DISPOSITION_INJECTED,
        "mine",
        held.run_id,
    )
    call = wire.publish if way == "publish" else wire.heartbeat
    for _ in range(2):
        assert list((await call(held)).commands) == [_input("more", "mine")]
    assert list((await wire.get_run("mine")).waiting_input_ids) == ["mine"]
    assert not (await call(held, taken=["mine"])).commands
    assert not (await call(held, taken=["mine"])).commands
    assert list((await wire.get_run("mine")).taken_input_ids) == ["mine"]
    await wire.finish(held)
    log = await wire.log("chat")
    check_log(log)
    assert [line for line in story(log) if "mine" in line or "more" in line] == [
        "injected more",
        "taken mine",
    ]
    assert terminals(log) == ["SUCCEEDED/RUNNER"]


async def test_what_was_never_given_is_refused(server: Served) -> None:
    """An unknown input is NOT_FOUND, and nothing of the call happened."""
    held = await _held(server.wire)
    error = await refused(server.wire.publish(held, "text", taken=["nothing"]))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "INPUT_NOT_FOUND")
    assert (await server.wire.get_run(held.run_id)).last_run_sequence == 0


async def test_a_stream_hands_out_each_input_once(server: Served) -> None:
    """What came before the stream and what comes while it is open is a command each, once; a new stream repeats what
    was not acknowledged.
    """
    held = await _held(server.wire)
    await _send(server.wire, "before", "one")
    async with driving(server.wire, held) as drive:
        assert (await drive.read()).command == _input("before", "one")
        await _send(server.wire, "meanwhile", "two")
        assert (await drive.read()).command == _input("meanwhile", "two")
        await drive.publish("text")
        await drive.published(1)
        await _acknowledge(drive, "one")
    async with driving(server.wire, held) as drive:
        assert (await drive.read()).command == _input("meanwhile", "two")
        await _acknowledge(drive, "two", "one")
        await drive.send(finish=runner.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED))
        assert (await drive.read()).HasField("finished")
    assert list((await server.wire.get_run(held.run_id)).taken_input_ids) == ["one", "two"]
    assert not (await server.wire.get("chat")).session.running


async def test_an_unacknowledged_input_is_the_next_run(server: Served) -> None:
    """A run that ends without having taken an input leaves it to the line, where whoever waited for it goes on."""
    wire = server.wire
    held = await _held(wire)
    await _send(wire, "more", "mine")
    waiting = asyncio.create_task(wire.wait("mine"))
    async with driving(wire, held) as drive:
        assert (await drive.read()).HasField("command")
        await drive.send(finish=runner.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED))
        assert (await drive.read()).HasField("finished")
    claimed = await wire.claim("mine")
    assert claimed.run.input.text == "more"
    await wire.work(Held("mine", claimed.lease.token), "answer")
    assert (await waiting).terminal.output_text == "answer"
    log = await wire.log("chat")
    check_log(log)
    assert terminals(log) == ["SUCCEEDED/RUNNER"] * 2


async def test_a_stream_of_an_input_follows_the_run_that_has_it(server: Served) -> None:
    """Who sent an input follows it by its id: the events of the run that takes it, to that run's end."""
    wire = server.wire
    held = await _held(wire)
    await _send(wire, "more", "mine")
    async with wire.stream(run_id="mine", until=STREAM_UNTIL_RUN_END) as following:
        opened = following.opened
        assert (opened.run.run_id, opened.until_run_id) == (held.run_id, held.run_id)
        await wire.publish(held, "answer", taken=["mine"])
        await wire.finish(held)
        await following.rest()
    assert (following.ended_by, following.refusal) == ("RUN_END", None)
    assert story(following.events)[-4:] == [
        "taken mine",
        "text answer",
        "run RUNNING>FINISHED",
        "terminal SUCCEEDED/RUNNER",
    ]


async def test_an_input_outlives_a_restart(tmp_path: Path) -> None:
    """OK means on disk: a server that died before it could tell the runner tells it when it is back."""
    async with serving(tmp_path / "plane.db") as server:
        held = await _held(server.wire)
        await _send(server.wire, "more", "mine")
    async with serving(tmp_path / "plane.db") as server:
        assert list((await server.wire.heartbeat(held)).commands) == [_input("more", "mine")]
        await server.wire.finish(held)
        assert (await server.wire.get_run("mine")).state == run_pb2.RUN_STATE_PENDING


async def test_a_run_that_interrupts_goes_first(server: Served) -> None:
    """INTERRUPT answers with the interrupt and its place; the runner is told, and the new run is the next."""
    wire = server.wire
    held = await _held(wire)
    await wire.start("chat", run_id="waits")
    await _send(wire, "more", "mine")
    started = await wire.start("chat", run_id="now", policy=run_pb2.RUN_POLICY_INTERRUPT)
    assert (started.disposition, started.run.queue_position, started.input_id) == (
        run_pb2.RUN_DISPOSITION_INTERRUPTING,
        1,
        "now",
    )
    stop, more = (await wire.heartbeat(held)).commands
    assert (stop.interrupt.interrupt_id, more) == (started.interrupt_id, _input("more", "mine"))
    await wire.finish(held, run_pb2.RUN_OUTCOME_INTERRUPTED)
    assert (await wire.get_run("now")).state == run_pb2.RUN_STATE_PENDING
    assert [(await wire.get_run(run_id)).queue_position for run_id in ("mine", "waits")] == [1, 2]
    log = await wire.log("chat")
    assert [ending(event.run_terminal) for event in log if event.HasField("run_terminal")] == [
        "INTERRUPTED/RUNNER"
    ]


async def test_a_full_line_names_its_bound(tmp_path: Path) -> None:
    """RUN_QUEUE_FULL says which of the two bounds was hit, and when to try again."""
    async with serving(tmp_path / "plane.db", limits={"run_queue_max": 1, "run_first_max": 1}) as server:
        await _held(server.wire)
        await server.wire.start("chat")
        await _send(server.wire, "more")
        for policy, bound in (
            (run_pb2.RUN_POLICY_ENQUEUE, "run_queue_max"),
            (run_pb2.RUN_POLICY_INTERRUPT, "run_first_max"),
            (run_pb2.RUN_POLICY_INJECT, "run_first_max"),
        ):
            error = await refused(server.wire.start("chat", policy=policy))
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RUN_QUEUE_FULL")
            assert (error.metadata or {})["bound"] == bound
            assert error.retry_after_s == 1
