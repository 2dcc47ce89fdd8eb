"""Bounds in seconds about what ends: the server by kill -9 and SIGTERM, runners and peers without a word."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sessionplane.proof import filled, storm
from sessionplane.proof.parts import Progress
from sessionplane.proof.servers import ServerProcess, server_process
from sessionplane.v1.session_service_pb2 import STREAM_UNTIL_RUN_END
from sessionplane_client import Client

from . import bounds
from .actors import Actor, actor
from .bounds import Measured
from .load import EventsLost, Load, rated_load

BREATH_S = 1.0
STAGGER_S = 1.7
FROZEN = 6
KILLED = 4
STORM_CALLS = 10_000
CLEAN = 0


async def ready(folder: Path, *, sessions: int, kills: int, note: Callable[[], None]) -> Measured:
    """Fill a file, and kill and start the server on it again and again under rated load."""
    database = folder / "ready.db"
    await asyncio.to_thread(filled.build, database, sessions)
    took_s: list[float] = []
    async with server_process(database) as server, rated_load(server.address):
        for _ in range(kills):
            await asyncio.sleep(BREATH_S)
            began_s = time.perf_counter()
            await server.kill()
            await server.start()
            took_s.append(time.perf_counter() - began_s)
            note()
        await asyncio.sleep(BREATH_S)
    return bounds.at_slowest(bounds.READY, took_s, f"{sessions * filled.EVENTS:,} events in the file")


async def sigterm(server: ServerProcess, load: Load) -> Measured:
    """Stop a server under load. What was acknowledged is looked for when the load ends, with the server back."""
    began_s = time.perf_counter()
    ended = await server.terminate()
    took_s = time.perf_counter() - began_s
    if ended.code != CLEAN:
        raise EventsLost(f"the server did not stop in order: {ended}")
    await server.start()
    load.collect()
    return bounds.at_slowest(bounds.SIGTERM, [took_s])


async def the_storm(folder: Path, progress: Progress) -> Measured:
    """Let loose the storm that the self-test judges. Raises EventsLost if it was not answered as it must be."""
    outcome = await storm.storm(STORM_CALLS, folder=folder, progress=progress)
    if outcome.failures:
        raise EventsLost("; ".join(outcome.failures))
    return bounds.at_slowest(
        bounds.STORM, [float(outcome.measured["storm_s"])], f"{outcome.checked:,} calls in all five spellings"
    )


async def lost_runners(folder: Path, *, with_server: bool, note: Callable[[], None]) -> Measured:
    """Kill runners, and the server with them or not, and wait for the terminals of their runs."""
    bound = bounds.LOST_BOTH if with_server else bounds.LOST_RUNNER
    database = folder / f"{bound.name}.db"
    async with (
        server_process(database) as server,
        Client(server.address) as client,
        AsyncExitStack() as stack,
    ):
        run_ids = [(await client.start_run(key=f"killed-{number}")).run.run_id for number in range(KILLED)]
        runners = await asyncio.gather(
            *(stack.enter_async_context(actor("runner", server.address, run_id)) for run_id in run_ids)
        )
        following = [asyncio.create_task(_ended_at_s(client, run_id)) for run_id in run_ids]
        if with_server:
            await asyncio.gather(server.kill(), *(runner.kill() for runner in runners))
            await server.start()
            begun_s = [time.perf_counter()] * KILLED
        else:
            begun_s = [await _killed_at_s(runner) for runner in runners]
        note()
        ended_s = await asyncio.gather(*following)
    took_s = [ended - begun for begun, ended in zip(begun_s, ended_s, strict=True)]
    return bounds.at_slowest(bound, took_s)


async def _killed_at_s(runner: Actor) -> float:
    """Kill a runner at some point of its heartbeat; return when it was dead."""
    await asyncio.sleep(STAGGER_S)
    await runner.kill()
    return time.perf_counter()


async def _ended_at_s(client: Client, run_id: str) -> float:
    """Follow a run to its end; return when its terminal came. Raises EventsLost if that is not what was due."""
    async with client.stream(run_id=run_id, until=STREAM_UNTIL_RUN_END) as stream:
        events = [event async for event in stream]
    if not events or not events[-1].HasField("run_terminal"):
        raise EventsLost(f"{run_id} has no terminal")
    return time.perf_counter()


async def dead_peers(folder: Path, note: Callable[[], None]) -> Measured:
    """Freeze subscribers until the server lets them go, then the server until its clients know."""
    async with server_process(folder / "dead.db") as server, Client(server.address) as client:
        await client.resolve(key="frozen")
        took_s = await _frozen_subscribers(server, client)
        note()
        took_s += await _frozen_server(server)
    return bounds.at_slowest(bounds.DEAD_PEER, took_s)


async def _frozen_subscribers(server: ServerProcess, client: Client) -> list[float]:
    async with AsyncExitStack() as stack:
        peers = await asyncio.gather(
            *(stack.enter_async_context(actor("subscriber", server.address, "frozen")) for _ in range(FROZEN))
        )
        frozen_s = []
        for peer in peers:
            # At different moments between two of the server's pings.
            await asyncio.sleep(STAGGER_S)
            os.kill(peer.process.pid, signal.SIGSTOP)
            frozen_s.append(time.perf_counter())
        took_s: list[float] = []
        while len(took_s) < FROZEN:
            left = (await client.server_info()).open_stream_count
            gone = FROZEN - left - len(took_s)
            took_s += [time.perf_counter() - frozen_s[len(took_s) + more] for more in range(gone)]
            await asyncio.sleep(0.02)
        return took_s


async def _frozen_server(server: ServerProcess) -> Sequence[float]:
    """Freeze the server under a subscriber and under a call without a deadline of its own."""
    noticed: asyncio.Queue[float] = asyncio.Queue()

    async def follow(key: str) -> None:
        async with Client(server.address) as client:
            stream = client.stream(
                key=key, create=True, on_reconnect=lambda *_: noticed.put_nowait(time.perf_counter())
            )
            async with stream:
                opened.release()
                async for _ in stream:
                    continue

    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(follow(f"server-{number}")) for number in range(2)]
    for _ in tasks:
        await opened.acquire()
    await asyncio.sleep(STAGGER_S)
    server.freeze()
    frozen_s = time.perf_counter()
    try:
        return [await noticed.get() - frozen_s for _ in tasks]
    finally:
        server.thaw()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
