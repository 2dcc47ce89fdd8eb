"""The stage: a real server over a real file, its clients, and the moments at which it is killed.

A kill waits until enough was acknowledged since the one before, and then for a moment that nobody can foresee; some
come again while the server starts. In the end everybody finishes what was begun, all runs end, all subscribers catch
up, and the server is stopped as an operator would stop it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc

from sessionplane.proof.history.line import Lost, Refused
from sessionplane.proof.history.records import Bounds, Happening, History
from sessionplane.proof.history.traffic import MINIMUMS
from sessionplane.proof.kill.callers import Racer, Sender
from sessionplane.proof.kill.runners import Runner
from sessionplane.proof.kill.subscribers import Subscriber
from sessionplane.proof.kill.world import LEASE_S, Actor, Tally, World
from sessionplane.proof.parts import Progress
from sessionplane.proof.servers import AlreadyEnded, DidNotStart, ServerProcess
from sessionplane.store.connections import open_reader
from sessionplane.store.invariants import INVARIANTS
from sessionplane.store.verifying import Verifier
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import RUN_STATE_FINISHED

SWEEP_S = 0.5
LIMITS = {
    "sweep_ms": int(SWEEP_S * 1000),
    "lease_ms_min": int(LEASE_S * 1000),
    "detach_linger_ms": 500,
    "progress_after_ms": 500,
}
BOUNDS = Bounds(
    lease_s=LEASE_S, sweep_s=SWEEP_S, slack_s=10.0, call_s=15.0, start_s=10.0, wake_s=60.0, lag_s=10.0
)
"""A machine that does other things as well is no place for bounds of a second; those are measured elsewhere."""

MOMENT_S = 0.3
AFTER_S = 2.5 * LEASE_S
"""So long goes it on behind the last kill: each start gives all leases again, so only now do they run out."""

AGAIN = 0.2
"""The share of kills that are followed by another one while the server starts."""

LONGEST_S = 120.0
"""What is due and has not come by then does not come."""

_BACK_SOON = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100))
_ALARMS = ("[error", "[critical", "Traceback", "never retrieved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What was recorded, what is wrong with the file by itself, and why it did not come to its end."""

    history: History
    damage: Sequence[str]
    cut_short: str = ""


async def play(
    kills: int,
    *,
    seed: int,
    database: Path,
    progress: Progress,
    minimums: Mapping[str, int] = MINIMUMS,
    racers: int = 4,
) -> Played:
    """Kill a server so many times under load, each time when at least so much is at risk."""
    server = ServerProcess(database, limits=LIMITS)
    cut_short = ""
    try:
        async with grpc.aio.insecure_channel(server.address, options=_BACK_SOON) as channel:
            recorder = Tally()
            world = World(seed, channel, recorder)
            stage = _Stage(server, world, minimums)
            await stage.run(kills, progress, racers)
    except* (TimeoutError, DidNotStart, AlreadyEnded) as errors:
        cut_short = "; ".join(f"{type(error).__name__} {error}" for error in errors.exceptions)
    finally:
        if server.runs:
            await server.kill()
    history = recorder.history
    history.limits, history.alive = BOUNDS, not cut_short
    history.logs, damage = read(database)
    return Played(history=history, damage=damage, cut_short=cut_short)


class _Stage:
    """A play under way."""

    def __init__(self, server: ServerProcess, world: World, minimums: Mapping[str, int]) -> None:
        self._server = server
        self._world = world
        self._minimums = Counter(minimums)
        self._chance = Random(f"kills {world.seed}")

    async def run(self, kills: int, progress: Progress, racers: int) -> None:
        """Let it happen."""
        await self._start()
        async with asyncio.TaskGroup() as everybody:
            callers = self._begin(everybody, Racer, racers) + self._begin(everybody, Sender, 3)
            runners = [Runner(self._world, f"runner{number}") for number in range(4)]
            working = [everybody.create_task(runner.live()) for runner in runners]
            following = self._begin(everybody, Subscriber, 4)
            for number in range(kills):
                await self._kill()
                progress(number + 1, kills)
            await asyncio.sleep(AFTER_S)
            async with asyncio.timeout(LONGEST_S):
                self._world.ending = True
                await asyncio.gather(*callers)
                self._world.recorder.happened(Happening.CALM)
                await self._see_the_end()
                for runner in runners:
                    runner.going = True
                await asyncio.gather(*working)
                self._world.recorder.happened(Happening.OVER)
                self._world.over.set()
                await asyncio.gather(*following)
        await self._server.terminate()
        self._hear_complaints()

    def _begin(
        self, everybody: asyncio.TaskGroup, kind: type[Racer | Sender | Subscriber], count: int
    ) -> list[asyncio.Task[None]]:
        names = [f"{kind.__name__.lower()}{number}" for number in range(count)]
        return [everybody.create_task(kind(self._world, name).live()) for name in names]

    async def _start(self) -> None:
        await self._server.start()
        self._world.recorder.happened(Happening.READY)

    async def _kill(self) -> None:
        """Wait until a kill is worth something, kill, and start again."""
        recorder = self._world.recorder
        async with asyncio.timeout(LONGEST_S):
            await recorder.reach(recorder.counted + self._minimums)
        await asyncio.sleep(self._chance.random() * MOMENT_S)
        await self._server.kill()
        recorder.happened(Happening.CRASHED)
        self._hear_complaints()
        if self._chance.random() < AGAIN:
            await self._server.spawn()
            await asyncio.sleep(self._chance.random() * MOMENT_S)
            await self._server.kill()
            self._hear_complaints()
        await self._start()

    def _hear_complaints(self) -> None:
        """Take what the server wrote as an error for something that happened."""
        for line in self._server.written().splitlines():
            if any(alarm in line for alarm in _ALARMS):
                self._world.recorder.happened(Happening.COMPLAINT, line)

    async def _see_the_end(self) -> None:
        """Look at every run that anybody has heard of until it has ended."""
        witness = Actor(self._world, "witness")
        for run_id in self._world.runs:
            while not await _has_ended(witness, run_id):
                await witness.think(SWEEP_S)


async def _has_ended(witness: Actor, run_id: str) -> bool:
    """Ask for a run; one that is not there has ended as well."""
    try:
        answer = await witness.line.call("GetRun", pb.GetRunRequest(run_id=run_id))
    except Lost:
        return False
    except Refused:
        return True
    return bool(answer.run.state == RUN_STATE_FINISHED)


def read(database: Path) -> tuple[Mapping[str, Sequence[Event]], Sequence[str]]:
    """Read a file that nobody serves: every log in it, and everything in it that does not fit."""
    connection = open_reader(database)
    try:
        logs: dict[str, list[Event]] = {}
        query = "SELECT session_id, data FROM events ORDER BY session_id, sequence"
        for session_id, data in connection.execute(query):
            logs.setdefault(session_id, []).extend(pb.EventBatch.FromString(data).events)
        damage = [
            f"{name}: {row[0]}"
            for name, each in INVARIANTS.items()
            for row in connection.execute(each.query).fetchall()
        ]
    finally:
        connection.close()
    with Verifier(database) as verifier:
        damage += [f"{each.session_id}: {each.problem}" for each in verifier.sessions() if each.problem]
    return logs, damage
