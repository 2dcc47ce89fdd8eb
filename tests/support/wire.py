"""The generated stubs with the few words that tests need: what anybody could write, in any language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.admin_service_pb2_grpc import AdminServiceStub
from sessionplane.v1.event_pb2 import CustomEvent, Event, OutputDelta
from sessionplane.v1.run_pb2 import RUN_OUTCOME_SUCCEEDED, Payload, Run, RunOutcome, RunSpec, RunTerminal
from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceStub
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub
from sessionplane_client.exchange import ExchangeChannel
from tests.support.frames import Following
from tests.support.watched import Watching

DEADLINE_S = 20.0
"""The deadline of each call: long enough for a busy machine, and a test that needs it has failed."""


@dataclass(frozen=True)
class Held:
    """A run that a test holds as its runner."""

    run_id: str
    lease_token: str


def span(seconds: float) -> Duration:
    """A span of time as the wire has it."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def named(key: str = "", *, session_id: str = "", agent: str = "") -> SessionRef | None:
    """Name a session by its id or its key; None if there is neither."""
    if session_id:
        return SessionRef(session_id=session_id)
    return SessionRef(key=key, agent=agent) if key else None


def delta(text: str) -> runner.NewEvent:
    """A piece of text to publish."""
    return runner.NewEvent(output_delta=OutputDelta(text=text))


def custom(kind: str) -> runner.NewEvent:
    """An event of the runner's own to publish."""
    return runner.NewEvent(custom=CustomEvent(type=kind))


def publication(held: Held, *texts: str, first: int = 0) -> runner.PublishEventsRequest:
    """A request that publishes pieces of text; `first` is the run sequence of the first one."""
    return runner.PublishEventsRequest(
        run_id=held.run_id,
        lease_token=held.lease_token,
        events=[delta(text) for text in texts],
        first_run_sequence=first,
    )


def report(
    held: Held, outcome: RunOutcome.ValueType = RUN_OUTCOME_SUCCEEDED, **more: Any
) -> runner.FinishRunRequest:
    """A request that reports how a run ended."""
    return runner.FinishRunRequest(run_id=held.run_id, lease_token=held.lease_token, outcome=outcome, **more)


