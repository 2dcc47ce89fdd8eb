"""acknowledged: no call is answered, and nothing of it is shown to anybody, before its commit.

Seen in the wild: an answer went out while the write behind it still waited, and the write failed; what a rolled back
transaction had said was on subscribers' screens.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from sessionplane.rpc.server import SERVICES
from sessionplane.v1.admin_service_pb2 import ImportEntry, ImportSessionsRequest
from sessionplane.v1.run_pb2 import INTERRUPT_MODE_FORCE, RunSpec
from tests.support.driving import driving
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.stores import HeldWriter, fail_the_commit
from tests.support.story import check_log
from tests.support.wire import DEADLINE_S, Held, Wire


@dataclass(frozen=True)
class Scene:
    """A server with three conversations: the run of `chat` has published, that of `new` was only claimed, and that of
    `waiting` waits in the pool `pool`.
    """

    server: Served
    chat: Held
    new: Held

    @property
    def wire(self) -> Wire:
        return self.server.wire


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    # No sweep comes between: the commit that fails is the call's own.
    async with serving(tmp_path / "plane.db", limits={"sweep_ms": 60_000}) as server:
        chat = await server.wire.hold((await server.wire.start("chat")).run.run_id)
        await server.wire.publish(chat, "hello")
        new = await server.wire.hold((await server.wire.start("new")).run.run_id)
        await server.wire.start("waiting", pool="pool")
        yield Scene(server, chat, new)


async def _drive(scene: Scene) -> object:
    """Publish on a stream that was open before, and read what is answered."""
    async with driving(scene.wire, scene.chat) as drive:
        async with _lost(scene, 1):
            await drive.publish("lost")
        return await drive.read()


async def _import(scene: Scene) -> object:
    request = ImportSessionsRequest(entries=[ImportEntry(raw_key="old", source_id="1")])
    return await scene.wire.admin.ImportSessions(request, timeout=DEADLINE_S)


CALLS: Mapping[str, Callable[[Scene], Awaitable[object]]] = {
    "ResolveSession": lambda scene: scene.wire.resolve("other"),
    "ResolveSession, with a run": lambda scene: scene.wire.resolve("chat", run=RunSpec(run_id="second")),
    "UpdateSession": lambda scene: scene.wire.update("chat", display_name="Chat"),
    "ResetSession": lambda scene: scene.wire.reset("chat"),
    "SuspendSession": lambda scene: scene.wire.suspend("chat"),
    "CloseSession": lambda scene: scene.wire.close("chat"),
    "DeleteSession": lambda scene: scene.wire.delete("chat"),
    "StartRun": lambda scene: scene.wire.start("chat"),
    "Interrupt": lambda scene: scene.wire.interrupt("chat"),
    "Interrupt, by force": lambda scene: scene.wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE),
    "Interrupt, of nothing": lambda scene: scene.wire.interrupt(
        run_id=scene.chat.run_id, expected_run_id="x"
    ),
    "StreamEvents": lambda scene: scene.wire.stream("chat").__aenter__(),
    "ClaimRun": lambda scene: scene.wire.claim(pool="pool"),
    "PublishEvents": lambda scene: scene.wire.publish(scene.chat, "lost"),
    "HeartbeatRun": lambda scene: scene.wire.heartbeat(scene.new),
    "FinishRun": lambda scene: scene.wire.finish(scene.chat),
    "ReleaseRun": lambda scene: scene.wire.release(scene.new),
    "ImportSessions": _import,
}
"""Every way to change something by one call -> one that does."""

ELSEWHERE = {
    "DriveRun": "below, since its answers are frames",
    "Exchange": "another door to these same calls",
    "CompactEvents": "its answer stands for many commits, each of which may be lost and is done again",
}
READING = {
    *("CheckInvariants", "DisconnectSubscriber", "ExplainKey", "GetInterrupt", "GetRun", "GetServerInfo"),
    *("GetSession", "ListEvents", "ListRuns", "ListSessions", "ListSubscribers", "WaitRun", "WatchSessions"),
}


def test_every_call_that_changes_something_is_named() -> None:
    """A new one is put to the test, or among those that only read."""
    methods = {method.name for service in SERVICES for method in service.methods}
    changing = {name.partition(",")[0] for name in CALLS}
    assert changing | ELSEWHERE.keys() | READING == methods
    assert not changing & (ELSEWHERE.keys() | READING)


@asynccontextmanager
async def _lost(scene: Scene, count: int) -> AsyncIterator[None]:
    """Gather `count` commands that are submitted within this context in one group, and let its COMMIT fail."""
    store = scene.server.running.store
    async with HeldWriter(store):
        yield
        async with asyncio.timeout(DEADLINE_S):
            while store._waiting < 1 + count:
                await scene.wire.get("chat")
        failing = store.submit(fail_the_commit)
    with pytest.raises(sqlite3.IntegrityError):
        await failing


@pytest.mark.parametrize("name", CALLS)
async def test_no_call_is_answered_whose_commit_fails(scene: Scene, name: str) -> None:
    """Its work was done but for the COMMIT: the caller hears of a failure, and every row is as it was."""
    before = rows(scene.server.database)
    async with _lost(scene, 1):
        call = asyncio.ensure_future(CALLS[name](scene))
    assert (await refused(call)).code is grpc.StatusCode.INTERNAL
    assert rows(scene.server.database) == before


async def test_no_publication_is_acknowledged_on_a_drive_whose_commit_fails(scene: Scene) -> None:
    """The runner is not told that its events are safe."""
    assert (await refused(_drive(scene))).code is grpc.StatusCode.INTERNAL


async def test_what_was_never_committed_is_shown_to_nobody(scene: Scene) -> None:
    """A subscriber that is there the whole time sees the log and nothing else, and a waiting call does not return."""
    wire = scene.wire
    waiting = asyncio.ensure_future(wire.wait(scene.chat.run_id))
    async with wire.stream("chat") as stream:
        async with _lost(scene, 2):
            calls = [asyncio.ensure_future(wire.publish(scene.chat, "lost"))]
            calls += [asyncio.ensure_future(wire.finish(scene.chat))]
        for call in calls:
            assert (await refused(call)).code is grpc.StatusCode.INTERNAL
        assert (await wire.publish(scene.chat, ", world")).last_run_sequence == 2
        assert not waiting.done()
        await wire.finish(scene.chat)
        await stream.until(lambda event: event.HasField("run_terminal"))
    log = await wire.log("chat")
    check_log(log)
    assert stream.events == log[-len(stream.events) :]
    assert (await waiting).terminal.output_text == "hello, world"
