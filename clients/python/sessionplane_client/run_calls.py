"""Runs and interrupts: what a client asks about them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as service

from .backoff import Patience
from .connection import Connection, only
from .errors import SessionPlaneError
from .wire import Content, duration, new_request_id, payload, run_spec, session_ref

# A waiting call is answered at min(60 s, deadline - max(100 ms, 5 %)). This deadline leaves room for the 60
# s.
_LEG_S_MAX = 66.0


class RunCalls(Connection):
    """The calls of a client that are about runs."""

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

        `policy` says what happens while another run is active; the answer's disposition says what happened.
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
        """Reads a run with its input and its terminal; by the id of an input that was injected, the run that
        it waits for or that took it. Raises RunNotFound.
        """
        answer = await self._unary(self.session_service.GetRun, service.GetRunRequest(run_id=run_id))
        return answer.run

    async def list_runs(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        states: Sequence[run_pb2.RunState.ValueType] = (),
        page_size: int = 0,
    ) -> AsyncIterator[run_pb2.Run]:
        """Iterates over a session's runs, newest first, without inputs, texts and results; a page is fetched
        as it is needed. Raises KeyNotBound and SessionNotFound.
        """
        request = service.ListRunsRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            states=states,
            page_size=page_size,
        )
        while True:
            page = await self._unary(self.session_service.ListRuns, request)
            for run in page.runs:
                yield run
            request.page_token = page.next_page_token
            if not request.page_token:
                return

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
        drop_queued: bool = False,
        follow_up: Content | run_pb2.RunSpec | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> service.InterruptResponse:
        """Asks that a run stop: the one named, or the active one of a session.

        The answer's stage says how far the wish has come; `wait_run` waits for the end. Nothing to stop is
        stage NO_OP, no error. `drop_queued` ends what waits in the session as well; `follow_up` is an input, or
        a whole RunSpec, that is run instead, before everything else. Raises TypeError unless exactly one of
        `key`, `session_id`, `run_id` is given.
        """
        request = service.InterruptRequest(
            expected_run_id=expected_run_id,
            mode=mode,
            grace_period=duration(grace_period_s),
            drop_queued=drop_queued,
            follow_up=run_spec(follow_up),
            reason=reason,
            request_id=request_id or new_request_id(),
        )
        if run_id is None:
            request.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        else:
            only(run_id=run_id, key=key, session_id=session_id)
            request.run_id = run_id
        return await self._unary(self.session_service.Interrupt, request)

    async def get_interrupt(self, interrupt_id: str) -> run_pb2.Interrupt:
        """Reads an interrupt at its present stage."""
        request = service.GetInterruptRequest(interrupt_id=interrupt_id)
        return (await self._unary(self.session_service.GetInterrupt, request)).interrupt
