"""The client and the real server, in one process: what the scripted server cannot show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sessionplane import app
from sessionplane.domain.limits import DEFAULT
from sessionplane.settings import Settings
from sessionplane.v1 import run_pb2
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.runner_service_pb2 import HeartbeatRunRequest
from sessionplane.v1.session_pb2 import Session, SessionRef
from sessionplane_client import Backoff, Claim, Client, LeaseLost, RunFinished, RunInProgress

BRISK = Backoff(first_s=0.02, max_s=0.1, attempts_max=None)
SHORT_LEASES = replace(DEFAULT, lease_ms_min=300, sweep_ms=50)


class Server:
    """A server that can be stopped and started again under one address and one file."""

    def __init__(self, folder: Path) -> None:
        self._db = folder / "test.db"
        self._running = AsyncExitStack()
        self.address = "127.0.0.1:0"

    async def start(self) -> None:
        settings = Settings.load(listen=self.address, db=self._db, limits=SHORT_LEASES)
        running = await self._running.enter_async_context(app.running(settings))
        self.address = running.address

    async def stop(self) -> None:
        await self._running.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(server.address, backoff=BRISK) as client:
        yield client


async def inject(client: Client, text: str, input_id: str) -> None:
    """Sends an input into the run that is active."""
    sent = await client.start_run(key="k", input=text, run_id=input_id, policy=run_pb2.RUN_POLICY_INJECT)
    assert (sent.disposition, sent.input_id) == (run_pb2.RUN_DISPOSITION_INJECTED, input_id)


async def claimed(client: Client, *, lease_s: float | None = None, key: str = "k") -> Claim:
    """Starts a run and claims it."""
    started = await client.start_run(key=key, input="hello")
    claim = await client.claim_run(started.run.run_id, lease_s=lease_s)
    assert claim is not None
    return claim


@asynccontextmanager
async def followed(client: Client, run_id: str) -> AsyncIterator[asyncio.Task[list[Event]]]:
    """Follows a run in a task that ends with it and holds its events."""

    async def follow() -> list[Event]:
        async with client.stream(run_id=run_id, until=service.STREAM_UNTIL_RUN_END) as events:
            return [event async for event in events]

    task = asyncio.create_task(follow())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def text_of(events: list[Event]) -> str:
    return "".join(event.output_delta.text for event in events)


async def test_a_run_is_followed_from_start_to_end(client: Client) -> None:
    """What the runner writes is what a subscriber reads and what the terminal holds, custom events between."""
    claim = await claimed(client)
    assert claim.text == "hello"
    async with followed(client, claim.run.run_id) as following:
        async with client.run(claim) as run:
            await run.write("one ")
            await run.custom("tool.call", {"name": "clock"})
            await run.write("two")
        events = await following
    assert text_of(events) == "one two"
    assert [event.custom.type for event in events if event.HasField("custom")] == ["tool.call"]
    assert events[-1].run_terminal.output_text == "one two"
    assert (await client.wait_run(run.run_id)).terminal == events[-1].run_terminal == run.terminal


async def test_a_restart_of_the_server_is_not_seen_by_run_and_stream(server: Server, client: Client) -> None:
    """While the server is away and comes back, the runner writes on, and the subscriber gets it all once."""
    claim = await claimed(client, lease_s=15)
    pieces = [f"{n} " for n in range(300)]
    async with followed(client, claim.run.run_id) as following:
        async with client.run(claim) as run:
            for n, piece in enumerate(pieces):
                await run.write(piece)
                if n in {100, 200}:
                    await run.flush()
                    await server.restart()
        events = await following
    assert text_of(events) == "".join(pieces)
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert sum(event.HasField("run_terminal") for event in events) == 1


async def test_a_run_ends_although_its_answer_is_lost(server: Server, client: Client) -> None:
    """The server goes away as the report is on its way: after its return there is exactly one terminal."""
    claim = await claimed(client, lease_s=15)
    async with client.run(claim) as run:
        await run.write("all of it")
        restarting = asyncio.create_task(server.restart())
    await restarting
    log = [event async for event in client.list_events(key="k")]
    assert sum(event.HasField("run_terminal") for event in log) == 1
    assert text_of(log) == "all of it"
    assert run.terminal is not None
    assert run.terminal.outcome == run_pb2.RUN_OUTCOME_SUCCEEDED


async def test_a_silent_runner_keeps_its_lease(client: Client) -> None:
    """Heartbeats carry a run that writes nothing over several times its lease."""
    claim = await claimed(client, lease_s=0.3)
    async with client.run(claim):
        with pytest.raises(TimeoutError):
            await client.wait_run(claim.run.run_id, timeout_s=1.2)
    assert (await client.get_run(claim.run.run_id)).terminal.outcome == run_pb2.RUN_OUTCOME_SUCCEEDED


async def test_a_runner_hears_of_an_interrupt(client: Client) -> None:
    """The wish reaches the runner with its reason, is acknowledged, and the run ends INTERRUPTED by its runner."""
    claim = await claimed(client)
    asked = None
    async with client.run(claim) as run:
        asked = await client.interrupt(key="k", reason="enough")
        await run.interrupted.wait()
        assert run.interrupt is not None
        assert run.interrupt.reason == "enough"
    ended = await client.wait_run(claim.run.run_id)
    assert ended.terminal.outcome == run_pb2.RUN_OUTCOME_INTERRUPTED
    assert ended.terminal.cause == run_pb2.RUN_CAUSE_RUNNER
    interrupt = await client.get_interrupt(asked.interrupt.interrupt_id)
    assert interrupt.stage == run_pb2.INTERRUPT_STAGE_COMPLETED


async def test_a_run_that_is_ended_by_force_stops_its_body(client: Client) -> None:
    """RunFinished with the server's terminal takes the place of whatever the body waits for."""
    claim = await claimed(client)
    with pytest.raises(RunFinished) as caught:
        async with client.run(claim) as run:
            await run.write("so far")
            await run.flush()
            await client.interrupt(run_id=run.run_id, mode=run_pb2.INTERRUPT_MODE_FORCE)
            await asyncio.Event().wait()
    assert caught.value.terminal is not None
    assert caught.value.terminal.cause == run_pb2.RUN_CAUSE_FORCED
    assert caught.value.terminal.output_text == "so far"


