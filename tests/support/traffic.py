"""Callers, runners and subscribers that keep a server busy, come back to it after each crash, and keep a ledger.

None of them sleeps: calls wait until the server is ready again, and are repeated under the same request id or run
sequence when their outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc

from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.run_pb2 import (
    RUN_DISPOSITION_INJECTED,
    RUN_OUTCOME_SUCCEEDED,
    RUN_POLICY_INJECT,
    Payload,
    RunSpec,
)
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST
from sessionplane_client import Client, SessionPlaneError
from sessionplane_client.backoff import is_transient
from tests.support.ledger import Ledger, View
from tests.support.serving import AT_ONCE
from tests.support.wire import Wire, delta

T = TypeVar("T")

KINDS = ("resolve", "unary", "drive", "inject", "finish")
"""What a round must have seen acknowledged before its crash is worth anything."""

_BACK_SOON = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


class Traffic:
    """The clients of one server address, until they are told to come to an end."""

    def __init__(self, wire: Wire, client: Client) -> None:
        self.ledger = Ledger()
        self.views: dict[str, list[View]] = {}
        self._wire = wire
        self._client = client
        self._ending = False

    async def resolve_on(self, name: str) -> None:
        """Resolve one new key after another, each once more in another spelling."""
        number = 0
        while not self._ending:
            number += 1
            for spelling in (f"{name}-{number}", f"AGENT:main:{name}-{number} "):
                request = service.ResolveSessionRequest(
                    session=SessionRef(key=spelling), request_id=f"{name}-{number}-resolve"
                )
                answer = await insist(self._wire.sessions.ResolveSession, request)
                self.ledger.resolved(f"{name}-{number}", answer.session.session_id)

    async def publish_on(self, key: str) -> None:
        """Be the runner of one run after another, with unary calls only."""
        number = 0
        while not self._ending:
            number += 1
            await self._unary_run(key, f"{key}-{number}")

    async def _unary_run(self, key: str, run_id: str) -> None:
        await self._start(key, run_id)
        claim = await insist(
            self._wire.runs.ClaimRun, runner.ClaimRunRequest(run_id=run_id, request_id=f"{run_id}-claim")
        )
        held = {"run_id": run_id, "lease_token": claim.lease.token}
        for first in range(1, 10, 3):
            texts = [f"{run_id}/{first + n} " for n in range(3)]
            request = runner.PublishEventsRequest(
                **held, events=[delta(text) for text in texts], first_run_sequence=first
            )
            await insist(self._wire.runs.PublishEvents, request)
            self.ledger.published("unary", run_id, first, texts)
        report = runner.FinishRunRequest(**held, outcome=RUN_OUTCOME_SUCCEEDED)
        self.ledger.finished(run_id, (await insist(self._wire.runs.FinishRun, report)).terminal)

    async def drive_on(self, key: str) -> None:
        """Be the runner of one run after another, over DriveRun and with the Python client."""
        number = 0
        while not self._ending:
            number += 1
            await self._driven_run(key, f"{key}-{number}")

    async def _driven_run(self, key: str, run_id: str) -> None:
        await self._start(key, run_id)
        claim = await patiently(lambda: self._client.claim_run(run_id, request_id=f"{run_id}-claim"))
        assert claim is not None
        async with self._client.run(claim) as run:
            for first in range(1, 10, 3):
                texts = [f"{run_id}/{first + n} " for n in range(3)]
                for text in texts:
                    await run.write(text)
                await run.flush()
                self.ledger.published("drive", run_id, first, texts)
        assert run.terminal is not None
        self.ledger.finished(run_id, run.terminal)

    async def inject_on(self, key: str) -> None:
        """Send inputs into one run after another, whose runner takes the first of them and leaves the second."""
        number = 0
        while not self._ending:
            number += 1
            run_id = f"{key}-{number}"
            await self._start(key, run_id)
            await self._injected_run(key, run_id)
            await self._run_to_its_end(f"{run_id}-left")

    async def _injected_run(self, key: str, run_id: str) -> None:
        claim = await patiently(lambda: self._client.claim_run(run_id, request_id=f"{run_id}-claim"))
        assert claim is not None
        async with self._client.run(claim) as run:
            for name in ("taken", "left"):
                await self._inject(key, f"{run_id}-{name}")
            async for more in run.inputs:
                await run.write(f"took {more.text}")
                break
        assert run.terminal is not None
        self.ledger.took(f"{run_id}-taken", run_id)
        self.ledger.finished(run_id, run.terminal)

    async def _run_to_its_end(self, run_id: str) -> None:
        claim = await patiently(lambda: self._client.claim_run(run_id, request_id=f"{run_id}-claim"))
        assert claim is not None
        async with self._client.run(claim) as run:
            await run.write(claim.text)
        assert run.terminal is not None
        self.ledger.finished(run_id, run.terminal)

    async def _inject(self, key: str, input_id: str) -> None:
        request = service.StartRunRequest(
            session=SessionRef(key=key),
            run=RunSpec(run_id=input_id, input=Payload(text=input_id), policy=RUN_POLICY_INJECT),
            request_id=f"{input_id}-start",
        )
        answer = await insist(self._wire.sessions.StartRun, request)
        assert answer.disposition == RUN_DISPOSITION_INJECTED
        self.ledger.injected(answer.input_id, answer.session.session_id)

    async def _start(self, key: str, run_id: str) -> None:
        request = service.StartRunRequest(
            session=SessionRef(key=key),
            run=RunSpec(run_id=run_id, input=Payload(text=run_id)),
            request_id=f"{run_id}-start",
        )
        answer = await insist(self._wire.sessions.StartRun, request)
        self.ledger.started(run_id, answer.session.session_id)

    async def follow(self, key: str) -> None:
        """Follow a session from its first event, with the client that resumes by itself."""
        view = View()
        self.views.setdefault(key, []).append(view)
        async with self._client.stream(key=key, create=True, start=STREAM_START_OLDEST) as stream:
            async for event in stream:
                view.saw(event)

    def end(self) -> None:
        """Let everybody finish what is begun, and begin nothing."""
        self._ending = True

    async def judge(self) -> None:
        """Wait until every subscriber has caught up, then hold all logs and views against what was said."""
        logs = {}
        for key, views in self.views.items():
            log = await self._wire.log(key)
            logs[log[0].session_id] = log
            for view in views:
                await view.reach(len(log))
                view.judge(log)
        self.ledger.judge(logs)
        for key, session_id in self.ledger.sessions.items():
            assert (await self._wire.get(key)).session.session_id == session_id


async def insist(method: Callable[..., Awaitable[T]], request: object) -> T:
    """Make a call until it is answered."""
    while True:
        try:
            return await method(request, timeout=30, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOST:
                raise


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call of the Python client until it is answered."""
    while True:
        try:
            return await call()
        except SessionPlaneError as error:
            if not is_transient(error):
                raise


@asynccontextmanager
async def traffic(address: str) -> AsyncIterator[Traffic]:
    """Keep a server busy until the context is left; then everybody has finished, and followers are sent away."""
    async with (
        grpc.aio.insecure_channel(address, options=_BACK_SOON) as channel,
        Client(address, backoff=AT_ONCE, options=_BACK_SOON) as client,
    ):
        clients = Traffic(Wire(channel), client)
        async with asyncio.TaskGroup() as followers:
            following = [
                followers.create_task(clients.follow(key))
                for key in ("unary", "drive", "inject", "unary", "drive", "inject")
            ]
            async with asyncio.TaskGroup() as working:
                for work in (
                    clients.resolve_on("resolve"),
                    clients.publish_on("unary"),
                    clients.drive_on("drive"),
                    clients.inject_on("inject"),
                ):
                    working.create_task(work)
                yield clients
                clients.end()
            await clients.judge()
            for task in following:
                task.cancel()
