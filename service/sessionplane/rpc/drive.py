"""DriveRun on the wire: one task reads, one watches the run, one answers, and the store's writer works between them.

The reader submits what it reads without waiting for the commit, so that a runner can keep a window full; what is to be
answered stands in line in that order. Publications that are committed by the time their turn comes share one answer,
since an acknowledgement covers all before it. A report says behind which publications it stands, so that one which was
lost (a full disk) cannot be followed by an end that looks complete. The watcher puts a look at the run in the same
line whenever the run's bell rings: for an interrupt to hand out, or an end that came from elsewhere. Only the
handler's own task writes.

Owned by the handler's task: the line (bounded by `drive_window_max`), the two helpers (cancelled and awaited as it
leaves), and the seat, which a newer stream with the same lease takes over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import grpc

from sessionplane.domain.errors import (
    Disconnected,
    Draining,
    FieldInvalid,
    LeaseLost,
    RunFinished,
    SessionPlaneError,
    SlowConsumer,
)
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.bells import Ticket
from sessionplane.live.pulse import Pulse
from sessionplane.plane import inputs, runners, runs, stopping
from sessionplane.plane.claims import Holder
from sessionplane.plane.context import run_topic
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.runners import Finished, Heard
from sessionplane.plane.sessions import RunView
from sessionplane.rpc import pacing, render
from sessionplane.rpc.guard import Context
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Published:
    """A publication stands in line."""

    heard: asyncio.Future[Heard]


@dataclass(frozen=True, slots=True)
class Extended:
    """A heartbeat or an acknowledgement stands in line."""

    heard: asyncio.Future[Heard]


@dataclass(frozen=True, slots=True)
class Reported:
    """The report stands in line; nothing comes behind it."""

    finished: asyncio.Future[Finished]


@dataclass(frozen=True, slots=True)
class Look:
    """The run is to be looked at."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The stream is over: with an error, or because the runner closed its side."""

    error: BaseException | None


Item = Published | Extended | Reported | Look | Leave