async def test_a_failing_body_fails_its_run(client: Client) -> None:
    """The terminal has the exception's name and message and the text so far."""
    claim = await claimed(client)
    with pytest.raises(LookupError):
        async with client.run(claim) as run:
            await run.write("so far")
            raise LookupError("no such tool")
    terminal = (await client.get_run(claim.run.run_id)).terminal
    assert terminal.outcome == run_pb2.RUN_OUTCOME_FAILED
    assert (terminal.failure.reason, terminal.failure.message) == ("LookupError", "no such tool")
    assert terminal.output_text == "so far"
    assert not terminal.output_complete


async def test_a_lapsed_lease_cannot_be_driven(client: Client) -> None:
    """A runner that comes back after its lease learns it before its body begins."""
    claim = await claimed(client, lease_s=0.3)
    # Heard from, so that the run ends LOST and is not offered again.
    await client.runner_service.HeartbeatRun(
        HeartbeatRunRequest(run_id=claim.run.run_id, lease_token=claim.lease.token)
    )
    assert (await client.wait_run(claim.run.run_id)).terminal.outcome == run_pb2.RUN_OUTCOME_LOST
    with pytest.raises((LeaseLost, RunFinished)):
        async with client.run(claim):
            pytest.fail("the body must not run")


async def test_a_second_runner_of_one_lease_takes_over(client: Client) -> None:
    """A newer DriveRun under the same lease ends the older one's body; events go on where they stood."""
    claim = await claimed(client)
    first_stopped = asyncio.Event()

    async def first() -> None:
        async with client.run(claim) as run:
            await run.write("a")
            await run.flush()
            ready.set()
            await asyncio.Event().wait()

    async def watched() -> None:
        try:
            await first()
        finally:
            first_stopped.set()

    ready = asyncio.Event()
    task = asyncio.create_task(watched())
    await ready.wait()
    async with client.run(claim) as run:
        await first_stopped.wait()
        await run.write("b")
    with pytest.raises(Exception, match="DISCONNECTED"):
        await task
    assert run.terminal is not None
    assert run.terminal.output_text == "ab"


