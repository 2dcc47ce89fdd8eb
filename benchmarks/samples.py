"""What one measurement yields, and how several become one line of the table.

Floor and result take turns in the same run, so that a busy neighbour meets both. A line shows the median of the
rounds with the lowest and the highest; a ratio is made within each round, before the median.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from processes import Server, machine_cpu_s


@dataclass
class Sample:
    """One measurement of one side: how much was done, in which time, with whose CPU."""

    operations: int = 0
    wall_s: float = 0.0
    server_s: float = 0.0
    client_s: float = 0.0
    others_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def rate(self) -> float:
        """Operations in a second."""
        return self.operations / self.wall_s

    @property
    def server_us(self) -> float:
        """Microseconds of the server's CPU for each operation."""
        return self.server_s / self.operations * 1e6

    @property
    def client_us(self) -> float:
        """Microseconds of the load generator's CPU for each operation."""
        return self.client_s / self.operations * 1e6


@contextmanager
def measured(server: Server) -> Iterator[Sample]:
    """Measure what happens inside. The caller sets `operations`, and `wall_s` if it knows better."""
    sample = Sample()
    machine_s, server_s = machine_cpu_s(), server.cpu_s()
    client_s, begin_s = time.process_time(), time.perf_counter()
    yield sample
    sample.wall_s = sample.wall_s or time.perf_counter() - begin_s
    sample.client_s = time.process_time() - client_s
    sample.server_s = server.cpu_s() - server_s
    sample.others_s = max(0.0, machine_cpu_s() - machine_s - sample.client_s - sample.server_s)


class Spread(NamedTuple):
    """A median with its extremes."""

    middle: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Sum rounds up."""
    return Spread(median(values), min(values), max(values))


class Target(NamedTuple):
    """What a number should be: at least or at most a bound."""

    number: str
    at_least: bool
    bound: float

    def met(self, numbers: dict[str, Spread]) -> bool:
        """Judge the median."""
        value = numbers[self.number].middle
        return value >= self.bound if self.at_least else value <= self.bound


def at_least(number: str, bound: float) -> Target:
    """Ask that a number be high."""
    return Target(number, at_least=True, bound=bound)


def at_most(number: str, bound: float) -> Target:
    """Ask that a number be low."""
    return Target(number, at_least=False, bound=bound)


@dataclass
class Line:
    """A workload's line: its rounds, floor beside result."""

    name: str
    unit: str
    floor_name: str
    targets: tuple[Target, ...] = ()
    floors: list[Sample] = field(default_factory=list)
    results: list[Sample] = field(default_factory=list)
    note: str = ""

    def numbers(self) -> dict[str, Spread]:
        """Return every number of the line by name, summed up over the rounds."""
        pairs = list(zip(self.floors, self.results, strict=True))
        found = {
            "rate": spread([result.rate for result in self.results]),
            "floor_rate": spread([floor.rate for floor in self.floors]),
            "ratio": spread([_ratio(floor, result) for floor, result in pairs]),
            "server_us": spread([result.server_us for result in self.results]),
            "floor_us": spread([floor.server_us for floor in self.floors]),
            "cpu_ratio": spread([result.server_us / floor.server_us for floor, result in pairs]),
            "client_us": spread([result.client_us for result in self.results]),
            "client_busy": spread([sample.client_s / sample.wall_s for sample in self.results]),
            "others_busy": spread([sample.others_s / sample.wall_s for sample in self.results]),
        }
        for name in ("p50_ms", "p99_ms"):
            for prefix, samples in (("", self.results), ("floor_", self.floors)):
                values = [value for sample in samples if (value := getattr(sample, name)) is not None]
                if values:
                    found[prefix + name] = spread(values)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything, rounds included."""
        numbers = self.numbers()
        return {
            "name": self.name,
            "unit": self.unit,
            "floor": self.floor_name,
            "note": self.note,
            "numbers": {name: value._asdict() for name, value in numbers.items()},
            "targets": [{**target._asdict(), "met": target.met(numbers)} for target in self.targets],
            "rounds": {
                "floor": [asdict(sample) for sample in self.floors],
                "result": [asdict(sample) for sample in self.results],
            },
        }


def _ratio(floor: Sample, result: Sample) -> float:
    """Return how near a result comes to its floor: by time for what is timed, else by rate. More is better."""
    if floor.p50_ms is not None and result.p50_ms is not None:
        return floor.p50_ms / result.p50_ms
    return result.rate / floor.rate


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
