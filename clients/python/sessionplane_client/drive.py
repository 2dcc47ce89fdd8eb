"""The stream side of a runner: one DriveRun call after another, as long as the lease holds.

Theory of operation. `Drive.run` is the one task that owns the call; beside it lives one sender task for each
call. The reader (in `run`) hears the server: `opened` says where to go on, `published` empties the outbox, a
command is passed on, a lease is renewed, `finished` ends it. An interrupt is acknowledged at once, an input when the
body says so; what a new call opens with tells which acknowledgements were lost. The sender writes, in this
order: acknowledgements, publications, the report once everything before it went out, and a heartbeat if
nothing else was written for a third of the lease. It never waits for an answer; whatever is added while a
write is in flight goes out together in the next one.

A call that breaks is replaced for as long as the lease may still stand: a server that was away grants every
lease again in full once it is back, so that is one lease and the time that a restart may take (`away_s`). What
became of the run meanwhile, the server says at the next call: LeaseLost, or RunFinished. If the report was on
its way when a call broke, its fate is asked for with FinishRun, which may be repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from grpc import StatusCode
from grpc.aio import AioRpcError

from sessionplane.v1.run_pb2 import InputCommand, InterruptCommand, Lease, Run
from sessionplane.v1.runner_service_pb2 import (
    DriveRunAcknowledge,
    DriveRunFinish,
    DriveRunFinished,
    DriveRunHeartbeat,
    DriveRunOpen,
    DriveRunRequest,
    DriveRunResponse,
    FinishRunRequest,
)

from .backoff import Backoff, Patience
from .calls import unary, was_cancelled
from .errors import LeaseLost, RunFinished, SessionPlaneError, client_closed, from_rpc_error
from .outbox import Outbox

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

    from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceAsyncStub

    _Call: TypeAlias = StreamStreamCall[DriveRunRequest, DriveRunResponse]

# How long a server may be away, for a restart.
AWAY_S = 30.0

# Lease and absence bound the attempts, not their number.
_BACKOFF = Backoff(first_s=0.05, max_s=1.0, attempts_max=None)
# Longer than a connection that went silent takes to be noticed (see options); the call is then made over a new one.
_FINISH_TIMEOUT_S = 35.0


class Drive:
    """Drives one claimed run. `on_interrupt` hears of interrupts, `on_input` of each input once, `on_change` of
    everything.
    """

    def __init__(
        self,
        stub: RunnerServiceAsyncStub,
        run: Run,
        lease: Lease,
        outbox: Outbox,
        *,
        on_interrupt: Callable[[InterruptCommand], None],
        on_input: Callable[[InputCommand], None],
        on_change: Callable[[], None],
        away_s: float,
    ) -> None:
        self._stub = stub
        self._open = DriveRunOpen(run_id=run.run_id, lease_token=lease.token)
        self._outbox = outbox
        self._on_interrupt = on_interrupt
        self._on_input = on_input
        self._on_change = on_change
        self._away_s = away_s
        self._patience = Patience(_BACKOFF, random.random)
        self._something_to_send = asyncio.Event()
        self._standing = asyncio.Event()  # the present call was opened: the outbox knows where to go on
        self._acknowledgements: list[str] = []
        self._inputs_known: set[str] = set()
        self._inputs_taken: set[str] = set()
        self._inputs_to_acknowledge: list[str] = []
        self._report: DriveRunFinish | None = None
        self._report_sent = False
        self._finished: DriveRunFinished | None = None
        self._loop = asyncio.get_running_loop()
        self._renew(lease)
        self.opened = asyncio.Event()

    def wake(self) -> None:
        """Says that the outbox has something."""
        self._something_to_send.set()

    def acknowledge_input(self, input_id: str) -> None:
        """Says that an input was taken, before anything that is written from now on."""
        self._inputs_taken.add(input_id)
        self._inputs_to_acknowledge.append(input_id)
        self.wake()

    def report(self, report: DriveRunFinish) -> None:
        """Sends this as the run's end, after everything that is in the outbox."""
        self._report = report
        self.wake()

    async def run(self) -> DriveRunFinished:
        """Drives the run to its end and returns what became of the report.

        Raises LeaseLost and RunFinished (with its terminal, if it is known) when the run is no longer this
        runner's, and any other SessionPlaneError that makes it impossible to go on.
        """
        while True:
            error = await self._one_call()
            if self._finished is not None and self._finished.finish_result:
                return self._finished
            if isinstance(error, RunFinished) and self._report_sent and self._report is not None:
                return await self.finish(self._report)
            await asyncio.sleep(self._judge(error))

    async def finish(self, report: DriveRunFinish) -> DriveRunFinished:
        """Reports the end by a unary call, where no stream can. Raises SessionPlaneError."""
        request = FinishRunRequest(
            run_id=self._open.run_id,
            lease_token=self._open.lease_token,
            outcome=report.outcome,
            output_text=report.output_text if report.HasField("output_text") else None,
            result=report.result if report.HasField("result") else None,
            failure=report.failure if report.HasField("failure") else None,
        )
        answer = await unary(self._stub.FinishRun, request, timeout_s=_FINISH_TIMEOUT_S)
        return DriveRunFinished(
            finish_result=answer.finish_result,
            terminal=answer.terminal,
            terminal_sequence=answer.terminal_sequence,
        )

    def _judge(self, error: SessionPlaneError) -> float:
        """Returns how long to wait before the next call; raises if there must be none."""
        if isinstance(error, RunFinished) and self._finished is not None:
            error.terminal = self._finished.terminal
        delay_s = self._patience.failed(error)
        if self._loop.time() + delay_s > self._heard_at_s + self._lease_s + self._away_s:
            raise LeaseLost(
                StatusCode.UNAVAILABLE,
                "LEASE_LOST",
                f"The server was not heard for {self._lease_s + self._away_s:g} s, a whole lease"
                f" and more: {error.message}",
                {"run_id": self._open.run_id},
            ) from error
        return delay_s

    async def _one_call(self) -> SessionPlaneError:
        """Makes one call and returns how it ended."""
        self._standing.clear()
        call = self._stub.DriveRun()
        sender = asyncio.create_task(self._send(call))
        try:
            while isinstance(response := await call.read(), DriveRunResponse):
                self._take(response)
        except AioRpcError as error:
            return from_rpc_error(error)
        except asyncio.CancelledError:
            if was_cancelled():
                raise
            return client_closed()
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return SessionPlaneError(
            StatusCode.INTERNAL, "NO_TERMINAL", "The stream ended without the run's terminal."
        )

    def _take(self, response: DriveRunResponse) -> None:
        self._heard_at_s = self._loop.time()
        match response.WhichOneof("response"):
            case "opened":
                self._renew(response.opened.lease)
                self._outbox.rewind(response.opened.run.last_run_sequence)
                waiting = response.opened.run.waiting_input_ids
                self._inputs_to_acknowledge = [each for each in waiting if each in self._inputs_taken]
                self._standing.set()
                self.opened.set()
            case "published":
                self._patience.succeeded()
                self._outbox.acknowledge(response.published.last_run_sequence)
            case "command" if response.command.HasField("interrupt"):
                if response.command.interrupt.interrupt_id not in self._acknowledgements:
                    self._acknowledgements.append(response.command.interrupt.interrupt_id)
                self._on_interrupt(response.command.interrupt)
            case "command" if response.command.HasField("input"):
                self._take_input(response.command.input)
            case "lease":
                self._patience.succeeded()
                self._renew(response.lease)
            case "finished":
                self._finished = response.finished
        self.wake()
        self._on_change()

    def _take_input(self, command: InputCommand) -> None:
        if command.input_id not in self._inputs_known:
            self._inputs_known.add(command.input_id)
            self._on_input(command)

    def _renew(self, lease: Lease) -> None:
        # The span, not the times: those are by the server's clock.
        self._lease_s = lease.duration.ToTimedelta().total_seconds()
        self._heartbeat_s = max(self._lease_s / 3, 0.1)
        self._heard_at_s = self._loop.time()

    async def _send(self, call: _Call) -> None:
        message = DriveRunRequest(open=self._open)
        try:
            await call.write(message)
            await self._standing.wait()
            while not message.HasField("finish"):
                message = await self._next(since_s=self._loop.time())
                await call.write(message)
            await call.done_writing()
        except (AioRpcError, asyncio.InvalidStateError):
            return  # the call is over, and the reader learns why

    async def _next(self, *, since_s: float) -> DriveRunRequest:
        while True:
            self._something_to_send.clear()
            if (message := self._ready()) is not None:
                return message
            try:
                async with asyncio.timeout_at(since_s + self._heartbeat_s):
                    await self._something_to_send.wait()
            except TimeoutError:
                return DriveRunRequest(heartbeat=DriveRunHeartbeat())

    def _ready(self) -> DriveRunRequest | None:
        if self._acknowledgements or self._inputs_to_acknowledge:
            return DriveRunRequest(acknowledge=self._acknowledgement())
        if (publication := self._outbox.next_publication()) is not None:
            return DriveRunRequest(publish=publication)
        if self._report is not None and self._outbox.all_sent:
            self._report_sent = True
            return DriveRunRequest(finish=self._report)
        return None

    def _acknowledgement(self) -> DriveRunAcknowledge:
        taken, self._inputs_to_acknowledge = self._inputs_to_acknowledge, []
        heard = self._acknowledgements.pop(0) if self._acknowledgements else ""
        return DriveRunAcknowledge(interrupt_id=heard, input_ids=taken)