async def test_a_policy_and_a_queue_are_answers(client: Client) -> None:
    """REJECT raises RunInProgress; by default the next run waits in line and is claimed when its turn comes."""
    claim = await claimed(client)
    with pytest.raises(RunInProgress):
        await client.start_run(key="k", policy=run_pb2.RUN_POLICY_REJECT)
    queued = await client.start_run(key="k")
    assert queued.disposition == run_pb2.RUN_DISPOSITION_QUEUED
    taking = asyncio.create_task(client.claim_run(queued.run.run_id))
    async with client.run(claim):
        pass
    second = await taking
    assert second is not None
    async with client.run(second):
        pass


async def test_a_pool_hands_out_its_runs_and_then_nothing(client: Client) -> None:
    """claim_run(pool=...) takes the oldest; with nothing there it returns None after its wait."""
    started = await client.start_run(key="k", pool="p", input="work")
    claim = await client.claim_run(pool="p")
    assert claim is not None
    assert claim.run.run_id == started.run.run_id
    assert await client.claim_run(pool="p", wait_s=0.1) is None
    async with client.run(claim):
        pass


async def test_inputs_are_taken_across_a_restart(server: Server, client: Client) -> None:
    """What was sent before a restart and after it comes once, in order; what is left becomes a run of its own."""
    claim = await claimed(client)
    taken = []
    async with client.run(claim) as run:
        await inject(client, "one", "first")
        async for more in run.inputs:
            taken.append((more.input_id, more.text))
            await run.write(more.text)
            if len(taken) == 2:
                break
            await server.restart()
            await inject(client, "two", "second")
            await inject(client, "three", "third")
    assert taken == [("first", "one"), ("second", "two")]
    ended = await client.get_run(claim.run.run_id)
    assert list(ended.taken_input_ids) == ["first", "second"]
    assert ended.terminal.output_text == "onetwo"
    assert (await client.get_run("second")).run_id == claim.run.run_id
    left = await client.get_run("third")
    assert (left.run_id, left.state, left.input.text) == ("third", run_pb2.RUN_STATE_PENDING, "three")


async def test_stop_and_do_this_instead(client: Client) -> None:
    """An interrupt drops what waits and starts what it was given; the runs are listed newest first."""
    claim = await claimed(client)
    waits = await client.start_run(key="k", input="waits")
    answer = await client.interrupt(key="k", drop_queued=True, follow_up="instead")
    assert (answer.run.run_id, answer.dropped_run_count) == (claim.run.run_id, 1)
    instead = await client.get_run(answer.follow_up_run.run_id)
    assert (instead.input.text, instead.queue_position) == ("instead", 1)
    listed = [run.run_id async for run in client.list_runs(key="k", page_size=1)]
    assert listed == [instead.run_id, waits.run.run_id, claim.run.run_id]
    states = [run_pb2.RUN_STATE_FINISHED]
    assert [run.run_id async for run in client.list_runs(key="k", states=states)] == [waits.run.run_id]
    spec = run_pb2.RunSpec(pool="agents")
    assert (await client.interrupt(key="new", follow_up=spec)).follow_up_run.pool == "agents"


async def test_a_watch_outlives_a_restart(server: Server, client: Client) -> None:
    """Whoever keeps a copy of the sessions has them all, though the server was away in between."""
    await client.resolve(key="a")
    copy: dict[str, str] = {}
    async with client.watch_sessions() as watch, asyncio.timeout(20):
        async for item in watch:
            if isinstance(item, Session):
                copy[item.session_id] = item.key
            else:
                copy.pop(item.session_id)
            if set(copy.values()) == {"agent:main:a"}:
                await server.restart()
                await client.resolve(key="b")
                await client.session_service.DeleteSession(
                    service.DeleteSessionRequest(session=SessionRef(key="a"))
                )
            elif set(copy.values()) == {"agent:main:b"}:
                break
    assert watch.caught_up
