"""The asyncio client: sessions, runs and events of one server over one channel.

Owns the channel. Every unary call has a deadline and is sent again by the transport while the server is
UNAVAILABLE (see `options`); what changes something carries a request_id, so that a repeat has no second
effect. Streams go on in their own loop (`stream`, `runner`), never by a retry of the transport.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.admin_service_pb2_grpc import AdminServiceStub
from sessionplane.v1.event_pb2 import Event, EventKind
from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceStub
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub

from .backoff import Backoff, Patience
from .calls import unary
from .drive import AWAY_S
from .errors import SessionPlaneError, client_closed
from .options import channel_options
from .runner import Claim, Runner
from .stream import EventStream, OnProgress, OnReconnect
from .wire import Content, duration, new_request_id, payload, session_ref

if TYPE_CHECKING:
    from sessionplane.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceAsyncStub
    from sessionplane.v1.session_service_pb2_grpc import SessionServiceAsyncStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# A waiting call is answered at min(60 s, deadline - max(100 ms, 5 %)). This deadline leaves room for the 60
# s.
_LEG_S_MAX = 66.0


class Client:
    """A connection to one server. Use it as `async with Client(target) as client`, inside a running loop.

    `timeout_s` is the deadline of each unary call that does not wait. Without `credentials` the channel is
    not encrypted. Sessions are named by exactly one of `key` (any spelling) and `session_id`; `agent` is the
    agent that a bare key belongs to.

    Every method raises SessionPlaneError with the server's reason. The generated stubs are the attributes
    `session_service`, `runner_service` and `admin_service`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 10.0,
        backoff: Backoff | None = None,
        options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._closed = False
        every = [*channel_options(), *options]
        self._channel = (
            grpc.aio.secure_channel(target, credentials, every)
            if credentials
            else grpc.aio.insecure_channel(target, every)
        )
        self.session_service: SessionServiceAsyncStub = SessionServiceStub(self._channel)
        self.runner_service: RunnerServiceAsyncStub = RunnerServiceStub(self._channel)
        self.admin_service: AdminServiceAsyncStub = AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel. Calls that are under way raise SessionPlaneError `CLIENT_CLOSED`."""
        self._closed = True
        await self._channel.close()

    # Sessions

    async def resolve(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        bind_session_id: str = "",
        interaction: session_pb2.Interaction.ValueType = session_pb2.INTERACTION_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        display_name: str = "",
        request_id: str | None = None,
    ) -> service.ResolveSessionResponse:
        """Returns the one session of a key, which is created if there is none.

        `labels` and `display_name` are used on creation only. With `bind_session_id` the key is given to that
        session. Raises KeyInvalid and SessionNotFound, among others.
        """
        request = service.ResolveSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            bind_session_id=bind_session_id,
            interaction=interaction,
            labels=labels or {},
            display_name=display_name,
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.ResolveSession, request)

    async def get_session(
        self, *, key: str | None = None, session_id: str | None = None, agent: str = ""
    ) -> service.GetSessionResponse:
        """Reads a session and creates nothing. Raises KeyNotBound and SessionNotFound."""
        named = session_ref(key=key, session_id=session_id, agent=agent)
        return await self._unary(self.session_service.GetSession, service.GetSessionRequest(session=named))

    async def sessions(self, *, page_size: int = 0) -> AsyncIterator[session_pb2.Session]:
        """Iterates over all sessions, last changed first; a page is fetched as it is needed."""
        page_token = ""
        while True:
            request = service.ListSessionsRequest(page_size=page_size, page_token=page_token)
            page = await self._unary(self.session_service.ListSessions, request)
            for session in page.sessions:
                yield session
            page_token = page.next_page_token
            if not page_token:
                return

    # Runs

    async def start_run(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        input: Content | None = None,  # noqa: A002  the word of the wire
        run_id: str = "",
        policy: run_pb2.RunPolicy.ValueType = run_pb2.RUN_POLICY_UNSPECIFIED,
        pool: str = "",
        start_timeout_s: float | None = None,
        run_timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        interaction: session_pb2.Interaction.ValueType = session_pb2.INTERACTION_UNSPECIFIED,
        request_id: str | None = None,
    ) -> service.StartRunResponse:
        """Starts a run. With neither key nor id, in a new session without a key.

        A stream from the answer's `resume_token` misses nothing that a runner publishes. Raises
        RunInProgress, RunQueueFull and SessionEnded, among others.
        """
        nameless = key is None and session_id is None
        request = service.StartRunRequest(
            session=None if nameless else session_ref(key=key, session_id=session_id, agent=agent),
            run=run_pb2.RunSpec(
                run_id=run_id,
                input=payload(input),
                policy=policy,
                pool=pool,
                start_timeout=duration(start_timeout_s),
                run_timeout=duration(run_timeout_s),
                labels=labels or {},
            ),
            interaction=interaction,
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.StartRun, request)

    async def get_run(self, run_id: str) -> run_pb2.Run:
        """Reads a run with its input and its terminal. Raises RunNotFound."""
        answer = await self._unary(self.session_service.GetRun, service.GetRunRequest(run_id=run_id))
        return answer.run

    async def wait_run(self, run_id: str, *, timeout_s: float | None = None) -> run_pb2.Run:
        """Waits for the end of a run and returns it with its terminal.

        Waiting never changes a run. Goes on across short outages of the server. Raises TimeoutError if the
        run is not finished after `timeout_s` (None: wait for ever), and RunNotFound.
        """
        request = service.WaitRunRequest(run_id=run_id)
        patience = Patience(self._backoff, random.random)
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    answer = await self._unary(self.session_service.WaitRun, request, timeout_s=_LEG_S_MAX)
                except SessionPlaneError as error:
                    await asyncio.sleep(patience.failed(error))
                    continue
                patience.succeeded()
                if answer.finished:
                    return answer.run

    async def interrupt(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        agent: str = "",
        expected_run_id: str = "",
        mode: run_pb2.InterruptMode.ValueType = run_pb2.INTERRUPT_MODE_UNSPECIFIED,
        grace_period_s: float | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> service.InterruptResponse:
        """Asks that a run stop: the one named, or the active one of a session.

        The answer's stage says how far the wish has come; `wait_run` waits for the end. Nothing to stop is
        stage NO_OP, no error. Raises TypeError unless exactly one of `key`, `session_id`, `run_id` is given.
        """
        request = service.InterruptRequest(
            expected_run_id=expected_run_id,
            mode=mode,
            grace_period=duration(grace_period_s),
            reason=reason,
            request_id=request_id or new_request_id(),
        )
        if run_id is None:
            request.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        else:
            _only(run_id=run_id, key=key, session_id=session_id)
            request.run_id = run_id
        return await self._unary(self.session_service.Interrupt, request)

    async def get_interrupt(self, interrupt_id: str) -> run_pb2.Interrupt:
        """Reads an interrupt at its present stage."""
        request = service.GetInterruptRequest(interrupt_id=interrupt_id)
        return (await self._unary(self.session_service.GetInterrupt, request)).interrupt

    # Events

    def stream(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        agent: str = "",
        create: bool = False,
        resume_token: str = "",
        start: service.StreamStart.ValueType = service.STREAM_START_UNSPECIFIED,
        until: service.StreamUntil.ValueType = service.STREAM_UNTIL_UNSPECIFIED,
        until_run_id: str = "",
        kinds: Sequence[EventKind.ValueType] = (),
        filter_run_id: str = "",
        presence: service.Presence.ValueType = service.PRESENCE_UNSPECIFIED,
        pending_timeout_s: float | None = None,
        subscriber_name: str = "",
        backoff: Backoff | None = None,
        on_reconnect: OnReconnect | None = None,
        on_progress: OnProgress | None = None,
    ) -> EventStream:
        """Follows the events of a session, or of one run; see EventStream.

        With `create` the key is resolved as by `resolve`, otherwise its session must exist. Nothing is sent
        before the stream is entered or iterated. Raises TypeError unless exactly one of `key`, `session_id`
        and `run_id` is given.
        """
        request = service.StreamEventsRequest(
            resume_token=resume_token,
            start=start,
            until=until,
            until_run_id=until_run_id,
            presence=presence,
            pending_timeout=duration(pending_timeout_s),
            subscriber_name=subscriber_name,
        )
        if kinds or filter_run_id:
            request.filter.CopyFrom(service.EventFilter(kinds=kinds, run_id=filter_run_id))
        if run_id is not None:
            _only(run_id=run_id, key=key, session_id=session_id)
            request.run_id = run_id
        elif create:
            request.resolve.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        else:
            request.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        return EventStream(
            self._open(self.session_service.StreamEvents),
            request,
            backoff=backoff or self._backoff,
            on_reconnect=on_reconnect,
            on_progress=on_progress,
        )

    async def list_events(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        resume_token: str = "",
        kinds: Sequence[EventKind.ValueType] = (),
        run_id: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[Event]:
        """Iterates over a session's log as it is now, oldest first, from the token or the oldest."""
        request = service.ListEventsRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            resume_token=resume_token,
            page_size=page_size,
            filter=service.EventFilter(kinds=kinds, run_id=run_id),
        )
        while True:
            page = await self._unary(self.session_service.ListEvents, request)
            for event in page.events:
                yield event
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    # Runners

    async def claim_run(
        self,
        run_id: str | None = None,
        *,
        pool: str | None = None,
        runner_id: str = "",
        lease_s: float | None = None,
        wait_s: float = 60.0,
        request_id: str | None = None,
    ) -> Claim | None:
        """Takes a run by its id, or the next one of a pool; returns None if there is none to take.

        Waits for one for `wait_s` (the server keeps it between about a second and a minute). Raises TypeError
        unless exactly one of `run_id` and `pool` is given, and RunNotFound.
        """
        _only(run_id=run_id, pool=pool)
        request = runner.ClaimRunRequest(
            runner_id=runner_id,
            lease_duration=duration(lease_s),
            request_id=request_id or new_request_id(),
            **({"run_id": run_id} if run_id is not None else {"pool": pool or ""}),
        )
        # The server answers 5 % and at least 100 ms before the deadline, which is all that says how long to
        # wait.
        timeout_s = max(1.0, wait_s + 0.1, wait_s / 0.95)
        answer = await self._unary(self.runner_service.ClaimRun, request, timeout_s=timeout_s)
        return Claim(run=answer.run, lease=answer.lease) if answer.claimed else None

    def run(self, claim: Claim, *, away_s: float = AWAY_S) -> Runner:
        """Drives a claimed run: `async with client.run(claim) as run`; see Runner.

        A server that cannot be reached is tried again for the lease and `away_s` more.
        """
        return Runner(self.runner_service, claim, away_s=away_s)

    # Operators

    async def explain_key(self, key: str, *, agent: str = "") -> admin.ExplainKeyResponse:
        """Shows the canonical form of a key and the rules that led to it. Raises KeyInvalid."""
        return await self._unary(self.admin_service.ExplainKey, admin.ExplainKeyRequest(key=key, agent=agent))

    async def server_info(self) -> admin.GetServerInfoResponse:
        """Says what the server is and which bounds it keeps."""
        return await self._unary(self.admin_service.GetServerInfo, admin.GetServerInfoRequest())

    # Calls

    async def _unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        timeout_s: float | None = None,
    ) -> _Response:
        if self._closed:
            raise client_closed()
        return await unary(method, request, timeout_s=timeout_s or self._timeout_s)

    def _open(
        self, method: grpc.aio.UnaryStreamMultiCallable[_Request, _Response]
    ) -> Callable[[_Request], grpc.aio.UnaryStreamCall[_Request, _Response]]:
        def open_call(request: _Request) -> grpc.aio.UnaryStreamCall[_Request, _Response]:
            if self._closed:
                raise client_closed()
            return method(request)

        return open_call


def _only(**targets: str | None) -> None:
    if sum(target is not None for target in targets.values()) != 1:
        raise TypeError(f"give exactly one of {', '.join(targets)}")
