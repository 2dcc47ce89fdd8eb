"""The runner's side of one run: write, stay alive, hear interrupts, end it exactly once.

Owns the life of a claimed run between `async with` and its end. What goes over the wire and when is `drive`,
what waits to go is `outbox`.

Theory of operation. The body of `async with` runs in its own task as ever; the drive runs in a second one. If
the drive fails while the body runs (the lease is lost, the run was ended elsewhere), the body is cancelled as
by asyncio.timeout and the typed error is raised in place of the cancellation. When the body ends, its end
becomes the report, and leaving waits until the server has it: leaving without an error means that the report
is the run's terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from grpc import StatusCode

from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import CustomEvent, OutputDelta
from sessionplane.v1.run_pb2 import (
    FinishResult,
    InputCommand,
    InterruptCommand,
    Lease,
    Run,
    RunTerminal,
)
from sessionplane.v1.runner_service_pb2 import DriveRunFinish, DriveRunFinished, NewEvent

from .drive import AWAY_S, Drive
from .errors import RunFinished, SessionPlaneError
from .inputs import Inputs
from .outbox import Outbox
from .wire import Content, payload, pieces

if TYPE_CHECKING:
    from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceAsyncStub

# What ended the drive and leaves nothing to report: the run is over or somebody else's, or there is no
# channel.
_NOT_OURS = frozenset({"LEASE_LOST", "RUN_FINISHED", "DISCONNECTED", "CLIENT_CLOSED"})
_MESSAGE_CHARACTERS_MAX = 1_000  # 4 KiB at four bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that this process holds, with its input, and the lease under which it does."""

    run: Run
    lease: Lease

    @property
    def text(self) -> str:
        """The input's text; empty if the input is not text."""
        return self.run.input.text


