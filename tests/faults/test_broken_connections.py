"""Connections that are cut in the middle of a frame, or go silent: clients lose nothing, and know of it soon."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sessionplane.proof.servers import ServerProcess
from sessionplane.v1.admin_service_pb2 import GetServerInfoRequest
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from sessionplane_client import Claim, Client, LeaseLost, RunFinished, SessionPlaneError
from tests.faults.support.proxy import anywhere, proxy
from tests.support.processes import server_process
from tests.support.serving import AT_ONCE
from tests.support.story import check_log, ending
from tests.support.wire import Wire, wired

PIECES = 200
SUBSCRIBERS = 3
QUICK = (("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 50))
NOTICED_S, SLACK_S = 30.0, 10.0
LONG_LEASE_S, SHORT_LEASE_S = 60.0, 5.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path / "plane.db") as started:
        yield started


@pytest.fixture
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    """A good connection, to look at what became of it all."""
    async with wired(server.address) as connected:
        yield connected


def _client(address: str) -> Client:
    return Client(address, backoff=AT_ONCE, options=QUICK)


async def _follow(address: str) -> Sequence[Event]:
    async with (
        _client(address) as client,
        client.stream(
            key="chat", create=True, start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END
        ) as stream,
    ):
        return [event async for event in stream]


async def _write(address: str, run_id: str) -> None:
    """Be the runner of a run that writes its pieces one by one."""
    async with _client(address) as client, client.run(await _claim(client, run_id)) as run:
        for number in range(PIECES):
            await run.write(f"{number} ")
            await run.flush()


async def _claim(client: Client, run_id: str) -> Claim:
    """Claim until it is known what became of it: the request id makes that one claim."""
    while True:
        try:
            claim = await client.claim_run(run_id, request_id="claim")
        except SessionPlaneError:
            continue
        assert claim is not None
        return claim


async def test_connections_that_are_cut_anywhere_cost_no_event(server: ServerProcess, wire: Wire) -> None:
    """Subscribers and a runner whose connections break after every few KiB: each piece is there once, for everybody."""
    async with proxy(server.address) as broken:
        broken.cut_after = anywhere(1, 500, 9_000)
        run_id = (await wire.start("chat")).run.run_id
        following = [asyncio.create_task(_follow(broken.address)) for _ in range(SUBSCRIBERS)]
        await _write(broken.address, run_id)
        seen = await asyncio.gather(*following)
        assert broken.connections > 2 * (SUBSCRIBERS + 1), "hardly anything was cut"
    log = await wire.log("chat")
    check_log(log)
    texts = [event.output_delta.text for event in log if event.HasField("output_delta")]
    assert texts == [f"{number} " for number in range(PIECES)]
    for events in seen:
        assert events == log


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("way", "short_ends"), [("up", "LOST/LEASE_EXPIRED"), ("down", "SUCCEEDED/RUNNER")])
async def test_a_connection_that_goes_silent_is_missed_on_both_sides(
    server: ServerProcess, wire: Wire, way: str, short_ends: str
) -> None:
    """In either direction, without a FIN: within half a minute caller, subscriber and runner have come back by another
    connection, and the server has let the dead ones go. A runner that is not heard for a lease has lost its run.
    """
    run_ids = {
        lease_s: (await wire.start(f"{lease_s}")).run.run_id for lease_s in (LONG_LEASE_S, SHORT_LEASE_S)
    }
    go = asyncio.Event()
    async with proxy(server.address) as network, _client(network.address) as client:
        async with client.stream(run_id=run_ids[LONG_LEASE_S], until=STREAM_UNTIL_RUN_END) as stream:
            waiting = asyncio.create_task(client.wait_run(run_ids[LONG_LEASE_S]))
            working = asyncio.Semaphore(0)
            runners = [
                asyncio.create_task(_hold(network.address, run_id, lease_s, working, go))
                for lease_s, run_id in run_ids.items()
            ]
            for _ in runners:
                await working.acquire()
            network.silence(up=way == "up", down=way == "down")
            go.set()
            async with asyncio.timeout(NOTICED_S + SLACK_S):
                texts = [event.output_delta.text async for event in stream if event.HasField("output_delta")]
                run = await waiting
                await asyncio.gather(*runners)
        while (await wire.admin.GetServerInfo(GetServerInfoRequest())).open_stream_count:
            continue
    assert (texts, ending(run.terminal)) == (["before ", "after "], "SUCCEEDED/RUNNER")
    assert ending((await wire.wait(run_ids[SHORT_LEASE_S])).terminal) == short_ends


async def _hold(
    address: str, run_id: str, lease_s: float, working: asyncio.Semaphore, go: asyncio.Event
) -> None:
    """Be the runner of a run, and go on when told to; a run that is no longer one's own is left."""
    async with _client(address) as client:
        claim = await client.claim_run(run_id, lease_s=lease_s)
        assert claim is not None
        with contextlib.suppress(RunFinished, LeaseLost):
            async with client.run(claim) as run:
                await run.write("before ")
                await run.flush()
                working.release()
                await go.wait()
                await run.write("after ")
