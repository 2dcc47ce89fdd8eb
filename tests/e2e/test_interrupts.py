"""Interrupts: a wish that is on disk before anybody is told, heard on every way to the runner, with one outcome."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1.run_pb2 import (
    INTERRUPT_MODE_FORCE,
    INTERRUPT_STAGE_ACCEPTED,
    INTERRUPT_STAGE_ACKNOWLEDGED,
    INTERRUPT_STAGE_COMPLETED,
    INTERRUPT_STAGE_DELIVERED,
    INTERRUPT_STAGE_NO_OP,
    RUN_OUTCOME_INTERRUPTED,
    Interrupt,
)
from sessionplane.v1.session_service_pb2 import GetInterruptRequest
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, ending, story, terminals
from tests.support.wire import Held, Wire, span


async def _held(wire: Wire) -> Held:
    held = await wire.hold((await wire.start("chat")).run.run_id)
    await wire.publish(held, "so far")
    return held


async def _stage(wire: Wire, interrupt: Interrupt) -> int:
    request = GetInterruptRequest(interrupt_id=interrupt.interrupt_id)
    return (await wire.sessions.GetInterrupt(request)).interrupt.stage


@pytest.mark.parametrize("way", ["publish", "heartbeat"])
async def test_an_interrupt_is_heard_in_unary_answers_until_it_is_acknowledged(
    server: Served, way: str
) -> None:
    """A runner without a stream is told in each answer, so that a lost one costs nothing."""
    wire = server.wire
    held = await _held(wire)
    accepted = (await wire.interrupt("chat", reason="enough")).interrupt
    assert accepted.stage == INTERRUPT_STAGE_ACCEPTED
    for _ in range(2):
        answer = await (wire.publish(held, "more") if way == "publish" else wire.heartbeat(held))
        (command,) = answer.commands
        assert command.interrupt.interrupt_id == accepted.interrupt_id
        assert await _stage(wire, accepted) == INTERRUPT_STAGE_DELIVERED
    assert not (await wire.heartbeat(held, acknowledged=accepted.interrupt_id)).commands
    assert await _stage(wire, accepted) == INTERRUPT_STAGE_ACKNOWLEDGED
    await wire.finish(held, RUN_OUTCOME_INTERRUPTED)
    assert await _stage(wire, accepted) == INTERRUPT_STAGE_COMPLETED


async def test_an_interrupt_outlives_a_restart_on_its_way_to_the_runner(tmp_path: Path) -> None:
    """OK means on disk: a server that died before it could tell the runner tells it when it is back."""
    async with serving(tmp_path / "plane.db") as server:
        held = await _held(server.wire)
        accepted = (await server.wire.interrupt("chat", request_id="stop")).interrupt
    async with serving(tmp_path / "plane.db") as server:
        again = (await server.wire.interrupt("chat", request_id="stop")).interrupt
        assert again.interrupt_id == accepted.interrupt_id
        (command,) = (await server.wire.heartbeat(held)).commands
        assert command.interrupt.interrupt_id == accepted.interrupt_id


async def test_a_grace_that_passed_while_the_server_was_away_is_over_when_it_is_back(tmp_path: Path) -> None:
    """The server's own deadlines are on disk as well."""
    async with serving(tmp_path / "plane.db", limits={"sweep_ms": 60_000}) as server:
        held = await _held(server.wire)
        await server.wire.interrupt("chat", grace_period=span(0.05))
    async with serving(tmp_path / "plane.db") as server:
        assert ending((await server.wire.wait(held.run_id)).terminal) == "INTERRUPTED/FORCED"


async def test_a_second_interrupt_joins_the_first_and_force_escalates_it(server: Served) -> None:
    """A run has one interrupt, whoever asks how often; FORCE ends it now."""
    wire = server.wire
    held = await _held(wire)
    first, second = [(await wire.interrupt("chat")).interrupt for _ in range(2)]
    assert second.interrupt_id == first.interrupt_id
    forced = (await wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE)).interrupt
    assert (forced.interrupt_id, forced.stage) == (first.interrupt_id, INTERRUPT_STAGE_COMPLETED)
    assert ending((await wire.get_run(held.run_id)).terminal) == "INTERRUPTED/FORCED"
    log = await wire.log("chat")
    check_log(log)
    assert story(log).count("interrupt COMPLETED") == 1


async def test_interrupts_that_race_are_one(server: Served) -> None:
    """Twenty at once leave one interrupt with one outcome."""
    held = await _held(server.wire)
    answers = await asyncio.gather(*[server.wire.interrupt("chat", request_id=str(n)) for n in range(20)])
    assert len({answer.interrupt.interrupt_id for answer in answers}) == 1
    await server.wire.finish(held, RUN_OUTCOME_INTERRUPTED)
    told = [each for each in story(await server.wire.log("chat")) if each.startswith("interrupt")]
    assert told == ["interrupt ACCEPTED", "interrupt COMPLETED"]


