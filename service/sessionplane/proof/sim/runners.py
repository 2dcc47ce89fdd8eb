"""Runners: they claim, publish, stay alive and report; some freeze and come back, some die, some do things twice."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration

from sessionplane.proof.sim.clients import POOL, Actor
from sessionplane.proof.sim.drives import Driver
from sessionplane.proof.sim.network import Lost, Refused
from sessionplane.proof.sim.plan import LEASE_MS, SWEEP_MS
from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as pb

LEASE = Duration(seconds=LEASE_MS // 1000)
FROZEN_S = (LEASE_MS + 3 * SWEEP_MS) / 1000

DRIVES = 0.4
FREEZES = 0.5
DIES = 0.25
"""How many runners drive over a stream, and how often a bad one freezes or dies after a publication."""


class Gone(Exception):
    """The runner has no business with this run any more."""


class Runner(Actor):
    """One runner. It claims as long as there is something to do and the world goes on."""

    healthy = False

    async def live(self) -> None:
        """Work on one run after another."""
        for _ in range(self.world.plan.steps // 2 + 1):
            await self.work_on_one(self.some_run() if self.happens(0.5) else "")
            await self.think()

    async def work_on_one(self, run_id: str) -> None:
        """Claim a run, or whatever the pool has, and do it."""
        request = pb.ClaimRunRequest(
            runner_id=self.name, lease_duration=LEASE, request_id=self.fresh(".claim")
        )
        if run_id:
            request.run_id = run_id
        else:
            request.pool = POOL
        claim = await self.ask("ClaimRun", request, timeout_s=2.5 if self.healthy else 1.5, times=3)
        if claim is not None and claim.claimed:
            try:
                await self._work_on(claim)
            except Gone:
                return

    async def _work_on(self, claim: pb.ClaimRunResponse) -> None:
        """Do a claimed run: over a stream of its own, or call by call."""
        if self.healthy:
            await Work(self, claim).do_well()
        elif self.happens(DRIVES):
            zombie = self.happens(self.world.plan.zombies)
            await Driver(self, claim, freeze=lambda: self.frozen_s() if zombie else 0.0).do()
        else:
            await Work(self, claim).do()

    def frozen_s(self) -> float:
        """Return for how long a bad runner freezes now: mostly not at all, or for longer than its lease."""
        return self.chance.random() * 2 * FROZEN_S if self.happens(FREEZES) else 0.0

    async def insist(self, method: str, request: Any) -> Any:
        """Call until there is an answer. Raises Gone for a refusal, and when patience is over."""
        for _ in range(6):
            try:
                return await self.world.net.call(self.name, method, request, timeout_s=2.0)
            except Lost:
                await asyncio.sleep(self.chance.random() * 0.2)
            except Refused as refused:
                if refused.refusal.code in {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}:
                    await asyncio.sleep(self.chance.random() * 0.3)
                    continue
                raise Gone from refused
        raise Gone


class Work:
    """One claimed run, as its runner does it."""

    def __init__(self, runner: Runner, claim: Any) -> None:
        self._runner = runner
        self._holder = {"run_id": claim.run.run_id, "lease_token": claim.lease.token}
        self._next = claim.run.last_run_sequence + 1
        self._interrupt = ""
        # Inputs that were handed out and not acknowledged yet.
        self._inputs: list[str] = []

    async def do_well(self) -> None:
        """Publish once and report."""
        await self._publish()
        await self._finish(1)

    async def do(self) -> None:
        """Do it, well or badly."""
        runner = self._runner
        zombie = runner.happens(runner.world.plan.zombies)
        if runner.happens(0.1):
            request = pb.ReleaseRunRequest(**self._holder, request_id=runner.fresh(".release"))
            await runner.insist("ReleaseRun", request)
            if not zombie:
                return
        if zombie:
            await asyncio.sleep(runner.frozen_s())
        for _ in range(runner.chance.choice((0, 1, 2, 3))):
            await self._publish()
            await runner.think()
            if zombie:
                await asyncio.sleep(runner.frozen_s())
                if runner.happens(DIES):
                    return
            if runner.happens(0.25):
                await self._heartbeat()
            if self._interrupt and await self._heed():
                return
        if not (zombie and runner.happens(0.5)):
            await self._finish(runner.chance.choice((1, 1, 2)))

    async def _publish(self) -> None:
        """Publish some events, under the number that the first of them has."""
        runner = self._runner
        events = [
            pb.NewEvent(output_delta={"text": f"{runner.fresh('/tëxt')} "})  # type: ignore[arg-type]
            for _ in range(runner.chance.choice((1, 2, 3)))
        ]
        first = self._next
        if not runner.healthy and runner.happens(0.05):
            first += 2  # A hole, which must be refused.
        request = pb.PublishEventsRequest(
            **self._holder, events=events, first_run_sequence=first, acknowledged_input_ids=self._taken()
        )
        heard = await runner.insist("PublishEvents", request)
        self._next = heard.last_run_sequence + 1
        self._hear(heard)
        if runner.happens(0.1) and not runner.healthy:
            self._hear(await runner.insist("PublishEvents", request))

    async def _heartbeat(self) -> None:
        request = pb.HeartbeatRunRequest(**self._holder, acknowledged_input_ids=self._taken())
        self._hear(await self._runner.insist("HeartbeatRun", request))

    def _taken(self) -> list[str]:
        """Say which inputs were taken: some of those that were handed out."""
        if not self._runner.happens(0.7):
            return []
        taken, self._inputs = self._inputs, []
        return taken

    def _hear(self, heard: Any) -> None:
        for command in heard.commands:
            if command.HasField("interrupt"):
                self._interrupt = command.interrupt.interrupt_id
            elif command.input.input_id not in self._inputs:
                self._inputs.append(command.input.input_id)

    async def _heed(self) -> bool:
        """Say that the interrupt was heard, and mostly stop; returns whether it did."""
        runner = self._runner
        if runner.happens(0.3):
            return False
        told = pb.HeartbeatRunRequest(**self._holder, acknowledged_interrupt_id=self._interrupt)
        await runner.insist("HeartbeatRun", told)
        if runner.happens(0.3):
            return False
        await self._finish(3)
        return True

    async def _finish(self, outcome: int) -> None:
        """Report, sometimes twice, sometimes otherwise the second time."""
        runner = self._runner
        request = pb.FinishRunRequest(**self._holder, outcome=outcome)  # type: ignore[arg-type]
        if runner.happens(0.3):
            request.output_text = runner.fresh(".whole")
        if outcome == run_pb2.RUN_OUTCOME_FAILED:
            request.failure.reason = "NO_LUCK"
        await runner.insist("FinishRun", request)
        if runner.happens(0.2) and not runner.healthy:
            if runner.happens(0.5):
                request.output_text = runner.fresh(".other")
            await runner.insist("FinishRun", request)


class Healer(Runner):
    """A runner of the calm: it claims whatever is left and ends it at once."""

    healthy = True

    async def live(self) -> None:
        """Take whatever was seen to wait, again and again."""
        while True:
            for run_id in list(self.world.waiting):
                await self.work_on_one(run_id)
            await asyncio.sleep(0.1)
