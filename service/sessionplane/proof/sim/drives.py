"""Runners that drive their run over one stream, with a window of publications that nobody waits for.

What crosses the stream is recorded as the unary calls that say the same, each answered when its acknowledgement came,
so that the same validators judge it. Their answers bear no lease: commands are messages of their own here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from sessionplane.proof.history.records import Call
from sessionplane.proof.sim.clients import Actor
from sessionplane.proof.sim.flow import Flow
from sessionplane.proof.sim.network import Network
from sessionplane.proof.sim.open_call import Outcome
from sessionplane.v1 import event_pb2, run_pb2
from sessionplane.v1 import runner_service_pb2 as pb

SILENCE_S = 4.0
"""A runner that hears nothing for so long gives the stream up."""


CUT = frozenset({"cut", "nobody is there", "DRAINING", "SLOW_CONSUMER"})
"""After these a runner comes back."""

DIES, AGAIN, HEEDS, BEATS, GIVEN = 0.1, 0.1, 0.7, 0.2, 0.3
"""How likely a runner goes away in silence, sends something twice, heeds what it hears, says that it is alive, and
gives the whole text in its report.
"""


class Drive(Flow):
    """One DriveRun stream as its runner sees it. It ends with its report, or with the task that hears it."""

    def __init__(self, net: Network, client: str, run_id: str, lease_token: str, *, window: int) -> None:
        self._client = client
        self._holder: dict[str, Any] = {"run_id": run_id, "lease_token": lease_token}
        # What is not acknowledged yet, in the order in which it was sent: a lease answers what only extends it.
        self._publications: deque[Call] = deque()
        self._extensions: deque[Call] = deque()
        self._report: Call | None = None
        self.interrupt_id = ""
        self.input_ids: list[str] = []
        self.reached = 0
        """The highest number that is known to be committed."""
        self.opened: asyncio.Future[bool] = net.loop.create_future()
        """Whether the stream was opened."""
        request = pb.DriveRunOpen(**self._holder)
        super().__init__(net, "DriveRun", pb.DriveRunRequest(open=request), window=window)
        self._opening = self._called("DriveRun", request)
        self._extend(pb.HeartbeatRunRequest(**self._holder))

    def _called(self, method: str, request: Message) -> Call:
        return self._net.recorder.called(self._client, method, request)

    def _extend(self, request: pb.HeartbeatRunRequest) -> None:
        self._extensions.append(self._called("HeartbeatRun", request))

    def publish(self, events: list[pb.NewEvent], first: int) -> None:
        """Send events under the number that the first of them has."""
        request = pb.PublishEventsRequest(**self._holder, events=events, first_run_sequence=first)
        self._publications.append(self._called("PublishEvents", request))
        self.send(pb.DriveRunRequest(publish=pb.DriveRunPublish(events=events, first_run_sequence=first)))

    def heartbeat(self) -> None:
        """Stay alive."""
        self._extend(pb.HeartbeatRunRequest(**self._holder))
        self.send(pb.DriveRunRequest(heartbeat=pb.DriveRunHeartbeat()))

    def acknowledge(self, *, interrupt_id: str = "", input_ids: list[str]) -> None:
        """Say what was heard."""
        self._extend(
            pb.HeartbeatRunRequest(
                **self._holder, acknowledged_interrupt_id=interrupt_id, acknowledged_input_ids=input_ids
            )
        )
        heard = pb.DriveRunAcknowledge(interrupt_id=interrupt_id, input_ids=input_ids)
        self.send(pb.DriveRunRequest(acknowledge=heard))

    def finish(self, report: pb.FinishRunRequest) -> None:
        """Report; nothing follows it."""
        self._report = self._called("FinishRun", report)
        finish = pb.DriveRunFinish(outcome=report.outcome, failure=report.failure)
        if not report.HasField("failure"):
            finish.ClearField("failure")
        if report.HasField("output_text"):
            finish.output_text = report.output_text
        self.send(pb.DriveRunRequest(finish=finish))

    async def hear(self) -> str:
        """Hear until the stream is over, and return how it ended: OK, a reason, or that nobody knows."""
        try:
            while isinstance(thing := await self.next(timeout_s=SILENCE_S), bytes):
                self._take_in(pb.DriveRunResponse.FromString(thing))
        except TimeoutError:
            self.leave()
            thing = "nothing was heard"
        return self._ended(thing)

    def _ended(self, thing: Outcome | str) -> str:
        """Write off what was not acknowledged: it may have been done or not."""
        recorder = self._net.recorder
        how = thing if isinstance(thing, str) else "OK"
        if isinstance(thing, Outcome) and thing.refusal is not None:
            how = thing.refusal.reason
            request = pb.DriveRunOpen(**self._holder)
            call = self._called("DriveRun", request) if self.opened.done() else self._opening
            recorder.refused(call, thing.refusal)
        elif not self.opened.done():
            recorder.lost(self._opening, how)
        for call in (*self._publications, *self._extensions, *filter(None, [self._report])):
            recorder.lost(call, how)
        if not self.opened.done():
            self.opened.set_result(False)
        return how

    def _take_in(self, response: pb.DriveRunResponse) -> None:
        kind = response.WhichOneof("response")
        if kind == "published":
            self._acknowledged(response.published)
        elif kind == "lease":
            self._net.recorder.answered(self._extensions.popleft(), pb.HeartbeatRunResponse())
        elif kind == "command":
            self._commanded(response.command)
        elif kind == "opened":
            self._net.recorder.answered(self._extensions.popleft(), pb.HeartbeatRunResponse())
            self._net.recorder.answered(self._opening, response.opened)
            self.reached = response.opened.run.last_run_sequence
            self.opened.set_result(True)
        elif self._report is not None and response.finished.finish_result:
            ended = response.finished
            answer = pb.FinishRunResponse(
                finish_result=ended.finish_result,
                terminal=ended.terminal,
                terminal_sequence=ended.terminal_sequence,
            )
            self._net.recorder.answered(self._report, answer)
            self._report = None

    def _acknowledged(self, published: pb.DriveRunPublished) -> None:
        """Answer every publication that this one covers."""
        self.reached = published.last_run_sequence
        while self._publications:
            request = self._publications[0].request
            last = request.first_run_sequence + len(request.events) - 1
            if last > published.last_run_sequence:
                return
            answer = pb.PublishEventsResponse(
                last_run_sequence=last,
                last_sequence=published.last_sequence,
                duplicate_count=published.duplicate_count,
            )
            self._net.recorder.answered(self._publications.popleft(), answer)

    def _commanded(self, command: run_pb2.Command) -> None:
        if command.HasField("interrupt"):
            self.interrupt_id = command.interrupt.interrupt_id
        elif command.input.input_id not in self.input_ids:
            self.input_ids.append(command.input.input_id)


class Driver:
    """A runner that drives the run that it claimed: it comes back with the same lease when its stream is cut, and sends
    again what was not acknowledged.
    """

    TIMES_MAX = 4

    def __init__(self, actor: Actor, claim: pb.ClaimRunResponse, *, freeze: Callable[[], float]) -> None:
        self._actor = actor
        self._run_id, self._token = claim.run.run_id, claim.lease.token
        # How long it freezes now, in seconds; mostly not at all.
        self._freeze = freeze
        # What was sent and is not known to be committed: the number of the first event, and the events.
        self._unheard: list[tuple[int, list[pb.NewEvent]]] = []
        self._left = actor.chance.choice((0, 1, 2, 4))
        self._report: pb.FinishRunRequest | None = None

    async def do(self) -> None:
        """Do the run, through as many streams as it takes."""
        for _ in range(self.TIMES_MAX):
            if await self._through_one_stream() not in CUT:
                return
            await asyncio.sleep(self._actor.chance.random() * 0.5)

    async def _through_one_stream(self) -> str:
        """Go on with the run until the stream is over; returns how that ended."""
        actor = self._actor
        window = actor.chance.choice((1, 2, 8))
        drive = Drive(actor.world.net, actor.name, self._run_id, self._token, window=window)
        hearing = asyncio.get_running_loop().create_task(drive.hear())
        try:
            if await drive.opened:
                await self._work(drive)
            return await hearing
        finally:
            hearing.cancel()

    async def _work(self, drive: Drive) -> None:
        self._unheard = [sent for sent in self._unheard if sent[0] + len(sent[1]) - 1 > drive.reached]
        for first, events in self._unheard:
            drive.publish(events, first)
        while self._left and self._report is None and not drive.over:
            self._left -= 1
            self._publish(drive)
            await self._actor.think()
            await asyncio.sleep(self._freeze())
            self._heed(drive)
        if drive.over:
            return
        if self._report is None and self._actor.happens(DIES):
            drive.leave()
            return
        self._report = self._report or self._reported(run_pb2.RUN_OUTCOME_SUCCEEDED)
        drive.finish(self._report)

    def _publish(self, drive: Drive) -> None:
        actor = self._actor
        events = [
            pb.NewEvent(output_delta=event_pb2.OutputDelta(text=f"{actor.fresh('/tëxt')} "))
            for _ in range(actor.chance.choice((1, 2, 3)))
        ]
        last = self._unheard[-1] if self._unheard else (drive.reached + 1, [])
        first = last[0] + len(last[1])
        self._unheard.append((first, events))
        drive.publish(events, first)
        if actor.happens(AGAIN):
            drive.publish(events, first)

    def _heed(self, drive: Drive) -> None:
        """Say what was heard, most of the time, and stop if that was asked for."""
        actor = self._actor
        if drive.interrupt_id and actor.happens(HEEDS):
            drive.acknowledge(interrupt_id=drive.interrupt_id, input_ids=[])
            self._report = self._reported(run_pb2.RUN_OUTCOME_INTERRUPTED)
        elif drive.input_ids and actor.happens(HEEDS):
            taken, drive.input_ids = drive.input_ids, []
            drive.acknowledge(input_ids=taken)
        elif actor.happens(BEATS):
            drive.heartbeat()

    def _reported(self, outcome: run_pb2.RunOutcome.ValueType) -> pb.FinishRunRequest:
        report = pb.FinishRunRequest(run_id=self._run_id, lease_token=self._token, outcome=outcome)
        if self._actor.happens(GIVEN):
            report.output_text = self._actor.fresh(".whole")
        return report