class Driver:
    """Serves the DriveRun streams of one plane; `seats` says which stream drives which run."""

    def __init__(self, plane: ControlPlane, parser: Parser) -> None:
        self._plane = plane
        self._parser = parser
        self._seats: dict[tuple[str, str], _Drive] = {}

    async def serve(self, context: Context) -> None:
        """Serve one stream until the run is over or the stream is.

        Raises FieldInvalid, RunNotFound, LeaseLost, RunFinished, Disconnected, Draining, and what publications raise.
        A runner that sends and does not read is ended with SlowConsumer.
        """
        drive = _Drive(self._plane, self._parser, self._opened(await self._first(context)), context)
        drive.pulse.start()
        try:
            stuck = await pacing.until_stuck(drive, self._drive(drive))
        finally:
            drive.pulse.stop()
        if stuck is not None:
            limits = self._plane.limits
            slow = SlowConsumer(seconds=limits.slow_subscriber_ms // 1000)
            await pacing.refuse(drive.left or slow, context, limits)

    async def _drive(self, drive: _Drive) -> None:
        """Take the run's seat from whoever drove it before, and serve."""
        view, heard = await drive.open()
        seat = (drive.holder.namespace, drive.holder.run_id)
        before = self._seats.get(seat)
        if before is not None:
            before.leave(Disconnected())
        self._seats[seat] = drive
        try:
            await drive.serve(view, heard)
        finally:
            if self._seats.get(seat) is drive:
                del self._seats[seat]

    async def _first(self, context: Context) -> Any:
        """Wait for the first message, but not for ever: until then nothing bounds the streams that do nothing."""
        wait_ms = self._plane.limits.drive_open_ms
        try:
            async with asyncio.timeout(wait_ms / 1000):
                return await context.read()
        except TimeoutError:
            raise FieldInvalid(field="request", problem=f"`open` did not come within {wait_ms} ms") from None

    def _opened(self, request: Any) -> Holder:
        """Read the first message, which must show the lease."""
        if isinstance(request, SessionPlaneError):
            raise request
        if request is grpc.aio.EOF or request.WhichOneof("request") != "open":
            raise FieldInvalid(field="request", problem="the first message must be `open`")
        return self._parser.holder(request.open.run_id, request.open.lease_token)


class _Drive:
    """One open stream. Its pulse has nothing to do but to notice a runner that does not read."""

    ended: ClosingReason | None = None

    def __init__(self, plane: ControlPlane, parser: Parser, holder: Holder, context: Context) -> None:
        self._plane = plane
        self._parser = parser
        self.holder = holder
        self.pulse = Pulse(self, limits=plane.limits)
        self.left: SessionPlaneError | None = None
        self._context = context
        self._line: deque[Item] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Semaphore(plane.limits.drive_window_max)
        self._reported = False
        # The run_sequence that this stream's publications reach, committed or not.
        self._reached = 0
        # What was handed out last: an interrupt that another joined may have become urgent since.
        self._told: tuple[str, str, int | None] | None = None
        # The place up to which inputs were handed out.
        self._given_to: int | None = None

    async def open(self) -> tuple[RunView, Heard]:
        """Show the lease; return the run with its input. Raises what `runners.open_drive` raises."""
        try:
            view, heard = await self._plane.execute(lambda tx, use: runners.open_drive(tx, self.holder, use))
        except RunFinished:
            await self._write_end()
            raise
        self._reached = view.run.last_run_sequence
        return view, heard

    def wake(self) -> None:
        """Nothing is to be said of silence: the lease says it."""

    def end(self, reason: ClosingReason) -> None:
        """A drive has no age."""

    async def serve(self, view: RunView, heard: Heard) -> None:
        """Show the run, then answer what stands in line until something ends the stream."""
        shown = render.run(self._plane, view, whole=True)
        await self._write(opened=pb.DriveRunOpened(run=shown, lease=render.lease(heard.lease)))
        topic = run_topic(self.holder.namespace, self.holder.run_id)
        with self._plane.bells.listen(topic) as ticket:
            helpers = [asyncio.create_task(self._read()), asyncio.create_task(self._watch(ticket))]
            for helper in helpers:
                helper.add_done_callback(self._ended)
            try:
                self._put(Look())
                while await self._answer(await self._next()):
                    continue
            except RunFinished:
                await self._write_end()
                raise
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                self._give_up()

    def _give_up(self) -> None:
        """Take note of what still stands in line, though nobody hears of it any more: its errors are no secrets."""
        for item in self._line:
            match item:
                case Published(heard=future) | Extended(heard=future) | Reported(finished=future):
                    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _ended(self, helper: asyncio.Task[None]) -> None:
        """Let what a helper raised end the stream in its turn: a refusal, or a bug that must not hide."""
        if not helper.cancelled() and helper.exception() is not None:
            self._put(Leave(helper.exception()))

    def leave(self, error: SessionPlaneError) -> None:
        """End the stream, once what stands in line before is answered."""
        self.left = error
        self._put(Leave(error))
        self.pulse.hurry()

    def _put(self, item: Item) -> None:
        self._line.append(item)
        self._more.set()

    async def _next(self) -> Item:
        while not self._line:
            self._more.clear()
            await self._more.wait()
        return self._line.popleft()

    async def _read(self) -> None:
        """Submit what the runner sends, as long as there is room in the window; raises what that raises."""
        while True:
            request = await self._context.read()
            if request is grpc.aio.EOF:
                return self._put(Leave(None))
            if isinstance(request, SessionPlaneError):
                raise request
            await self._room.acquire()
            self._put(self._submit(request))

    def _submit(self, request: pb.DriveRunRequest) -> Item:
        """Queue the use case for one message. Raises what reading it and submitting it raise."""
        kind = request.WhichOneof("request")
        if self._reported:
            raise FieldInvalid(field="request", problem="nothing may follow `finish`")
        if kind == "publish":
            asked = self._parser.publish(self.holder, request.publish)
            first = asked.first_run_sequence or self._reached + 1
            self._reached = max(self._reached, first + len(asked.events) - 1)
            return Published(
                self._plane.execute(
                    lambda tx, use: runners.publish(tx, asked, use, deliver=False),
                    size=request.ByteSize(),
                )
            )
        if kind == "finish":
            report = replace(
                self._parser.finish(self.holder, request.finish), after_run_sequence=self._reached
            )
            self._reported = True
            return Reported(
                self._plane.execute(lambda tx, use: runners.finish(tx, report, use), size=request.ByteSize())
            )
        if kind in {"heartbeat", "acknowledge"}:
            heard = request.acknowledge.interrupt_id
            taken = self._parser.input_ids(request.acknowledge.input_ids, "acknowledge.input_ids")
            return Extended(
                self._plane.execute(
                    lambda tx, use: runners.heartbeat(
                        tx,
                        self.holder,
                        use,
                        acknowledged_interrupt_id=heard,
                        acknowledged_input_ids=taken,
                        deliver=False,
                    )
                )
            )
        problem = "`open` comes first and once" if kind == "open" else "it is empty"
        raise FieldInvalid(field="request", problem=problem)

    async def _watch(self, ticket: Ticket) -> None:
        """Look at the run whenever its bell rings. Raises Draining when the server stops."""
        while True:
            await ticket.wait()
            if self._plane.draining:
                raise Draining
            self._put(Look())

    async def _answer(self, item: Item) -> bool:
        """Answer what stands first in line; False if that was the end."""
        match item:
            case Published(heard=heard):
                await self._write(published=await self._committed(heard))
            case Extended(heard=heard):
                self._room.release()
                await self._write(lease=render.lease((await heard).lease))
            case Reported(finished=finished):
                await self._write_report(await finished)
                return False
            case Look():
                await self._look()
            case Leave(error=error):
                if error is not None:
                    raise error
                return False
        return True

    async def _committed(self, heard: asyncio.Future[Heard]) -> pb.DriveRunPublished:
        """Answer this publication, and those behind it that are committed already."""
        newest = await heard
        self._room.release()
        repeated = newest.duplicate_count
        while self._line:
            behind = self._line[0]
            if not isinstance(behind, Published) or not behind.heard.done() or behind.heard.exception():
                break
            self._line.popleft()
            self._room.release()
            newest = behind.heard.result()
            repeated += newest.duplicate_count
        return pb.DriveRunPublished(
            last_run_sequence=newest.last_run_sequence,
            last_sequence=newest.last_sequence,
            duplicate_count=repeated,
        )

    async def _look(self) -> None:
        """Hand out what was not handed out on this stream yet; notice that the run is gone."""
        holder = self.holder
        run = self._plane.read(lambda tx: tx.run(holder.namespace, holder.run_id))
        if run is None or run.lease_token != holder.lease_token:
            raise LeaseLost(run_id=holder.run_id, current_epoch=run.lease_epoch if run else 0)
        if run.state is RunState.FINISHED:
            if self._reported:
                return  # By this stream's own report: its answer is on its way.
            raise RunFinished(run_id=run.run_id, outcome=run.outcome, terminal_sequence=run.terminal_sequence)
        await self._hand_out_interrupt(run)
        await self._hand_out_inputs(run)

    async def _hand_out_interrupt(self, run: Run) -> None:
        """Hand out the interrupt. It is delivered once it was written, so that stage is recorded after the write."""
        command = self._plane.read(lambda tx: stopping.open_command(tx, run))
        if command is None:
            return
        told = (command.interrupt_id, command.mode, command.escalate_at_ms)
        if self._told == told:
            return
        self._told = told
        await self._write(command=render.stop_command(command))
        await self._plane.execute(lambda tx, use: stopping.deliver(tx, run.namespace, run.run_id, use))

    async def _hand_out_inputs(self, run: Run) -> None:
        """Hand out the inputs that came since, one by one: their places only rise."""
        while True:
            waiting = self._plane.read(lambda tx: inputs.next_to_hand_out(tx, run, after=self._given_to))
            if waiting is None:
                return
            self._given_to = waiting.place
            await self._write(command=render.input_command(waiting))

    async def _write_report(self, finished: Finished) -> None:
        await self._write(
            finished=pb.DriveRunFinished(
                finish_result=render.FINISH_RESULTS[finished.result],
                terminal=render.terminal(finished.run.terminal, whole=True),
                terminal_sequence=finished.run.terminal_sequence,
            )
        )

    async def _write_end(self) -> None:
        """Show the runner how its run ended without it."""
        holder = self.holder
        run = self._plane.read(lambda tx: runs.require_run(tx, holder.namespace, holder.run_id))
        await self._write(
            finished=pb.DriveRunFinished(
                terminal=render.terminal(run.terminal, whole=True), terminal_sequence=run.terminal_sequence
            )
        )

    async def _write(
        self,
        *,
        opened: pb.DriveRunOpened | None = None,
        published: pb.DriveRunPublished | None = None,
        command: run_pb2.Command | None = None,
        lease: run_pb2.Lease | None = None,
        finished: pb.DriveRunFinished | None = None,
    ) -> None:
        response = pb.DriveRunResponse(
            opened=opened, published=published, command=command, lease=lease, finished=finished
        )
        await pacing.write(self, self._context, response)
