"""What a fuzzer throws its requests at: a real server with something in it, and the judgement of every answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from sessionplane.proof.servers import ServerProcess
from sessionplane.v1 import admin_service_pb2, runner_service_pb2, session_service_pb2
from tests.support.processes import server_process
from tests.support.refusals import Refusal, read
from tests.support.wire import DEADLINE_S, Wire, wired

METHODS: Sequence[MethodDescriptor] = [
    method
    for file, service in (
        (session_service_pb2, "SessionService"),
        (runner_service_pb2, "RunnerService"),
        (admin_service_pb2, "AdminService"),
    )
    for method in file.DESCRIPTOR.services_by_name[service].methods
]

WAITING = frozenset({"WaitRun", "ClaimRun", "StreamEvents", "WatchSessions", "DriveRun"})
"""What may rightly go on for longer than a fuzzer looks."""

PATIENCE_S = 0.15
WRITTEN_TOO_LATE = "Internal error from Core"
"""What grpc.aio makes up on the client's side for a write behind the end of the call; the true status is lost."""

OURS_NEVER = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED})


@dataclass(frozen=True)
class Target:
    """A server process, stubs for it, and values that exist in it by the names of the fields they fit into."""

    server: ServerProcess
    wire: Wire
    known: Mapping[str, Sequence[str]]

    async def send(self, method: MethodDescriptor, *messages: bytes, **more: Any) -> Refusal | None:
        """Send messages to a method, and judge how it answers; returns the refusal if it is one."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        timeout_s = PATIENCE_S if method.name in WAITING else DEADLINE_S
        try:
            if method.client_streaming:
                await _drained(
                    self.wire.channel.stream_stream(path)(iter(messages), timeout=timeout_s, **more)
                )
            elif method.server_streaming:
                await _drained(self.wire.channel.unary_stream(path)(messages[0], timeout=timeout_s, **more))
            else:
                await self.wire.channel.unary_unary(path)(messages[0], timeout=timeout_s, **more)
        except grpc.aio.AioRpcError as error:
            return _judged(read(error), method)
        return None

    async def settle(self) -> None:
        """Assert that the server still answers a fresh client, and that its log tells of no bug."""
        async with wired(self.server.address) as fresh, asyncio.timeout(DEADLINE_S):
            assert (await fresh.resolve("fresh")).session.session_id
        written = self.server.written()
        assert "Traceback" not in written, written
        assert "incident" not in written, written


async def _drained(call: Any) -> None:
    """Read a few frames, as far as they come."""
    try:
        for _ in range(3):
            if await call.read() is grpc.aio.EOF:
                return
    finally:
        call.cancel()


def _judged(refusal: Refusal, method: MethodDescriptor) -> Refusal:
    if refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert method.name in WAITING, f"{method.name} took longer than {DEADLINE_S} s"
        return refusal
    if refusal.message == WRITTEN_TOO_LATE:
        return refusal
    assert refusal.code not in OURS_NEVER, f"{method.name}: {refusal}"
    assert refusal.reason, f"{method.name} was refused without a reason: {refusal}"
    assert refusal.domain == "sessionplane"
    return refusal


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Target]:
    """Start a server with sessions and runs in every state of interest; at the end it must still be well."""
    async with server_process(folder / "plane.db") as server, wired(server.address) as wire:
        built = Target(server, wire, await _furnished(wire))
        yield built
        await built.settle()


async def _furnished(wire: Wire) -> Mapping[str, Sequence[str]]:
    started = await wire.start("busy")
    held = await wire.hold(started.run.run_id)
    await wire.publish(held, "text")
    queued = await wire.start("busy")
    ended = await wire.start("done")
    await wire.run_through(ended.run.run_id, "done")
    interrupt = (await wire.interrupt(run_id=queued.run.run_id)).interrupt.interrupt_id
    idle = await wire.resolve("idle")
    sessions = [started.session.session_id, ended.session.session_id, idle.session.session_id]
    runs = [started.run.run_id, queued.run.run_id, ended.run.run_id]
    return {
        "key": ["busy", "done", "idle", "new"],
        "session_id": sessions,
        "bind_session_id": sessions,
        "expected_session_id": sessions,
        "run_id": runs,
        "until_run_id": runs,
        "expected_run_id": runs,
        "lease_token": [held.lease_token],
        "interrupt_id": [interrupt],
        "resume_token": [started.resume_token, ended.resume_token, idle.resume_token],
        "etag": [idle.session.etag],
        "paths": ["labels", "display_name", "labels.x", "*", "session.labels"],
        "filter": [
            "state = ACTIVE",
            "labels.a = b",
            "NOT running",
            "update_time > 2026-01-01T00:00:00Z",
            "(((",
        ],
        "request_id": ["again"],
        "raw_key": ["main", "agent:main:old", "global"],
    }