async def test_nothing_to_stop_is_an_outcome_and_not_an_error(server: Served) -> None:
    """NO_OP is written like any stage, without the run's id, whether a run has finished or never was."""
    wire = server.wire
    await wire.resolve("idle")
    assert (await wire.interrupt("idle")).interrupt.stage == INTERRUPT_STAGE_NO_OP
    held = await _held(wire)
    await wire.finish(held)
    answer = await wire.interrupt(run_id=held.run_id)
    assert answer.interrupt.stage == INTERRUPT_STAGE_NO_OP
    assert await _stage(wire, answer.interrupt) == INTERRUPT_STAGE_NO_OP
    log = await wire.log("chat")
    check_log(log)
    assert log[-1].run_id == ""
    assert terminals(log) == ["SUCCEEDED/RUNNER"]


async def test_an_expected_run_protects_the_one_behind_it(server: Served) -> None:
    """A stop button that was pressed too late does not hit the next run."""
    wire = server.wire
    first = await wire.start("chat")
    second = await wire.start("chat")
    await wire.run_through(first.run.run_id)
    answer = await wire.interrupt("chat", expected_run_id=first.run.run_id)
    assert answer.interrupt.stage == INTERRUPT_STAGE_NO_OP
    assert (await wire.get_run(second.run.run_id)).state == run_pb2.RUN_STATE_PENDING
    answer = await wire.interrupt("chat", expected_run_id=second.run.run_id)
    assert answer.interrupt.stage == INTERRUPT_STAGE_COMPLETED


async def test_a_queued_run_is_stopped_by_its_id_and_the_others_keep_their_order(server: Served) -> None:
    """An interrupt by run id takes one run out of the line."""
    wire = server.wire
    runs = [(await wire.start("chat", text=str(n))).run.run_id for n in range(4)]
    answer = await wire.interrupt(run_id=runs[2])
    assert answer.interrupt.stage == INTERRUPT_STAGE_COMPLETED
    assert ending((await wire.get_run(runs[2])).terminal) == "INTERRUPTED/INTERRUPT"
    assert (await wire.get_run(runs[3])).queue_position == 2
    for run_id in (runs[0], runs[1], runs[3]):
        await wire.run_through(run_id)
    check_log(await wire.log("chat"))


async def test_a_repeated_request_id_returns_the_interrupt_at_its_present_stage(server: Served) -> None:
    """A retry after the end says COMPLETED, and writes nothing."""
    wire = server.wire
    held = await _held(wire)
    first = (await wire.interrupt("chat", request_id="stop")).interrupt
    await wire.finish(held, RUN_OUTCOME_INTERRUPTED)
    before = rows(server.database)
    again = (await wire.interrupt("CHAT", request_id="stop")).interrupt
    assert (again.interrupt_id, again.stage) == (first.interrupt_id, INTERRUPT_STAGE_COMPLETED)
    assert rows(server.database) == before


@pytest.mark.parametrize("way", ["release", "silence"])
async def test_an_interrupted_run_whose_runner_gives_up_is_not_offered_again(
    server: Served, way: str
) -> None:
    """A run that was to stop ends when its runner lets go of it, by word or by a lease that was never confirmed."""
    wire = server.wire
    started = await wire.start("chat")
    held = await wire.hold(started.run.run_id, lease_s=0.2 if way == "silence" else None)
    await wire.interrupt("chat", grace_period=span(60))
    if way == "release":
        await wire.release(held)
    assert ending((await wire.wait(held.run_id)).terminal) == "INTERRUPTED/INTERRUPT"


async def test_stop_and_do_this_instead(server: Served) -> None:
    """One call drops what waits, asks the active run to stop, and starts what comes instead as the next."""
    wire = server.wire
    held = await _held(wire)
    await wire.start("chat", run_id="waits")
    await wire.start("chat", run_id="mine", policy=run_pb2.RUN_POLICY_INJECT)
    wanted = run_pb2.RunSpec(input=run_pb2.Payload(text="instead"))
    answer = await wire.interrupt("chat", drop_queued=True, follow_up=wanted, request_id="r1")
    assert (answer.run.run_id, answer.dropped_run_count) == (held.run_id, 2)
    assert (answer.follow_up_run.queue_position, answer.follow_up_run.HasField("input")) == (1, False)
    for run_id in ("waits", "mine"):
        assert ending((await wire.wait(run_id)).terminal) == "INTERRUPTED/INTERRUPT"
    await wire.finish(held, RUN_OUTCOME_INTERRUPTED)
    again = await wire.interrupt("CHAT", drop_queued=True, follow_up=wanted, request_id="r1")
    assert (again.follow_up_run.run_id, again.dropped_run_count) == (answer.follow_up_run.run_id, 2)
    assert again.follow_up_run.state == run_pb2.RUN_STATE_PENDING
    claimed = await wire.claim(answer.follow_up_run.run_id)
    assert claimed.run.input.text == "instead"
    check_log(await wire.log("chat"))


async def test_a_follow_up_needs_no_session(server: Served) -> None:
    """A key that nobody used yet gets its session, and the stop is a NO_OP in its log."""
    answer = await server.wire.interrupt("new", follow_up=run_pb2.RunSpec())
    assert answer.interrupt.stage == INTERRUPT_STAGE_NO_OP
    assert answer.follow_up_run.session_key == "agent:main:new"
    assert story(await server.wire.log("new"))[-1] == "interrupt NO_OP"
