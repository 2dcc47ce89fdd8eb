"""The runner against a scripted server: what goes up, in which order, and how a run ends whatever happens."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane_client import Client, LeaseLost, RunFinished, SessionPlaneError
from tests.support.drives import (
    LEASE_LOST,
    RUN_FINISHED,
    UNAVAILABLE,
    Drives,
    Side,
    claim,
    ends,
    lease,
    takes_all,
)
from tests.support.scripted import Refusal, Scripted


async def test_a_clean_end_is_success(drives: Drives, client: Client) -> None:
    """What was written is published in order, numbered from one, before the report SUCCEEDED."""
    drives.then(takes_all)
    async with client.run(claim()) as run:
        await run.write("a")
        await run.custom("tool.call", {"name": "clock"})
        await run.write("")
        await run.write("b")
    (side,), (report,) = drives.sides, drives.reports
    events = [event for each in side.publications for event in each.events]
    assert [event.WhichOneof("body") for event in events] == ["output_delta", "custom", "output_delta"]
    assert side.publications[0].first_run_sequence == 1
    assert report == runner.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED)
    assert run.terminal is not None
    assert run.terminal.outcome == run_pb2.RUN_OUTCOME_SUCCEEDED


async def test_text_and_result_are_reported(drives: Drives, client: Client) -> None:
    """output_text and result, set before the end, are part of the report."""
    drives.then(takes_all)
    async with client.run(claim()) as run:
        run.output_text = ""
        run.result = {"ok": True}
    (report,) = drives.reports
    assert report.HasField("output_text")
    assert report.result.structured["ok"] is True


async def test_an_exception_is_a_failure_and_goes_on(drives: Drives, client: Client) -> None:
    """The class's name is the reason, its text the message; the caller gets the exception itself."""
    drives.then(takes_all)
    with pytest.raises(ZeroDivisionError):
        async with client.run(claim()) as run:
            await run.write("so far")
            1 / 0  # noqa: B018
    (report,) = drives.reports
    assert report.outcome == run_pb2.RUN_OUTCOME_FAILED
    assert (report.failure.reason, report.failure.message) == ("ZeroDivisionError", "division by zero")
    assert drives.sides[0].texts == ["so far"]


async def test_a_cancelled_body_is_an_interruption(drives: Drives, client: Client) -> None:
    """A process that stops (ctrl-C) reports INTERRUPTED and stays cancelled."""
    drives.then(takes_all)
    inside = asyncio.Event()

    async def body() -> None:
        async with client.run(claim()):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drives.reports[0].outcome == run_pb2.RUN_OUTCOME_INTERRUPTED


async def test_an_interrupt_is_acknowledged_and_reported(drives: Drives, client: Client) -> None:
    """The command sets `interrupted`, is acknowledged at once, and makes the end INTERRUPTED."""

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        command = run_pb2.InterruptCommand(interrupt_id="int_1", reason="enough")
        await side.say(command=run_pb2.Command(interrupt=command))
        assert (await side.hear("acknowledge")).interrupt_id == "int_1"
        return await side.finish()

    drives.then(script)
    async with client.run(claim()) as run:
        await run.interrupted.wait()
        assert run.interrupt is not None
        assert run.interrupt.reason == "enough"
    assert drives.reports[0].outcome == run_pb2.RUN_OUTCOME_INTERRUPTED


async def test_what_waits_goes_out_together(drives: Drives, client: Client) -> None:
    """Pieces written while a write is in flight share a publication: no timer, no piece lost, none twice."""
    drives.then(takes_all)
    texts = [str(n) for n in range(1_000)]
    async with client.run(claim()) as run:
        for text in texts:
            await run.write(text)
    (side,) = drives.sides
    assert side.texts == texts
    assert len(side.publications) < 20
    firsts = [each.first_run_sequence for each in side.publications]
    assert firsts == [1 + sum(len(each.events) for each in side.publications[:n]) for n in range(len(firsts))]


