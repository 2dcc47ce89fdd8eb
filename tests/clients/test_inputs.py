"""The inputs of a run under way, against a scripted server: each handed to the body once, and acknowledged in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane_client import Client, RunFinished
from tests.support.drives import RUN_FINISHED, UNAVAILABLE, Drives, Side, claim, lease, takes_all


async def sends(side: Side, *input_ids: str) -> None:
    for each in input_ids:
        command = run_pb2.InputCommand(input_id=each, input=run_pb2.Payload(text=f"text of {each}"))
        await side.say(command=run_pb2.Command(input=command))


async def acknowledged(side: Side) -> list[str]:
    return list((await side.hear("acknowledge")).input_ids)


async def test_inputs_are_iterated_and_acknowledged_one_by_one(drives: Drives, client: Client) -> None:
    """An input is acknowledged when the next one is asked for; the last one when the body ends, before the report."""
    heard: list[list[str]] = []

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        await sends(side, "one", "two")
        heard.append(await acknowledged(side))
        assert side.texts == []
        heard.append(await acknowledged(side))
        return await side.finish()

    drives.then(script)
    taken = []
    async with client.run(claim()) as run:
        async for more in run.inputs:
            taken.append((more.input_id, more.text))
            if len(taken) == 2:
                break
    assert taken == [("one", "text of one"), ("two", "text of two")]
    assert heard == [["one"], ["two"]]


async def test_an_input_may_be_taken_without_waiting(drives: Drives, client: Client) -> None:
    """Between two steps a body looks whether something came; what it does not take is never acknowledged."""

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        await side.hear("publish")
        await sends(side, "one", "two")
        await side.acknowledge()
        assert await acknowledged(side) == ["one"]
        return await side.finish()

    drives.then(script)
    async with client.run(claim()) as run:
        assert run.inputs.take() is None
        await run.write("a")
        await run.flush()
        assert len(run.inputs) == 2
        taken = run.inputs.take()
        assert taken is not None
        assert taken.input_id == "one"
    assert [each for each in drives.sides[0].others if each.HasField("acknowledge")] == []


async def test_a_body_that_fails_has_not_taken_its_last_input(drives: Drives, client: Client) -> None:
    """What was handed out and not worked in is left to become a run."""

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        await sends(side, "one", "two")
        assert await acknowledged(side) == ["one"]
        return await side.finish()

    drives.then(script)
    with pytest.raises(ZeroDivisionError):
        async with client.run(claim()) as run:
            async for more in run.inputs:
                if more.input_id == "two":
                    1 / 0  # noqa: B018
    assert [each for each in drives.sides[0].others if each.HasField("acknowledge")] == []


async def test_an_interrupt_ends_the_loop(drives: Drives, client: Client) -> None:
    """Who waits for more is not kept from winding down, and is given nothing new to do."""

    async def script(side: Side) -> runner.DriveRunFinish:
        await side.open()
        stop = run_pb2.InterruptCommand(interrupt_id="int_1")
        await side.say(command=run_pb2.Command(interrupt=stop))
        await sends(side, "one")
        return await side.finish()

    drives.then(script)
    async with client.run(claim()) as run:
        assert [more async for more in run.inputs] == []
    assert drives.reports[0].outcome == run_pb2.RUN_OUTCOME_INTERRUPTED


async def test_a_lost_run_ends_the_loop_by_its_error(drives: Drives, client: Client) -> None:
    """Who waits for more learns that the run is over."""

    async def script(side: Side) -> Any:
        await side.open()
        await side.say(finished=runner.DriveRunFinished(terminal=run_pb2.RunTerminal(interrupt_id="int_1")))
        await RUN_FINISHED.abort(side.context)

    drives.then(script)
    with pytest.raises(RunFinished):
        async with client.run(claim()) as run:
            async for _ in run.inputs:
                raise AssertionError


async def test_an_input_that_comes_again_is_handed_out_once(drives: Drives, client: Client) -> None:
    """A new call repeats what the server does not know to be taken: the body sees it once, and a lost
    acknowledgement is sent again, before the report.
    """
    again = asyncio.Event()

    async def breaks(side: Side) -> None:
        await side.open()
        await sends(side, "one", "two")
        assert await acknowledged(side) == ["one"]
        await UNAVAILABLE.abort(side.context)

    async def goes_on(side: Side) -> runner.DriveRunFinish:
        assert (await side.context.read()).HasField("open")
        run = run_pb2.Run(run_id="run_1", waiting_input_ids=["one", "two"])
        await side.say(opened=runner.DriveRunOpened(run=run, lease=lease()))
        await sends(side, "one", "two")
        assert await acknowledged(side) == ["one"]
        again.set()
        assert await acknowledged(side) == ["two"]
        return await side.finish()

    drives.then(breaks)
    drives.then(goes_on)
    taken = []
    async with client.run(claim()) as run:
        async for more in run.inputs:
            taken.append(more.input_id)
            if more.input_id == "two":
                await again.wait()
                break
    assert (taken, len(run.inputs)) == (["one", "two"], 0)


async def test_a_run_without_inputs_acknowledges_nothing(drives: Drives, client: Client) -> None:
    """The ordinary path says nothing about inputs."""
    drives.then(takes_all)
    async with client.run(claim()) as run:
        await run.write("a")
    assert [each for each in drives.sides[0].others if each.HasField("acknowledge")] == []
