"""One seed from its plan to its verdict."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.history.judge import Broken, judge
from sessionplane.proof.history.records import Bounds, Happening, History, Recorder
from sessionplane.proof.sim.callers import Caller
from sessionplane.proof.sim.chaos import Chaos
from sessionplane.proof.sim.clients import Actor, World
from sessionplane.proof.sim.disk import Cabinet, Disk, Removed
from sessionplane.proof.sim.loop import Process, SeededLoop, Stuck, owned
from sessionplane.proof.sim.network import Network
from sessionplane.proof.sim.offers import wrongly_offered
from sessionplane.proof.sim.operators import Operator
from sessionplane.proof.sim.plan import LEASE_MS, SWEEP_MS, Plan
from sessionplane.proof.sim.runners import Healer, Runner
from sessionplane.proof.sim.subscribers import Subscriber
from sessionplane.proof.sim.timing import overdue
from sessionplane.proof.sim.watchers import Watcher
from sessionplane.proof.sim.witness import Witness
from sessionplane.store.invariants import INVARIANTS
from sessionplane.store.reading import SqliteReadTx
from sessionplane.store.verifying import Verifier
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event

LONGEST_S = 90.0
"""Virtual time after which a seed has not come to its end."""

ARRIVED_HOPS = 3
"""So many ways through the network later, everything that was sent has arrived."""
LOOK_S = 0.5
"""So often does the witness look whether a run has ended."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of a seed: its history, and what is wrong with it and its file."""

    plan: Plan
    history: History
    broken: Sequence[Broken]


def simulate(plan: Plan, cabinet: Cabinet) -> Recorded:
    """Run a plan to its end, and judge it."""
    # The rest of a loop is sockets and signals, which nobody has here.
    loop = SeededLoop(Random(f"loop {plan.seed}"))  # type: ignore[abstract]
    recorder = Recorder(loop.time)
    history = recorder.history
    history.alive, history.limits = plan.alive, Bounds(LEASE_MS / 1000, SWEEP_MS / 1000)
    disk = cabinet.disk(fresh=plan.fresh)
    simulation = Simulation(plan, loop, recorder, disk)
    try:
        with _errors_told(recorder, loop):
            simulation.run()
        connection = disk.reading()
        history.logs = _logs(connection, disk.removed())
        history.floors = dict(
            connection.execute("SELECT session_id, floor_sequence FROM sessions").fetchall()
        )
        damage = [Broken("The file", each) for each in _damage(connection)]
        facts = Facts(history)
        problems = [*overdue(plan, facts), *wrongly_offered(facts)]
        late = [Broken("Every run ends, once, for everyone", each) for each in problems]
        broken = [*simulation.unfinished, *_mistakes(history), *judge(history), *late, *damage]
        return Recorded(plan, history, broken)
    finally:
        disk.close()


def _mistakes(history: History) -> list[Broken]:
    """Our clients know how to ask: a refusal of what they wrote is a mistake of theirs, or of the server."""
    refusals = [each.refusal for each in history.calls] + [each.refusal for each in history.streams]
    return [Broken("Clients", repr(each)) for each in refusals if each and each.code == "INVALID_ARGUMENT"]


class Simulation:
    """A plan under way. Nothing of it is left when `run` returns."""

    def __init__(self, plan: Plan, loop: SeededLoop, recorder: Recorder, disk: Disk) -> None:
        self.unfinished: list[Broken] = []
        self._plan = plan
        self._loop = loop
        self._recorder = recorder
        self._world = World(plan, loop, Network(loop, Random(f"net {plan.seed}"), recorder))
        self._chaos = Chaos(plan, loop, self._world.net, disk, recorder)
        self._all = Process("clients")

    def run(self) -> None:
        """Let it happen."""
        main = owned(self._all).run(self._loop.create_task, self._main())
        try:
            self._loop.run_until(main, until_s=self._loop.time() + LONGEST_S)
        except (Stuck, TimeoutError) as error:
            self.unfinished.append(Broken("Liveness", f"it does not come to an end: {error!r}"))
        self._chaos.end()
        self._loop.kill(self._all)
        self._loop.settle()
        self.unfinished += [Broken("Resume never lies", how) for how in self._world.broken]
        for complaint in self._loop.complaints:
            self._recorder.happened(Happening.COMPLAINT, complaint)

    async def _main(self) -> None:
        plan, world, chaos = self._plan, self._world, self._chaos
        chaos.begin()
        await chaos.ready()
        following = self._begin(Subscriber, plan.subscribers) + self._begin(Watcher, plan.watchers)
        working = self._begin(Caller, plan.callers)
        working += self._begin(Runner, plan.runners)
        working += self._begin(Operator, plan.operators)
        await asyncio.gather(*working)
        if plan.alive:
            await chaos.calm()
            world.ending = True
            await _come_to_an_end(world)
            # What is on its way arrives before anybody leaves.
            await asyncio.sleep(ARRIVED_HOPS * plan.odds.hop_s)
            world.over = True
            self._recorder.happened(Happening.OVER)
            await asyncio.gather(*following)

    def _begin(self, kind: type[Actor], count: int) -> list[asyncio.Task[None]]:
        names = [f"{kind.__name__.lower()}{number}" for number in range(count)]
        return [self._loop.create_task(kind(self._world, name).live()) for name in names]


async def _come_to_an_end(world: World) -> None:
    """Let a healthy runner take what it can get, if there is one, and look at every run until it has ended."""
    healer = (
        asyncio.get_running_loop().create_task(Healer(world, "healer").live()) if world.plan.heals else None
    )
    witness = Witness(world, "witness")
    await witness.look_around()
    while left := [run_id for run_id in world.runs if run_id not in witness.ended]:
        for run_id in left:
            await witness.look(run_id)
        if len(witness.ended) < len(world.runs):
            await asyncio.sleep(LOOK_S)
        else:
            await witness.look_around()
    if healer is not None:
        healer.cancel()


@contextmanager
def _errors_told(recorder: Recorder, loop: SeededLoop) -> Iterator[None]:
    """Take what the server logs as an error for something that happened, unless it is dead; the rest is not said."""

    def processor(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in {"error", "exception", "critical"} and not loop.burying:
            recorder.happened(Happening.COMPLAINT, f"{event.get('event')}: {event.get('exc_info')!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[processor], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _logs(connection: sqlite3.Connection, removed: Removed) -> dict[str, list[Event]]:
    """Read every log, with what was removed from it."""
    entries = removed + connection.execute("SELECT session_id, sequence, data FROM events").fetchall()
    logs: dict[str, list[Event]] = {}
    for session_id, _, data in sorted(entries):
        logs.setdefault(session_id, []).extend(pb.EventBatch.FromString(data).events)
    return logs


class _Held(Verifier):
    """Reads a file over a connection that is there already."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tx = SqliteReadTx(connection, "")


def _damage(connection: sqlite3.Connection) -> list[str]:
    """Ask everything that must hold in every file."""
    found = []
    for name, each in INVARIANTS.items():
        found += [f"{name}: {row[0]}" for row in connection.execute(each.query).fetchall()]
    return found + [
        f"{each.session_id}: {each.problem}" for each in _Held(connection).sessions() if each.problem
    ]