async def test_a_writer_waits_while_too_much_is_unacknowledged(drives: Drives, client: Client) -> None:
    """Back-pressure: with a full window write waits, and goes on when the server acknowledges."""
    go_on = asyncio.Event()

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        while len(side.texts) < 1_024:
            request = await side.context.read()
            side.publications.append(request.publish)
        await go_on.wait()
        await side.acknowledge()
        return await side.finish()

    drives.then(script)
    async with client.run(claim()) as run:
        for n in range(1_024):
            await run.write(str(n))
        waiting = asyncio.create_task(run.write("one more"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.05)
        go_on.set()
        await waiting
    assert drives.sides[0].texts[-1] == "one more"


async def test_flush_waits_for_the_commit(drives: Drives, client: Client) -> None:
    """flush returns when the server has acknowledged everything."""
    committed = False

    async def script(side: Side) -> runner.DriveRunFinish:
        nonlocal committed
        await side.open()
        request = await side.context.read()
        side.publications.append(request.publish)
        committed = True
        await side.acknowledge()
        return await side.finish()

    drives.then(script)
    async with client.run(claim()) as run:
        await run.write("a")
        await run.flush()
        assert committed


async def test_a_broken_stream_resends_exactly_the_rest(drives: Drives, client: Client) -> None:
    """After a reconnect everything behind the server's last_run_sequence goes out again, as numbered before."""
    written = asyncio.Event()

    async def breaks(side: Side) -> None:
        await side.open()
        while len(side.texts) < 5:
            request = await side.context.read()
            side.publications.append(request.publish)
        written.set()
        await UNAVAILABLE.abort(side.context)

    async def goes_on(side: Side) -> runner.DriveRunFinish:
        await side.open(last_run_sequence=2)
        return await side.finish()

    drives.then(breaks)
    drives.then(goes_on)
    async with client.run(claim()) as run:
        for text in "abcde":
            await run.write(text)
        await written.wait()
        await run.write("f")
    assert drives.sides[1].publications[0].first_run_sequence == 3
    assert "".join(drives.sides[1].texts) == "cdef"


async def test_a_runner_that_is_silent_sends_heartbeats(drives: Drives, client: Client) -> None:
    """A third of the lease after the last message a heartbeat goes out, whatever this clock says."""

    async def script(side: Side) -> runner.DriveRunFinish:
        request = await side.context.read()
        assert request.HasField("open")
        await side.say(opened=runner.DriveRunOpened(run=run_pb2.Run(run_id="run_1"), lease=lease(0.3)))
        for _ in range(2):
            await side.hear("heartbeat")
            await side.say(lease=lease(0.3))
        heard.set()
        return await side.finish()

    heard = asyncio.Event()
    drives.then(script)
    async with client.run(claim(0.3)):
        await heard.wait()
    assert drives.sides[0].others == []


@pytest.mark.parametrize(("refusal", "error"), [(LEASE_LOST, LeaseLost), (RUN_FINISHED, RunFinished)])
async def test_a_run_that_is_lost_stops_the_body(
    refusal: Refusal, error: type[SessionPlaneError], drives: Drives, client: Client
) -> None:
    """The wait of the body is cut, the typed error takes its place, and nothing is reported any more."""
    drives.then(ends(refusal))
    with pytest.raises(error):
        async with client.run(claim()):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert drives.server.requests == []


async def test_a_write_after_the_loss_raises(drives: Drives, client: Client) -> None:
    """A writer that the loss did not reach in a wait hears of it from the next write."""
    drives.then(ends(LEASE_LOST))
    caught: list[SessionPlaneError] = []
    with pytest.raises(LeaseLost):
        async with client.run(claim()) as run:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                with pytest.raises(LeaseLost) as info:
                    await run.write("too late")
                caught.append(info.value)
    assert len(caught) == 1


async def test_a_run_that_was_ended_by_force_shows_its_terminal(drives: Drives, client: Client) -> None:
    """The server sends `finished` before it refuses: the error and the runner carry that terminal."""

    async def script(side: Side) -> None:
        await side.open()
        terminal = run_pb2.RunTerminal(
            outcome=run_pb2.RUN_OUTCOME_INTERRUPTED, cause=run_pb2.RUN_CAUSE_FORCED
        )
        await side.say(finished=runner.DriveRunFinished(terminal=terminal))
        await RUN_FINISHED.abort(side.context)

    drives.then(script)
    with pytest.raises(RunFinished) as caught:
        async with client.run(claim()) as run:
            await asyncio.Event().wait()
    assert caught.value.terminal is not None
    assert caught.value.terminal.cause == run_pb2.RUN_CAUSE_FORCED
    assert run.terminal == caught.value.terminal


async def test_the_bodys_own_error_wins_over_the_loss(drives: Drives, client: Client) -> None:
    """An exception that the body raises on its way out is not replaced; the loss is noted on it."""
    drives.then(ends(LEASE_LOST))
    with pytest.raises(KeyError) as caught:
        async with client.run(claim()):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError("mine") from None
    assert "LEASE_LOST" in caught.value.__notes__[0]


async def test_a_lost_answer_to_the_report_is_asked_for(drives: Drives, client: Client) -> None:
    """The stream breaks after the report; the next one says RUN_FINISHED; FinishRun tells it was ours."""

    async def breaks(side: Side) -> None:
        await side.open()
        await side.hear("finish")
        await UNAVAILABLE.abort(side.context)

    async def refuses(side: Side) -> None:
        await side.context.read()
        await RUN_FINISHED.abort(side.context)

    drives.then(breaks)
    drives.then(refuses)
    drives.server.answers["FinishRun"] = runner.FinishRunResponse(
        finish_result=run_pb2.FINISH_RESULT_DUPLICATE,
        terminal=run_pb2.RunTerminal(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED),
    )
    async with client.run(claim()) as run:
        run.result = "forty-two"
    (request,) = drives.server.named("FinishRun")
    assert (request.run_id, request.lease_token) == ("run_1", "secret")
    assert request.result.text == "forty-two"
    assert not request.HasField("output_text")
    assert run.terminal is not None


async def test_a_report_that_did_not_arrive_is_sent_again(drives: Drives, client: Client) -> None:
    """The next stream is opened as if nothing was reported: the report goes out again."""

    async def breaks(side: Side) -> None:
        await side.open()
        await side.hear("finish")
        await UNAVAILABLE.abort(side.context)

    drives.then(breaks)
    drives.then(takes_all)
    async with client.run(claim()):
        pass
    assert len(drives.reports) == 1


async def test_a_report_that_came_too_late_is_no_success(drives: Drives, client: Client) -> None:
    """SUPERSEDED: the run ended otherwise, and leaving without an error would say that it did not."""

    async def script(side: Side) -> None:
        await side.open()
        await side.finish(run_pb2.FINISH_RESULT_SUPERSEDED)

    drives.then(script)
    with pytest.raises(RunFinished, match="too late"):
        async with client.run(claim()):
            pass


async def test_a_run_that_cannot_be_driven_is_reported_failed(drives: Drives, client: Client) -> None:
    """A refusal that leaves the lease alone (LOG_FULL) ends the body, and the run by a unary report."""
    drives.then(ends(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "LOG_FULL", "The log is full.")))
    drives.server.answers["FinishRun"] = runner.FinishRunResponse(
        finish_result=run_pb2.FINISH_RESULT_RECORDED
    )
    with pytest.raises(SessionPlaneError, match="LOG_FULL"):
        async with client.run(claim()):
            await asyncio.Event().wait()
    (request,) = drives.server.named("FinishRun")
    assert request.outcome == run_pb2.RUN_OUTCOME_FAILED
    assert "LOG_FULL" in request.failure.message


async def test_a_server_that_is_away_for_a_lease_means_the_lease_is_lost(server: Scripted) -> None:
    """Reconnects end with the lease and the time that a server may be away."""
    async with Client(server.target, options=[("grpc.enable_retries", 0)]) as client:
        server.drives.extend([UNAVAILABLE.abort] * 50)
        with pytest.raises(LeaseLost, match="whole lease"):
            async with client.run(claim(0.3), away_s=0):
                pass


async def test_entering_raises_what_the_server_says(drives: Drives, client: Client) -> None:
    """A lease that is no good is known before the body begins."""

    async def script(side: Side) -> None:
        await LEASE_LOST.abort(side.context)

    drives.then(script)
    with pytest.raises(LeaseLost):
        async with client.run(claim()):
            pytest.fail("the body must not run")