class Wire:
    """The stubs of one channel, and short forms of the calls that tests make often."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.sessions = SessionServiceStub(channel)
        self.runs = RunnerServiceStub(channel)
        self.admin = AdminServiceStub(channel)

    async def resolve(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.ResolveSessionResponse:
        """Resolve a key or an id."""
        request = service.ResolveSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.ResolveSession(request, timeout=DEADLINE_S)

    async def get(self, key: str = "", *, session_id: str = "") -> service.GetSessionResponse:
        """Read a session."""
        request = service.GetSessionRequest(session=named(key, session_id=session_id))
        return await self.sessions.GetSession(request, timeout=DEADLINE_S)

    async def update(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.UpdateSessionResponse:
        """Change a session's labels and name."""
        request = service.UpdateSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.UpdateSession(request, timeout=DEADLINE_S)

    async def reset(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.ResetSessionResponse:
        """Move a key to a new session."""
        request = service.ResetSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.ResetSession(request, timeout=DEADLINE_S)

    async def delete(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.DeleteSessionResponse:
        """Delete a session."""
        request = service.DeleteSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.DeleteSession(request, timeout=DEADLINE_S)

    async def start(
        self, key: str = "", *, session_id: str = "", text: str = "hello", request_id: str = "", **spec: Any
    ) -> service.StartRunResponse:
        """Start a run; in a new session without a key if none is named."""
        request = service.StartRunRequest(
            session=named(key, session_id=session_id),
            run=RunSpec(input=Payload(text=text), **spec),
            request_id=request_id,
        )
        return await self.sessions.StartRun(request, timeout=DEADLINE_S)

    async def claim(
        self,
        run_id: str = "",
        *,
        pool: str = "",
        lease_s: float | None = None,
        wait_s: float = 0,
        request_id: str = "",
    ) -> runner.ClaimRunResponse:
        """Claim a run by its id, or the next one of a pool, waiting for about so long."""
        target = {"pool": pool} if pool else {"run_id": run_id}
        request = runner.ClaimRunRequest(
            **target,
            lease_duration=None if lease_s is None else span(lease_s),
            request_id=request_id,
        )
        # The server answers 5 % and at least 100 ms before the deadline; what is left shorter is answered at once.
        return await self.runs.ClaimRun(request, timeout=max(1.0, wait_s / 0.95 + 0.1))

    async def hold(self, run_id: str, *, lease_s: float | None = None, wait_s: float = DEADLINE_S) -> Held:
        """Become the runner of a run."""
        answer = await self.claim(run_id, lease_s=lease_s, wait_s=wait_s)
        assert answer.claimed, f"the run is not to be had: {answer.run}"
        return Held(run_id, answer.lease.token)

    async def publish(
        self, held: Held, *texts: str, first: int = 0, taken: Sequence[str] = ()
    ) -> runner.PublishEventsResponse:
        """Publish pieces of text, and acknowledge inputs."""
        request = publication(held, *texts, first=first)
        request.acknowledged_input_ids.extend(taken)
        return await self.runs.PublishEvents(request, timeout=DEADLINE_S)

    async def heartbeat(
        self, held: Held, *, acknowledged: str = "", taken: Sequence[str] = ()
    ) -> runner.HeartbeatRunResponse:
        """Say that the runner lives, and acknowledge an interrupt or inputs."""
        request = runner.HeartbeatRunRequest(
            run_id=held.run_id,
            lease_token=held.lease_token,
            acknowledged_interrupt_id=acknowledged,
            acknowledged_input_ids=taken,
        )
        return await self.runs.HeartbeatRun(request, timeout=DEADLINE_S)

    async def finish(
        self, held: Held, outcome: RunOutcome.ValueType = RUN_OUTCOME_SUCCEEDED, **more: Any
    ) -> runner.FinishRunResponse:
        """Report how a run ended."""
        return await self.runs.FinishRun(report(held, outcome, **more), timeout=DEADLINE_S)

    async def release(self, held: Held) -> runner.ReleaseRunResponse:
        """Give a run back."""
        request = runner.ReleaseRunRequest(run_id=held.run_id, lease_token=held.lease_token)
        return await self.runs.ReleaseRun(request, timeout=DEADLINE_S)

    async def run_through(self, run_id: str, *texts: str) -> RunTerminal:
        """Be the runner of a run from its claim to its end."""
        return await self.work(await self.hold(run_id), *texts)

    async def work(self, held: Held, *texts: str) -> RunTerminal:
        """Publish texts and finish."""
        if texts:
            await self.publish(held, *texts)
        return (await self.finish(held)).terminal

    async def interrupt(
        self, key: str = "", *, session_id: str = "", run_id: str = "", **more: Any
    ) -> service.InterruptResponse:
        """Ask that a run stop: the named one, else the active one of the session."""
        target = {"run_id": run_id} if run_id else {"session": named(key, session_id=session_id)}
        return await self.sessions.Interrupt(service.InterruptRequest(**target, **more), timeout=DEADLINE_S)

    async def suspend(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.SuspendSessionResponse:
        """Say that the client goes to the background."""
        request = service.SuspendSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.SuspendSession(request, timeout=DEADLINE_S)

    async def close(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.CloseSessionResponse:
        """End a session."""
        request = service.CloseSessionRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.CloseSession(request, timeout=DEADLINE_S)

    async def wait(self, run_id: str) -> Run:
        """Wait for a run's end."""
        answer = await self.sessions.WaitRun(service.WaitRunRequest(run_id=run_id), timeout=DEADLINE_S)
        assert answer.finished, f"the run goes on and on: {answer.run}"
        return answer.run

    async def list_runs(
        self, key: str = "", *, session_id: str = "", **more: Any
    ) -> service.ListRunsResponse:
        """Read a page of a session's runs."""
        request = service.ListRunsRequest(session=named(key, session_id=session_id), **more)
        return await self.sessions.ListRuns(request, timeout=DEADLINE_S)

    async def get_run(self, run_id: str) -> Run:
        """Read a run."""
        return (await self.sessions.GetRun(service.GetRunRequest(run_id=run_id), timeout=DEADLINE_S)).run

    def stream(self, key: str = "", *, session_id: str = "", **more: Any) -> Following:
        """Follow a session, or what else `more` names; entering it waits for the first frame."""
        ref = named(key, session_id=session_id)
        target = {"session": ref} if ref else {}
        return Following(self.sessions.StreamEvents(service.StreamEventsRequest(**target, **more)))

    def watch(self, **request: Any) -> Watching:
        """Watch sessions; entering it waits for the first frame."""
        return Watching(self.sessions.WatchSessions(service.WatchSessionsRequest(**request)))

    async def log(self, key: str = "", *, session_id: str = "", **more: Any) -> list[Event]:
        """Read a whole log, page by page."""
        request = service.ListEventsRequest(session=named(key, session_id=session_id), **more)
        events: list[Event] = []
        while True:
            page = await self.sessions.ListEvents(request, timeout=DEADLINE_S)
            events.extend(page.events)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return events


@asynccontextmanager
async def wired(address: str, *, exchange: bool = False) -> AsyncIterator[Wire]:
    """Open a channel with gRPC's own defaults, and close it. Its unary calls may share an Exchange."""
    async with grpc.aio.insecure_channel(address) as channel:
        if not exchange:
            yield Wire(channel)
            return
        async with aclosing(ExchangeChannel(channel)) as shared:
            yield Wire(shared)
