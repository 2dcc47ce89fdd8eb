"""What a seed decides before anything begins: who takes part, how patient they are, and what goes wrong.

Each seed has a few kinds of trouble and not all of them, since they hide one another. Every part of a plan can be taken
out without changing the rest: that is how a failing seed is made small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from sessionplane.domain.freshness import DEFAULT_KIND, Freshness, FreshnessSettings, Idle
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.proof.sim.network import Odds
from sessionplane.proof.sim.trouble import QUICK_S, Planned, Trouble
from sessionplane.store import statements as sql

SWEEP_MS = 1_000
LEASE_MS = 2_000
FRESH_EVERY = 16
_AT_COMMIT = 0.6
_HEALS = 0.75
NEVER = FreshnessSettings()
FAIR = Odds()
_STALE = FreshnessSettings(policies={DEFAULT_KIND: Freshness(idle=Idle(minutes=1))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulation. `paces` are how long actors think at most, and `commit_s` how long the writer takes to begin, in
    seconds. What goes wrong has its time in seconds; a crash comes so many steps of the server behind it. Where nobody
    `heals` in the end, what nobody claimed or finished ends by its timeouts.
    """

    seed: int
    alive: bool
    fresh: bool
    keys: int = 2
    callers: int = 2
    runners: int = 1
    subscribers: int = 2
    operators: int = 0
    watchers: int = 0
    steps: int = 8
    paces: tuple[float, ...] = (0.0, 0.01, 0.3)
    limits: Limits = Limits()
    freshness: FreshnessSettings = NEVER
    odds: Odds = FAIR
    crashes: tuple[tuple[float, int], ...] = ()
    troubles: tuple[tuple[float, Planned], ...] = ()
    restarts: tuple[float, ...] = ()
    pauses: tuple[tuple[float, float], ...] = ()
    jumps: tuple[tuple[float, int], ...] = ()
    heals: bool = True
    zombies: float = 0.0
    slowness: float = 0.0
    commit_s: float = QUICK_S

    def without(self, part: str) -> Plan:
        """Return the plan without one part of it, by the name in PARTS."""
        return PARTS[part](self)


