"""What goes wrong: the process dies and starts again, the machine sleeps, its clock is set, the disk fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from random import Random
from typing import Any

from sessionplane.proof.history.records import Happening, Recorder
from sessionplane.proof.sim.disk import Disk
from sessionplane.proof.sim.loop import Process, SeededLoop
from sessionplane.proof.sim.network import Network, Odds
from sessionplane.proof.sim.plan import Plan
from sessionplane.proof.sim.server import STOPPED, Server, WorldClock
from sessionplane.proof.sim.trouble import QUICK_S, Planned, Trouble

CRASHES = frozenset({Trouble.CRASH, Trouble.CRASH_AFTER})
AWAY_S = 1.5


class Names:
    """Ids and secrets that count, each kind from 1, as long as a world lasts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def new_id(self, prefix: str) -> str:
        """Return the prefix and 32 hexadecimal digits, as real ids have them."""
        self._counts[prefix] += 1
        return f"{prefix}{self._counts[prefix]:032x}"

    def new_secret(self) -> str:
        """Return another secret each time."""
        return self.new_id("lse_")


class Chaos:
    """Keeps a server running, and sees to it that it does not run well. Belongs to no process."""

    def __init__(self, plan: Plan, loop: SeededLoop, net: Network, disk: Disk, recorder: Recorder) -> None:
        self._plan = plan
        self._loop = loop
        self._net = net
        self._disk = disk
        self._recorder = recorder
        self._clock = WorldClock(loop)
        self._ids = Names()
        self._chance = Random(f"chaos {plan.seed}")
        # How many steps the server has left, once a crash is armed.
        self._left: int | None = None
        self._calm = False
        self._ready: asyncio.Future[None] = loop.create_future()
        self.starts = 0

    def begin(self) -> None:
        """Start the server, and plan what is to come."""
        self._net.odds = self._plan.odds
        self._disk.troubles.on_trouble = self._trouble
        self._disk.troubles.commit_s = self._plan.commit_s
        self._loop.on_step = self._step
        self._start()
        for at, planned in self._plan.troubles:
            self._later(at, self._plan_trouble, planned)
        for at, steps in self._plan.crashes:
            self._later(at, self._arm, steps)
        for at in self._plan.restarts:
            self._later(at, self._restart)
        for at, span_s in self._plan.pauses:
            self._later(at, self._pause, span_s)
        for at, ms in self._plan.jumps:
            self._later(at, self._jump, ms)

    def _later(self, at: float, act: Callable[..., None], *given: Any) -> None:
        self._loop.call_later(at, self._unless_calm, act, *given)

    def _unless_calm(self, act: Callable[..., None], *given: Any) -> None:
        if not self._calm:
            act(*given)

    def _start(self) -> None:
        self.starts += 1
        server = Server(
            self._loop,
            self._disk,
            clock=self._clock,
            new_id=self._ids.new_id,
            new_secret=self._ids.new_secret,
            limits=self._plan.limits,
            freshness=self._plan.freshness,
            chance=Random(f"server {self.starts} {self._plan.seed}"),
        )
        server.on_ready = self._is_ready
        server.on_exit = lambda why: self._exited(server, why)
        self._net.server = server

    def _is_ready(self) -> None:
        self._recorder.happened(Happening.READY)
        if not self._ready.done():
            self._ready.set_result(None)

    async def ready(self) -> None:
        """Wait until a server serves."""
        await self._ready

    def _not_ready(self) -> None:
        if self._ready.done():
            self._ready = self._loop.create_future()

    def _gone(self, what: Happening, detail: str) -> None:
        """The process is no more: start the next one, after a while."""
        self._recorder.happened(what, detail)
        self._not_ready()
        self._loop.call_later(self._chance.random() * AWAY_S, self._start)

    def _exited(self, server: Server, why: str) -> None:
        server.kill()
        stopped = why == STOPPED
        self._gone(Happening.STOPPED if stopped else Happening.CRASHED, why)

    def _crash(self, why: str) -> None:
        server = self._net.server
        if server is not None and server.process.alive:
            server.kill()
            self._gone(Happening.CRASHED, why)

    def _step(self, process: Process) -> None:
        server = self._net.server
        if server is None or process is not server.process:
            return
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self._left = None
            self._crash(f"before step {process.steps}")

    def _arm(self, steps: int) -> None:
        self._left = steps

    def _plan_trouble(self, planned: Planned) -> None:
        # A copy: how often it was passed by is written into it, and the plan may be played again.
        self._disk.troubles.planned = replace(planned)

    def _trouble(self, trouble: Trouble) -> None:
        self._recorder.happened(Happening.TROUBLE, trouble.value)
        if trouble in CRASHES:
            # It comes in a step of the server, and what follows is no business of the dead.
            Context().run(self._crash, trouble.value)

    def _restart(self) -> None:
        server = self._net.server
        if server is not None and server.ready:
            self._recorder.happened(Happening.STOPPING)
            self._not_ready()
            server.ask_to_stop()

    def _pause(self, span_s: float) -> None:
        self._recorder.happened(Happening.ASLEEP)
        self._loop.pause(span_s)
        self._recorder.happened(Happening.AWAKE)

    def _jump(self, ms: int) -> None:
        self._recorder.happened(Happening.TROUBLE, f"the clock is set by {ms} ms")
        self._clock.offset_ms += ms

    async def calm(self) -> None:
        """Let nothing go wrong any more, and wait until a server serves."""
        self._calm = True
        self._left = None
        self._disk.troubles.planned = None
        self._disk.troubles.commit_s = QUICK_S
        self._net.odds = Odds()
        await self._ready
        self._recorder.happened(Happening.CALM)

    def end(self) -> None:
        """Kill the server for the last time."""
        self._loop.on_step = lambda _: None
        server = self._net.server
        if server is not None and server.process.alive:
            server.kill()
