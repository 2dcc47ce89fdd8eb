"""What is bounded, by how much, and how a measurement is judged. It must never measure anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RUNS = 20
PUBLICATIONS_PER_S = 200
SUBSCRIBERS_EACH = 5
RESOLVES_PER_S = 100
RATED_LOAD = (
    f"{RUNS} runs at once that publish {PUBLICATIONS_PER_S} times a second together, each publication a commit of its"
    f" own, {SUBSCRIBERS_EACH} subscribers on each, and {RESOLVES_PER_S} resolves a second, every fifth of a new key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One promise about time. `most` is in `unit`; `how` says what was done and from when to when it was timed."""

    name: str
    claim: str
    most: float
    unit: str
    how: str


DELIVERY = Bound(
    name="delivery",
    claim="An event reaches every subscriber: p99",
    most=50,
    unit="ms",
    how="From the runner's write to the subscriber's hand, the commit included, under rated load.",
)
INTERRUPT = Bound(
    name="interrupt",
    claim="An interrupt reaches a connected runner: p99",
    most=100,
    unit="ms",
    how="From the call of Interrupt to the command at a runner on DriveRun, under rated load.",
)
READY = Bound(
    name="ready",
    claim="From kill -9 to ready, with a million events in the file",
    most=2,
    unit="s",
    how="Kill -9 under rated load, the process started again at once, until health says SERVING; the slowest time.",
)
DEAD_PEER = Bound(
    name="dead-peer",
    claim="A dead peer is noticed",
    most=30,
    unit="s",
    how="Subscribers frozen by SIGSTOP until the server has let them go, and the server frozen until its subscriber"
    " and its runner know; the slowest time.",
)
STALLED = Bound(
    name="stalled",
    claim="Subscribers that do not read change the p99 delivery to others",
    most=10,
    unit="%",
    how="Rounds under rated load by turns, with and without one more subscriber on each session that reads nothing;"
    " the median of the changes from round to round.",
)
SIGTERM = Bound(
    name="sigterm",
    claim="From SIGTERM to exit, with nothing acknowledged lost",
    most=10,
    unit="s",
    how="SIGTERM under rated load, until the process is gone; then every acknowledged event is looked for.",
)
STORM = Bound(
    name="storm",
    claim="10,000 resolves of one new key at once, all OK, one id",
    most=10,
    unit="s",
    how="Generated stubs without options in eight processes, from the word to the last answer.",
)
LOST_RUNNER = Bound(
    name="lost-runner",
    claim="A killed runner's run has its terminal: lease 15 s + sweep 1 s + 1 s",
    most=17,
    unit="s",
    how="Kill -9 of a runner's process on DriveRun, until a subscriber has the terminal; the slowest time.",
)
LOST_BOTH = Bound(
    name="lost-both",
    claim="The same after a crash of the server as well, from when it is ready again",
    most=17,
    unit="s",
    how="Kill -9 of runners and server together, the server started again at once; the slowest time.",
)

BOUNDS: Sequence[Bound] = (
    DELIVERY,
    INTERRUPT,
    READY,
    DEAD_PEER,
    STALLED,
    SIGTERM,
    STORM,
    LOST_RUNNER,
    LOST_BOTH,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out for one bound: the figure that is judged, the typical one, and how many it was made of."""

    bound: Bound
    value: float
    typical: float
    samples: int
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it stays within the bound."""
        return self.value <= self.bound.most


def at_percentile(bound: Bound, values: Sequence[float], part: float = 0.99) -> Measured:
    """Judge by a percentile. Raises ValueError if nothing was measured."""
    return Measured(bound=bound, value=percentile(values, part), typical=median(values), samples=len(values))


def at_slowest(bound: Bound, values: Sequence[float], note: str = "") -> Measured:
    """Judge by the worst one. Raises ValueError if nothing was measured."""
    return Measured(bound=bound, value=max(values), typical=median(values), samples=len(values), note=note)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of all values lies. Raises ValueError if there is none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