PARTS: Mapping[str, Callable[[Plan], Plan]] = {
    "crashes": lambda plan: replace(plan, crashes=()),
    "troubles": lambda plan: replace(plan, troubles=()),
    "restarts": lambda plan: replace(plan, restarts=()),
    "pauses": lambda plan: replace(plan, pauses=()),
    "jumps": lambda plan: replace(plan, jumps=()),
    "zombies": lambda plan: replace(plan, zombies=0.0),
    "slowness": lambda plan: replace(plan, slowness=0.0),
    "loss": lambda plan: replace(plan, odds=replace(plan.odds, request_lost=0.0, answer_lost=0.0)),
    "haste": lambda plan: replace(plan, odds=replace(plan.odds, given_up=0.0)),
    "repeats": lambda plan: replace(plan, odds=replace(plan.odds, twice=0.0)),
    "operators": lambda plan: replace(plan, operators=0),
    "watchers": lambda plan: replace(plan, watchers=0),
    "subscribers": lambda plan: replace(plan, subscribers=max(0, plan.subscribers - 1)),
    "callers": lambda plan: replace(plan, callers=max(1, plan.callers - 1)),
    "runners": lambda plan: replace(plan, runners=max(1, plan.runners - 1)),
    "keys": lambda plan: replace(plan, keys=1),
    "steps": lambda plan: replace(plan, steps=max(1, plan.steps - 1)),
}
"""What can be taken out, or made less, one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """What a seed is about: how likely each kind of trouble is, and who takes part."""

    odds: Mapping[str, float]
    usual: float = 0.12
    alive: float = 0.5
    callers: tuple[int, ...] = (1, 2, 2, 3)
    runners: tuple[int, ...] = (1, 2)
    subscribers: tuple[int, ...] = (1, 2)
    operators: tuple[int, ...] = (0, 0, 1)
    keys: tuple[int, ...] = (1, 1, 2)
    paces: tuple[tuple[float, ...], ...] = ((0.0,), (0.0, 0.004), (0.0, 0.01, 0.3), (0.02, 1.2))
    commits: tuple[float, ...] = (QUICK_S, QUICK_S, 0.05, 0.4)


THEMES = (
    Theme(odds={}, usual=0.3),
    Theme(
        odds={"haste": 0.5},
        callers=(3,),
        runners=(1,),
        keys=(1,),
        paces=((0.0,), (0.0, 0.004)),
        commits=(QUICK_S, 0.05),
    ),
    Theme(
        odds={"zombies": 1.0, "crashes": 0.6, "restarts": 0.2, "jumps": 0.25, "pauses": 0.25},
        alive=0.8,
        runners=(2, 3),
        keys=(1, 2),
    ),
    Theme(odds={"loss": 0.8, "repeats": 0.5, "haste": 0.7, "crashes": 0.3}),
    Theme(
        odds={"troubles": 1.0, "zombies": 0.4},
        usual=0.05,
        callers=(2, 3),
        commits=(QUICK_S, 0.05, 0.05, 0.4),
        paces=((0.0,), (0.0, 0.01)),
    ),
    Theme(
        odds={"zombies": 0.4}, operators=(2, 3), runners=(2,), keys=(1,), paces=((0.01, 0.3), (0.0, 0.3, 1.0))
    ),
    Theme(
        odds={"slowness": 0.8, "restarts": 0.4, "crashes": 0.4}, alive=0.8, subscribers=(2, 3), callers=(1, 2)
    ),
)
"""A seed has one of them, in turn: anything, races, lost runners, a bad network, a bad disk, operators, subscribers."""


def plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    chance = Random(f"plan {seed}")
    some = chance.choice
    theme = THEMES[seed % len(THEMES)]
    heals = chance.random() < _HEALS
    kinds = {kind for kind in _KINDS if chance.random() < theme.odds.get(kind, theme.usual)}
    return Plan(
        seed=seed,
        alive=chance.random() < theme.alive,
        fresh=seed % FRESH_EVERY == 0,
        keys=some(theme.keys),
        callers=some(theme.callers),
        runners=some(theme.runners),
        subscribers=some(theme.subscribers),
        operators=some(theme.operators),
        watchers=some((0, 0, 1)),
        steps=some((4, 6, 8)),
        paces=some(theme.paces),
        heals=heals,
        limits=_limits(chance, heals=heals),
        freshness=_STALE if "jumps" in kinds else NEVER,
        odds=_odds(chance, kinds),
        commit_s=some(theme.commits),
        zombies=0.5 if "zombies" in kinds else 0.0,
        slowness=0.4 if "slowness" in kinds else 0.0,
        crashes=_crashes(chance) if "crashes" in kinds else (),
        troubles=_troubles(chance) if "troubles" in kinds else (),
        restarts=(_moment(chance),) if "restarts" in kinds else (),
        pauses=((_moment(chance), 2.5 + chance.random() * 4),) if "pauses" in kinds else (),
        jumps=((_moment(chance), some((-3_000, -30_000, 5_000, 120_000, 120_000))),)
        if "jumps" in kinds
        else (),
    )


def _limits(chance: Random, *, heals: bool) -> Limits:
    some = chance.choice
    return Limits(
        sweep_ms=SWEEP_MS,
        lease_ms_default=LEASE_MS,
        lease_ms_min=LEASE_MS,
        interrupt_grace_ms_default=some((1_000, 3_000)),
        start_timeout_ms_default=some((4_000, 60_000 if heals else 4_000)),
        run_timeout_ms_default=some((6_000, 60_000 if heals else 6_000)),
        detach_linger_ms=some((500, 2_000)),
        suspend_grace_ms_default=some((1_000, 3_000)),
        close_timeout_ms_default=some((1_000, 4_000)),
        run_queue_max=some((1, 2, 20)),
        run_first_max=some((1, 20)),
        group_commands_max=some((1, 2, 512)),
        tail_events_max=some((1, 3, 1_024)),
        batch_events_max=some((1, 4, 256)),
        progress_after_ms=some((400, 2_000)),
        slow_subscriber_ms=2_000,
        stream_abort_ms=500,
        upkeep_step_max=some((1, 200)),
        log_window_ms=some((DEFAULT.log_window_ms, DEFAULT.log_window_ms, 800)),
        drain_ms=1_000,
    )


def _odds(chance: Random, kinds: set[str]) -> Odds:
    lossy = "loss" in kinds
    return Odds(
        hop_s=chance.choice((0.001, 0.01, 0.1)),
        request_lost=0.05 if lossy else 0.0,
        answer_lost=0.15 if lossy else 0.0,
        twice=0.2 if "repeats" in kinds else 0.0,
        given_up=0.2 if "haste" in kinds else 0.0,
    )


def _moment(chance: Random) -> float:
    """Draw a moment: soon, or later, since some seeds do everything at once and others take their time."""
    return chance.random() * chance.choice((0.1, 0.6, 3.0, 6.0))


def _crashes(chance: Random) -> tuple[tuple[float, int], ...]:
    return tuple(sorted((_moment(chance), chance.randrange(1, 40)) for _ in range(chance.choice((1, 1, 2)))))


def _troubles(chance: Random) -> tuple[tuple[float, Planned], ...]:
    return tuple((_moment(chance), _planned(chance)) for _ in range(chance.choice((2, 3, 5))))


def _planned(chance: Random) -> Planned:
    """Draw what goes wrong with the disk: mostly at a commit, where most hangs on it."""
    trouble = chance.choices(_OF_DISKS, _OF_DISKS_WEIGHTS)[0]
    at = sql.COMMIT if chance.random() < _AT_COMMIT else ""
    at = sql.BEGIN_WRITE if trouble is Trouble.BUSY else at
    return Planned(trouble, after=chance.randrange(0, 3 if at else 40), at=at)


_OF_DISKS = (
    Trouble.FULL,
    Trouble.FULL_LOST,
    Trouble.BUSY,
    Trouble.BROKEN,
    Trouble.BROKEN_AFTER_ALL,
    Trouble.CRASH,
    Trouble.CRASH_AFTER,
)
_OF_DISKS_WEIGHTS = (4, 3, 2, 1, 1, 2, 2)
"""A full disk leaves the process there to be asked again; after the others it is gone."""

_KINDS = (
    "crashes",
    "troubles",
    "restarts",
    "pauses",
    "jumps",
    "zombies",
    "slowness",
    "loss",
    "repeats",
    "haste",
)
"""What may go wrong in a seed."""
