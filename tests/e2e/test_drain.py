"""SIGTERM: everybody is told to come again, nothing that was acknowledged is lost, and the process is gone in time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.processes import server_process
from tests.support.refusals import Refusal, refused
from tests.support.serving import serving
from tests.support.story import terminals
from tests.support.wire import wired

DRAIN_S = 10.0
UNAVAILABLE = {grpc.StatusCode.UNAVAILABLE}


def _is_draining(refusal: Refusal | None) -> bool:
    assert refusal is not None
    assert refusal.retry_after_s is not None
    return (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_sigterm_ends_every_stream_with_a_token_and_exits_in_time(tmp_path: Path) -> None:
    """Streams get `closing` and DRAINING, waits and drives end alike, and the exit code is 0 within ten seconds."""
    async with server_process(tmp_path / "plane.db") as server, wired(server.address) as wire:
        held = await wire.hold((await wire.start("chat")).run.run_id)
        await wire.publish(held, "before ")
        waiting = asyncio.create_task(
            refused(wire.sessions.WaitRun(pb.WaitRunRequest(run_id=held.run_id), timeout=30))
        )
        claiming = asyncio.create_task(refused(wire.claim(pool="p", wait_s=30)))
        drive = wire.runs.DriveRun()
        opening = runner.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token)
        await drive.write(runner.DriveRunRequest(open=opening))
        assert (await drive.read()).HasField("opened")
        async with wire.stream("chat") as by_key, wire.stream(run_id=held.run_id) as by_run:
            await by_run.through(by_key.frames[0].through_sequence)
            began_s = asyncio.get_running_loop().time()
            exited = await server.terminate()
            assert asyncio.get_running_loop().time() - began_s < DRAIN_S
            for stream in (by_key, by_run):
                await stream.rest()
                assert stream.ended_by == "DRAINING"
                assert stream.closing is not None
                assert stream.closing.resumable
                assert _is_draining(stream.refusal)
        assert _is_draining(await waiting)
        assert _is_draining(await claiming)
        assert _is_draining(await refused(drive.read()))
        assert (exited.code, "Traceback" in exited.errors) == (0, False)

        await server.start()
        async with wired(server.address) as again:
            stream = again.stream("chat", resume_token=by_key.token, until=pb.STREAM_UNTIL_RUN_END)
            async with stream:
                await again.publish(held, "after", first=2)
                await again.finish(held)
                await stream.rest()
            assert stream.events[-1].run_terminal.output_text == "before after"
            assert terminals(await again.log("chat")) == ["SUCCEEDED/RUNNER"]


async def test_a_draining_server_says_so_to_health_checks(tmp_path: Path) -> None:
    """Whoever watches health sees SERVING, NOT_SERVING, and the end: an open watch keeps no server from stopping."""
    async with AsyncExitStack() as stack:
        async with serving(tmp_path / "plane.db", limits={"drain_ms": 600_000}) as server:
            wire = await stack.enter_async_context(wired(server.address))
            health = health_pb2_grpc.HealthStub(wire.channel)
            names = ("", "sessionplane.v1.SessionService", "sessionplane.v1.RunnerService")
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
            for watch in watches:
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            # Read from now on: a call of grpc.aio that has ended hands out nothing that was not asked for before.
            told = [asyncio.create_task(watch.read()) for watch in watches]
        for watch, news in zip(watches, told, strict=True):
            assert (await news).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert _is_draining(await refused(watch.read()))


async def test_health_is_answered_for_what_there_is(tmp_path: Path) -> None:
    """Each service serves once the server does; one that does not exist is NOT_FOUND, and SERVICE_UNKNOWN to watches,
    of which one that leaves takes nothing from the others.
    """
    async with AsyncExitStack() as stack:
        async with serving(tmp_path / "plane.db") as server:
            wire = await stack.enter_async_context(wired(server.address))
            health = health_pb2_grpc.HealthStub(wire.channel)
            for name in ("", "sessionplane.v1.SessionService", "sessionplane.v1.AdminService"):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            unknown = health_pb2.HealthCheckRequest(service="nobody")
            assert (await refused(health.Check(unknown))).code == grpc.StatusCode.NOT_FOUND
            leaving, staying = health.Watch(unknown), health.Watch(unknown)
            for watch in (leaving, staying):
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            leaving.cancel()
        assert _is_draining(await refused(staying.read()))


async def test_calls_under_way_at_the_stop_are_acknowledged_or_told_to_come_again(tmp_path: Path) -> None:
    """Of a burst that a stop meets, each call is answered OK and is on disk, or is UNAVAILABLE; none is CANCELLED."""
    async with AsyncExitStack() as stack:
        async with serving(tmp_path / "plane.db") as server:
            wire = await stack.enter_async_context(wired(server.address))
            started = [await wire.start(f"chat-{n}") for n in range(20)]
            held = [await wire.hold(answer.run.run_id) for answer in started]
            calls = [asyncio.create_task(wire.publish(each, "text")) for each in held for _ in range(20)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {each.code() for each in answers if isinstance(each, grpc.aio.AioRpcError)} <= UNAVAILABLE
    acknowledged = sum(not isinstance(answer, BaseException) for answer in answers)
    async with serving(tmp_path / "plane.db") as server:
        runs = [await server.wire.get_run(each.run_id) for each in held]
    assert sum(run.last_run_sequence for run in runs) == acknowledged > 0


@pytest.mark.parametrize("connections", [1, 4])
async def test_calls_that_come_too_late_find_nobody(tmp_path: Path, connections: int) -> None:
    """Who connects and calls while a server stops is told to come again, or finds the connection gone: never CANCELLED,
    which clients do not repeat.
    """
    async with AsyncExitStack() as stack:
        async with serving(tmp_path / "plane.db") as server:
            wires = [await stack.enter_async_context(wired(server.address)) for _ in range(connections)]
            calls = [asyncio.create_task(wire.resolve(f"k{n}")) for wire in wires for n in range(100)]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {each.code() for each in answers if isinstance(each, BaseException)} <= UNAVAILABLE


async def test_an_open_reflection_stream_keeps_no_server_from_stopping(tmp_path: Path) -> None:
    """Whoever looks at the methods with a stream open finds the connection gone."""
    async with AsyncExitStack() as stack:
        async with serving(tmp_path / "plane.db", limits={"drain_ms": 600_000}) as server:
            wire = await stack.enter_async_context(wired(server.address))
            stream = reflection_pb2_grpc.ServerReflectionStub(wire.channel).ServerReflectionInfo()
            await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await stream.read()).HasField("list_services_response")
        gone = await refused(stream.read())
    assert gone.code == grpc.StatusCode.UNAVAILABLE


async def test_a_stop_forgets_no_visit(tmp_path: Path) -> None:
    """A user who came between the last sweep and the stop was there."""
    never = {"sweep_ms": 3_600_000}
    async with serving(tmp_path / "plane.db", limits=never) as server:
        created = await server.wire.resolve("chat", interaction=session_pb2.INTERACTION_SYSTEM)
        assert not created.session.HasField("last_interaction_time")
        await server.wire.resolve("chat")
    async with serving(tmp_path / "plane.db", limits=never) as server:
        assert (await server.wire.get("chat")).session.HasField("last_interaction_time")
