"""Runners: they claim, publish, stay alive and report, unary or over DriveRun; some die, some come back late."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration

from sessionplane.proof.history.line import Lost, Refused
from sessionplane.proof.kill.world import LEASE_S, POOL, Actor
from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as pb
from sessionplane.v1.event_pb2 import OutputDelta

DEAD, FROZEN = 0.03, 0.08
"""So often does a runner die, or freeze until its lease is over, before each of its publications."""

PACES_S = (0.0, 0.0, 0.0, 0.4)
"""How long a runner thinks between two publications at the most."""

TWICE = 0.1
"""So often does a runner report twice."""

TRIES = 8
"""So often is a stream opened to say one thing."""

WAIT_S = 0.5
"""So long does a claim wait for a run."""


class Gone(Exception):
    """The runner has no business with this run any more."""


class Runner(Actor):
    """Takes one run after another from the pool, as long as it is not told to go."""

    going = False

    async def live(self) -> None:
        """Work until there is nothing left."""
        while not self.going:
            claim = await self._claim()
            if claim is not None and claim.claimed:
                try:
                    await self._work(claim)
                except Gone:
                    continue

    async def _claim(self) -> Any:
        request = pb.ClaimRunRequest(
            pool=POOL,
            runner_id=self.name,
            lease_duration=Duration(seconds=int(LEASE_S)),
            request_id=self.fresh("claim"),
        )
        while True:
            try:
                return await self.line.call("ClaimRun", request, timeout_s=WAIT_S)
            except Lost:
                continue
            except Refused:
                return None

    async def _work(self, claim: Any) -> None:
        """Do a run: well, mostly. Raises Gone."""
        work = Work(self, claim) if self.happens(0.5) else DrivenWork(self, claim)
        pace_s = self.chance.choice(PACES_S)
        for _ in range(self.chance.randrange(1, 5)):
            if await self._fails():
                break
            await work.publish()
            if not self.world.ending:
                await self.think(pace_s)
        await work.finish()

    async def _fails(self) -> bool:
        """Die or freeze now and then, while the world is not at its end; returns whether to report at once, since it
        was frozen for long. Raises Gone.
        """
        if self.world.ending:
            return False
        if self.happens(DEAD):
            raise Gone
        if not self.happens(FROZEN):
            return False
        await asyncio.sleep(LEASE_S * 2)
        return self.happens(0.5)


class Work:
    """One claimed run, done by unary calls."""

    def __init__(self, runner: Runner, claim: Any) -> None:
        self.runner = runner
        self.holder: dict[str, Any] = {"run_id": claim.run.run_id, "lease_token": claim.lease.token}
        self.next = claim.run.last_run_sequence + 1
        self.interrupt_id = ""
        self.inputs: list[str] = []

    def events(self) -> list[pb.NewEvent]:
        """Make some events; every one has a text of its own."""
        chance = self.runner.chance
        texts = [f"{self.runner.fresh('text')} " for _ in range(chance.randrange(1, 4))]
        return [pb.NewEvent(output_delta=OutputDelta(text=text)) for text in texts]

    async def publish(self) -> None:
        """Publish once, and acknowledge what was handed out. Raises Gone."""
        request = pb.PublishEventsRequest(
            **self.holder,
            events=self.events(),
            first_run_sequence=self.next,
            acknowledged_input_ids=self.inputs,
        )
        answer = await self._insist("PublishEvents", request)
        self.next = answer.last_run_sequence + 1
        self._hear(answer)
        if self.interrupt_id and self.runner.happens(0.7):
            told = pb.HeartbeatRunRequest(**self.holder, acknowledged_interrupt_id=self.interrupt_id)
            self._hear(await self._insist("HeartbeatRun", told))

    async def finish(self) -> None:
        """Report; now and then once more, and otherwise. Raises Gone."""
        outcome = run_pb2.RUN_OUTCOME_INTERRUPTED if self.interrupt_id else run_pb2.RUN_OUTCOME_SUCCEEDED
        await self._insist("FinishRun", pb.FinishRunRequest(**self.holder, outcome=outcome))
        if self.runner.happens(TWICE):
            other = pb.FinishRunRequest(**self.holder, outcome=run_pb2.RUN_OUTCOME_FAILED)
            await self._insist("FinishRun", other)

    def _hear(self, answer: Any) -> None:
        self.inputs = []
        for command in answer.commands:
            if command.HasField("interrupt"):
                self.interrupt_id = command.interrupt.interrupt_id
            else:
                self.inputs.append(command.input.input_id)

    async def _insist(self, method: str, request: Any) -> Any:
        answer = await self.runner.ask(method, request)
        if answer is None:
            raise Gone
        return answer


class DrivenWork(Work):
    """One claimed run, done over DriveRun: after each loss a new stream goes on where the old one was."""

    async def publish(self) -> None:
        """Publish once. Raises Gone."""
        events = self.events()
        for _ in range(TRIES):
            try:
                async with self.runner.line.drive(**self.holder) as drive:
                    self.next = await drive.publish(events, self.next) + 1
                    return
            except Lost:
                await self.runner.think(0.2)
        raise Gone

    async def finish(self) -> None:
        """Report. Raises Gone."""
        for _ in range(TRIES):
            try:
                async with self.runner.line.drive(**self.holder) as drive:
                    await drive.finish(run_pb2.RUN_OUTCOME_SUCCEEDED)
                    return
            except Lost:
                await self.runner.think(0.2)
        raise Gone
