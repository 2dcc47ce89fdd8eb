"""What all clients of a simulation have in common: the world they are in, and a hand that insists."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.message import Message

from sessionplane.proof.sim.loop import SeededLoop
from sessionplane.proof.sim.network import Lost, Network, Refused
from sessionplane.proof.sim.plan import Plan
from sessionplane.v1.session_pb2 import SessionRef

SPELLINGS = (
    (
        "settings2",
        " Settings2",
        "agent:main:settings2",
        "AGENT:main:SETTINGS2 ",
        "agent:main:agent:main:settings2",
    ),
    (
        "matrix:channel:!Room",
        "Matrix:CHANNEL:!Room",
        "agent:main:matrix:channel:!Room",
        "AGENT:MAIN:matrix:channel:!Room",
    ),
)
CANONICAL = ("agent:main:settings2", "agent:main:matrix:channel:!Room")
POOL = "pool"
PATIENCE = 4
"""So often does a client repeat a call whose answer does not come."""


@dataclass
class World:
    """What clients know of each other: the runs that they have heard of, newest last, those that wait for a runner
    in the end, what broke before somebody's eyes, and whether it is over.
    """

    plan: Plan
    loop: SeededLoop
    net: Network
    runs: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    ending: bool = False
    over: bool = False

    def heard_of(self, answer: Any) -> None:
        """Remember what an answer shows."""
        for name in ("run", "active_run", "follow_up_run"):
            run = getattr(answer, name, None)
            if run is not None and run.run_id:
                self.runs.setdefault(run.run_id, run.pool)
        session = getattr(answer, "session", None)
        if session is not None and session.session_id:
            self.sessions.setdefault(session.session_id, None)


class Actor:
    """One client. Each makes its own choices, so that taking one away changes nobody else's."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.chance = Random(f"{name} {world.plan.seed}")
        self.refusal = ""
        self._count = 0

    async def live(self) -> None:
        """Do what this kind of client does, until it has done enough."""
        raise NotImplementedError

    def fresh(self, what: str = "") -> str:
        """Return a name that nobody else uses."""
        self._count += 1
        return f"{self.name}{what}-{self._count}"

    def happens(self, share: float) -> bool:
        """Let chance decide."""
        return self.chance.random() < share

    async def think(self) -> None:
        """Let some time pass."""
        most_s = self.chance.choice(self.world.plan.paces)
        if most_s:
            await asyncio.sleep(self.chance.random() * most_s)

    def ref(self, key: int | None = None) -> SessionRef:
        """Name a session by some spelling of its key."""
        number = self.chance.randrange(self.world.plan.keys) if key is None else key
        return SessionRef(key=self.chance.choice(SPELLINGS[number]))

    def some_run(self) -> str:
        """Name a run that somebody has heard of, most likely a new one; empty if there is none."""
        newest = deque(self.world.runs, maxlen=4)
        return self.chance.choice(newest) if newest else ""

    async def ask(
        self, method: str, request: Message, *, timeout_s: float = 1.5, times: int = PATIENCE
    ) -> Any:
        """Call until there is an answer, as long as it may help. Returns None for a refusal, whose reason is in
        `refusal` then, and if no answer came after so many times.
        """
        self.refusal = ""
        for _ in range(times):
            try:
                answer = await self.world.net.call(self.name, method, request, timeout_s=timeout_s)
            except Lost:
                await asyncio.sleep(self.chance.random() * 0.3)
            except Refused as refused:
                if refused.refusal.code != "UNAVAILABLE":
                    self.refusal = refused.refusal.reason
                    return None
                await asyncio.sleep(self.chance.random() * 0.5)
            else:
                self.world.heard_of(answer)
                return answer
        return None