class Runner:
    """Drives one claimed run; made by `Client.run`, used once, as `async with client.run(claim) as run`.

    The end of the body is the end of the run: SUCCEEDED; INTERRUPTED if an interrupt was heard or the body
    was cancelled; FAILED with the exception's class name and message if it raised, and the exception goes on.
    Set `output_text` or `result` before the end to report them; without a text the server joins what was
    written.

    Raises LeaseLost or RunFinished, in the next `write` or in place of whatever the body awaits, when the run
    is no longer this runner's. `interrupted` is set when somebody asked that the run stop: wind down and
    leave. `inputs` is what others send into the run while it is under way; what the body leaves there becomes a
    run of its own.
    """

    def __init__(self, stub: RunnerServiceAsyncStub, claim: Claim, *, away_s: float = AWAY_S) -> None:
        self.claim = claim
        self.interrupted = asyncio.Event()
        self.interrupt: InterruptCommand | None = None
        self.output_text: str | None = None
        self.result: Content | None = None
        self.terminal: RunTerminal | None = None
        self._outbox = Outbox()
        self._changed = asyncio.Event()  # something that a writer waits for may have come true
        self._drive = Drive(
            stub,
            claim.run,
            claim.lease,
            self._outbox,
            on_interrupt=self._heard,
            on_input=self._sent,
            on_change=self._changed.set,
            away_s=away_s,
        )
        self.inputs = Inputs(
            acknowledge=self._drive.acknowledge_input,
            until=self._until,
            is_interrupted=self.interrupted.is_set,
        )
        self._task: asyncio.Task[DriveRunFinished] | None = None
        self._body: asyncio.Task[object] | None = None  # set while the body may be cancelled
        self._cancelling_before = 0
        self._cancelled_body = False
        self._failure: BaseException | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.claim.run.run_id

    async def write(self, text: str) -> None:
        """Publishes a piece of the run's text.

        Returns when it is in line, not when it is on disk (see `flush`), and waits while too much is. Text of
        any size is taken. Raises LeaseLost, RunFinished, or what else ended the drive.
        """
        for piece in pieces(text):
            await self._add(NewEvent(output_delta=OutputDelta(text=piece)))

    async def custom(self, type: str, content: Content | None = None) -> None:  # noqa: A002  the word of the wire
        """Publishes an event of the runner's own, such as `tool.call`. Waits and raises as `write` does."""
        await self._add(NewEvent(custom=CustomEvent(type=type, data=payload(content))))

    async def flush(self) -> None:
        """Waits until everything that was written is on the server's disk. Raises as `write` does."""
        await self._until(lambda: self._outbox.empty)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._drive.run())
        self._task.add_done_callback(self._drive_ended)
        try:
            await self._until(self._drive.opened.is_set)
        except BaseException:
            await self._stop(self._task)
            raise
        self._body = asyncio.current_task()
        self._cancelling_before = self._body.cancelling() if self._body else 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        body, self._body = self._body, None
        assert body is not None and self._task is not None  # noqa: PT018, S101  entered
        try:
            if self._cancelled_body:
                error = await self._without_our_cancellation(body, error)
            failure = await self._settle(self._task, error)
        finally:
            await self._stop(self._task)
        if failure is None or failure is error:
            return
        if error is None:
            raise failure
        error.add_note(f"The run did not end with this error: {failure}")

    async def _settle(
        self, task: asyncio.Task[DriveRunFinished], error: BaseException | None
    ) -> BaseException | None:
        """Reports how the body ended and returns what went wrong with that, if anything."""
        if self._failure is None:
            if error is None:
                self.inputs.done()
            self._drive.report(self._report(error))
            await asyncio.wait({task})
            failure = task.exception()
            if failure is None:
                return self._reported(task.result())
            self._failure = failure
        elif isinstance(self._failure, SessionPlaneError) and self._failure.reason not in _NOT_OURS:
            # The stream is of no use any more, yet the run is ours: say so, rather than let the lease run
            # out.
            with contextlib.suppress(SessionPlaneError):
                self._reported(await self._drive.finish(self._report(error or self._failure)))
        return self._failure

    def _report(self, error: BaseException | None) -> DriveRunFinish:
        report = DriveRunFinish(output_text=self.output_text, result=payload(self.result))
        if isinstance(error, Exception):
            report.outcome = run_pb2.RUN_OUTCOME_FAILED
            report.failure.reason = type(error).__name__
            report.failure.message = str(error)[:_MESSAGE_CHARACTERS_MAX]
        elif error is not None or self.interrupted.is_set():
            report.outcome = run_pb2.RUN_OUTCOME_INTERRUPTED
        else:
            report.outcome = run_pb2.RUN_OUTCOME_SUCCEEDED
        return report

    def _reported(self, finished: DriveRunFinished) -> RunFinished | None:
        self.terminal = finished.terminal
        if finished.finish_result != FinishResult.FINISH_RESULT_SUPERSEDED:
            return None
        outcome = run_pb2.RunOutcome.Name(finished.terminal.outcome).removeprefix("RUN_OUTCOME_")
        failure = RunFinished(
            StatusCode.FAILED_PRECONDITION,
            "RUN_FINISHED",
            f"Run {self.run_id} had ended already ({outcome}). This runner's report came too late.",
            {"run_id": self.run_id, "outcome": outcome},
        )
        failure.terminal = finished.terminal
        return failure

    # The drive and its task

    def _sent(self, command: InputCommand) -> None:
        self.inputs.add(command)

    def _heard(self, interrupt: InterruptCommand) -> None:
        self.interrupt = interrupt
        self.interrupted.set()

    def _drive_ended(self, task: asyncio.Task[DriveRunFinished]) -> None:
        if task.cancelled():
            return
        self._failure = task.exception()
        self._changed.set()
        if isinstance(self._failure, RunFinished):
            self.terminal = self._failure.terminal
        if self._failure is not None and self._body is not None:
            self._cancelled_body = True
            self._body.cancel()

    async def _without_our_cancellation(
        self, body: asyncio.Task[object], error: BaseException | None
    ) -> BaseException | None:
        """Takes back the cancellation of the body, as asyncio.timeout does; one from outside stays."""
        from_outside = body.uncancel() > self._cancelling_before
        if isinstance(error, asyncio.CancelledError):
            return error if from_outside else None
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # the body ended before it was delivered: here it is
        return error

    @staticmethod
    async def _stop(task: asyncio.Task[DriveRunFinished]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _add(self, event: NewEvent) -> None:
        await self._until(lambda: not self._outbox.full)
        self._outbox.add(event)
        self._drive.wake()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition() or self._failure is not None:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
