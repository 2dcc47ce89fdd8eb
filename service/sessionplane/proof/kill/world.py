"""What the clients of a server that is killed have in common: keys, what they heard of, and a hand that insists."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc

from sessionplane.proof.history.line import Line, Lost, Refused
from sessionplane.proof.history.records import Call, Recorder, Stream
from sessionplane.proof.history.traffic import of_call, of_frame
from sessionplane.v1.session_pb2 import SessionRef

BUSY = 4
"""So many keys have runs; all others are only resolved."""

POOL = "kill"
LEASE_S = 1.0

LATELY = 20
"""So many of the newest keys are asked for again."""

IMPATIENT = 0.05
"""The share of calls that are given up, sooner or later than they are done."""

SOON_S, PATIENT_S = 0.02, 15.0

Busy = tuple(f"busy-{number}" for number in range(BUSY))


def spellings(name: str) -> tuple[str, ...]:
    """Return ways to write one key."""
    return name, f" {name.upper()} ", f"agent:main:{name}", f"AGENT:Main:agent:main:{name.title()}"


class Tally(Recorder):
    """A recorder that counts what was acknowledged, so that a kill can wait for something to be at risk."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)
        self.counted: Counter[str] = Counter()
        self._news = asyncio.Event()

    def answered(self, call: Call, answer: Any) -> None:
        """Record and count an answer."""
        super().answered(call, answer)
        self._count(of_call(call))

    def framed(self, stream: Stream, message: Any, *, prompt: bool) -> None:
        """Record and count a frame."""
        super().framed(stream, message, prompt=prompt)
        self._count(of_frame(stream.frames[-1]))

    def _count(self, what: Any) -> None:
        self.counted.update(what)
        self._news.set()

    async def reach(self, goal: Counter[str]) -> None:
        """Wait until so much was counted of each kind."""
        while any(self.counted[kind] < least for kind, least in goal.items()):
            self._news.clear()
            await self._news.wait()


@dataclass
class World:
    """What clients know of each other. `ending` asks everybody to finish what they have begun, and to begin nothing."""

    seed: int
    channel: grpc.aio.Channel
    recorder: Tally
    runs: dict[str, None] = field(default_factory=dict)
    keys: deque[str] = field(default_factory=lambda: deque(maxlen=LATELY))
    ending: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def heard_of(self, answer: Any) -> None:
        """Remember the runs that an answer shows."""
        for name in ("run", "active_run", "follow_up_run"):
            run_id = getattr(answer, name).run_id if name in answer.DESCRIPTOR.fields_by_name else ""
            if run_id:
                self.runs[run_id] = None
        if getattr(answer, "input_id", ""):
            self.runs[answer.input_id] = None


class Actor:
    """One client. What it does is decided by the seed and its name; when it happens, by the machine."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.chance = Random(f"{name} {world.seed}")
        self.line = Line(world.channel, world.recorder, name)
        self._count = 0

    def fresh(self, what: str) -> str:
        """Return a name that nobody else uses."""
        self._count += 1
        return f"{self.name}-{what}-{self._count}"

    def happens(self, share: float) -> bool:
        """Let chance decide."""
        return self.chance.random() < share

    async def think(self, most_s: float) -> None:
        """Let some time pass."""
        await asyncio.sleep(self.chance.random() * most_s)

    def ref(self, name: str) -> SessionRef:
        """Name a session by some spelling of its key."""
        return SessionRef(key=self.chance.choice(spellings(name)))

    def some_run(self) -> str:
        """Name a run that somebody has heard of lately; empty if there is none."""
        newest = deque(self.world.runs, maxlen=8)
        return self.chance.choice(newest) if newest else ""

    async def ask(self, method: str, request: Any) -> Any:
        """Call until there is an answer, or until it is refused: then return None. A call whose outcome is unknown is
        made again under the same request id.
        """
        while True:
            try:
                answer = await self.line.call(method, request, timeout_s=self._patience_s())
            except Lost:
                continue
            except Refused as refused:
                if refused.refusal.code == "UNAVAILABLE":
                    continue
                return None
            self.world.heard_of(answer)
            return answer

    def _patience_s(self) -> float:
        """Give up on a call while it is under way, now and then."""
        return self.chance.random() * SOON_S if self.happens(IMPATIENT) else PATIENT_S
