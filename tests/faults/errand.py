"""One caller's errand through most of what a server does, call after call, told again until it is answered.

Every call is sent again under the same request id, or run sequence, when its outcome is unknown, so wherever the server
dies the errand comes to its end; then `judge` holds all that was said against each other and against the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.run_pb2 import RUN_OUTCOME_INTERRUPTED, Payload, RunSpec, RunTerminal
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST
from sessionplane_client import Client
from tests.support.insisting import insist
from tests.support.refusals import read
from tests.support.serving import AT_ONCE
from tests.support.story import check_log, ending
from tests.support.views import View
from tests.support.wire import Held, Wire, named, publication, span

LEASE_S = 1.0
"""The lease of the runner that is never heard of again: longer than a restart takes."""

_BACK_SOON = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100))


@dataclass
class Errand:
    """What one caller did and was told. Each round has a key of its own."""

    wire: Wire
    client: Client
    sessions: dict[str, str] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    terminals: dict[str, RunTerminal] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    said: list[tuple[Callable[..., Awaitable[Any]], Any, dict[str, str]]] = field(default_factory=list)

    async def run(self, key: str) -> None:
        """Do one round: everything with its key."""
        async with asyncio.TaskGroup() as following:
            await self._resolve(key)
            follower = following.create_task(self._follow(key))
            await self._interrupted_run(key)
            await self._abandoned_run(key)
            await self._dropped_run(key)
            await self._compact(key)
            follower.cancel()

    async def judge(self) -> None:
        """Ask everything again: the same request id tells the same, and the log has all that was acknowledged, once."""
        for method, request, ids in self.said:
            assert _ids(await insist(method, request)) == ids
        for key, session_id in self.sessions.items():
            assert (await self.wire.get(key)).session.session_id == session_id
            await self._judge_log(key)
        listed = await self.wire.sessions.ListSessions(service.ListSessionsRequest(show_internal=True))
        assert sorted(each.session_id for each in listed.sessions) == sorted(self.sessions.values())

    async def _judge_log(self, key: str) -> None:
        floor = (await self.wire.get(key)).session.floor_sequence
        log = await self.wire.log(key)
        seen = self.views[key].events
        check_log(seen)
        assert seen[floor:] == log[: len(seen) - floor]
        ended = {event.run_id: event.run_terminal for event in seen if event.HasField("run_terminal")}
        for run_id in {event.run_id for event in seen} - {""}:
            deltas = [
                event.output_delta.text for event in seen if event.run_id == run_id and event.run_sequence
            ]
            assert deltas == self.texts.get(run_id, [])
            assert ended[run_id] == self.terminals[run_id]

    async def _resolve(self, key: str) -> None:
        for spelling in (key, f"AGENT:main:{key} "):
            request = service.ResolveSessionRequest(session=named(spelling), request_id=f"{key}-resolve")
            answer = await self._ask(self.wire.sessions.ResolveSession, request)
            assert self.sessions.setdefault(key, answer.session.session_id) == answer.session.session_id

    async def _follow(self, key: str) -> None:
        view = self.views[key] = View()
        async with self.client.stream(key=key, start=STREAM_START_OLDEST) as stream:
            async for event in stream:
                view.saw(event)

    async def _interrupted_run(self, key: str) -> None:
        """Work, be asked to stop, say so, and stop."""
        run_id = await self._start(key, "interrupted")
        held = await self._claim(run_id, f"{run_id}-claim")
        await self._publish(held, "one ", "two ")
        asked = service.InterruptRequest(run_id=run_id, request_id=f"{run_id}-stop", grace_period=span(60))
        told = await self._ask(self.wire.sessions.Interrupt, asked)
        beat = runner.HeartbeatRunRequest(
            run_id=run_id,
            lease_token=held.lease_token,
            acknowledged_interrupt_id=told.interrupt.interrupt_id,
        )
        await insist(self.wire.runs.HeartbeatRun, beat)
        await self._publish(held, "three")
        report = runner.FinishRunRequest(
            run_id=run_id, lease_token=held.lease_token, outcome=RUN_OUTCOME_INTERRUPTED
        )
        self.terminals[run_id] = (await insist(self.wire.runs.FinishRun, report)).terminal
        assert ending(self.terminals[run_id]) == "INTERRUPTED/RUNNER"

    async def _abandoned_run(self, key: str) -> None:
        """Work a little, and never come back: the server ends the run."""
        run_id = await self._start(key, "abandoned")
        attempt = 0
        while True:
            held = await self._claim(run_id, f"{run_id}-claim-{attempt}", lease_s=LEASE_S)
            attempt += 1
            try:
                await self._publish(held, "so far")
                break
            except grpc.aio.AioRpcError as error:
                # The server was away for longer than the lease: it heard of the claim only, or of this as well.
                if read(error).reason == "RUN_FINISHED":
                    break
                if read(error).reason != "LEASE_LOST":
                    raise
                self.texts[run_id].clear()
        answer = await insist(self.wire.sessions.WaitRun, service.WaitRunRequest(run_id=run_id))
        self.terminals[run_id] = answer.run.terminal
        assert (ending(answer.run.terminal), answer.run.terminal.output_text) == (
            "LOST/LEASE_EXPIRED",
            "so far",
        )

    async def _dropped_run(self, key: str) -> None:
        """Be stopped before anybody took it."""
        run_id = await self._start(key, "dropped")
        request = service.InterruptRequest(run_id=run_id, request_id=f"{run_id}-stop")
        await self._ask(self.wire.sessions.Interrupt, request)
        run = await self.wire.get_run(run_id)
        self.terminals[run_id] = run.terminal
        assert ending(run.terminal) == "INTERRUPTED/INTERRUPT"

    async def _compact(self, key: str) -> None:
        """Remove all that has ended, once the subscriber has seen it."""
        await self.views[key].reach(len(await self.wire.log(key)))
        request = admin.CompactEventsRequest(session=named(key), older_than=Duration())
        await insist(self.wire.admin.CompactEvents, request)

    async def _start(self, key: str, name: str) -> str:
        request = service.StartRunRequest(
            session=named(key),
            run=RunSpec(run_id=f"{key}-{name}", input=Payload(text=name)),
            request_id=f"{key}-{name}",
        )
        answer = await self._ask(self.wire.sessions.StartRun, request)
        assert answer.session.session_id == self.sessions[key]
        return str(answer.run.run_id)

    async def _claim(self, run_id: str, request_id: str, lease_s: float = 60) -> Held:
        request = runner.ClaimRunRequest(run_id=run_id, request_id=request_id, lease_duration=span(lease_s))
        answer = await insist(self.wire.runs.ClaimRun, request)
        return Held(run_id, answer.lease.token)

    async def _publish(self, held: Held, *texts: str) -> None:
        told = self.texts.setdefault(held.run_id, [])
        request = publication(held, *texts, first=len(told) + 1)
        told += texts
        await insist(self.wire.runs.PublishEvents, request)

    async def _ask(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Make a call under a request id until it is answered, and keep what it told."""
        answer = await insist(method, request)
        self.said.append((method, request, _ids(answer)))
        return answer


def _ids(answer: Any) -> dict[str, str]:
    """Return the ids in an answer."""
    parts = {"session": "session_id", "run": "run_id", "interrupt": "interrupt_id"}
    return {
        name: getattr(getattr(answer, part), name)
        for part, name in parts.items()
        if part in answer.DESCRIPTOR.fields_by_name
    }


@asynccontextmanager
async def errand(address: str) -> AsyncIterator[Errand]:
    """Open what an errand needs to talk to a server, which need not be there yet."""
    async with (
        grpc.aio.insecure_channel(address, options=_BACK_SOON) as channel,
        Client(address, backoff=AT_ONCE, options=_BACK_SOON) as client,
    ):
        yield Errand(Wire(channel), client)
