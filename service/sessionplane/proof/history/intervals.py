"""Interval arithmetic over one register: whether what was read of it can be put into one order.

A register has one value at a time, and a value that it lost never comes back; only nobody's (`NOBODY`) may. Then no
search is needed (Gibbons and Korach, "Testing Shared Memories", 1997): all reads of a value together say that it was
there from the first end of such a read to the last begin, its zone. If the zone runs forward, the value is known to
have been there all that time; if it runs backward, that it was there at some moment between. The reads can be put into
one order if and only if no two forward zones overlap and no backward zone lies within a forward one. Who wrote a value,
and whether anybody was told so, does not matter: a write that nobody heard the answer of is known from its readers.

`search` answers the same question by trying all orders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

NEVER = float("inf")


class Value(NamedTuple):
    """What a register may hold: an incarnation of a session. What it has before the first one is `NOBODY`."""

    session_id: str
    generation: int = 1

    def __str__(self) -> str:
        return f"{self.session_id} ({self.generation})" if self.session_id else "nobody"


NOBODY = Value("", 0)


@dataclass(frozen=True, slots=True)
class Read:
    """At some moment between `since` and `until` the register had this value. `where` names who saw it."""

    since: float
    until: float
    value: Value
    where: str = ""


@dataclass(slots=True)
class Zone:
    """What all reads of one value say together: it was there at `first` or before, and at `last` or behind."""

    value: Value
    first: float
    last: float
    first_seen: str
    last_seen: str

    @property
    def forward(self) -> bool:
        """Whether the value is known to have been there all the time between."""
        return self.first < self.last

    def __str__(self) -> str:
        seen = (
            self.first_seen if self.first_seen == self.last_seen else f"{self.first_seen}, {self.last_seen}"
        )
        return f"{self.value} [{seen}]"


def zone_of(read: Read) -> Zone:
    """Return the zone that one read alone makes."""
    return Zone(read.value, read.until, read.since, read.where, read.where)


def zones(reads: Iterable[Read]) -> dict[Value, Zone]:
    """Join the reads of each value."""
    joined: dict[Value, Zone] = {}
    for read in reads:
        zone = joined.setdefault(read.value, zone_of(read))
        if read.until < zone.first:
            zone.first, zone.first_seen = read.until, read.where
        if read.since > zone.last:
            zone.last, zone.last_seen = read.since, read.where
    return joined


def conflicts(reads: Sequence[Read], *, freed_at: float = NEVER) -> Iterator[tuple[Zone, Zone]]:
    """Find values that were there at one time. From `freed_at` on, nobody may have the register again and again."""
    values = list(zones(read for read in reads if read.value != NOBODY).values())
    begin = min((zone.first for zone in values), default=NEVER)
    again = []
    for read in reads:
        if read.value != NOBODY or read.since <= begin:
            continue  # What was free before anything was seen is free before everything.
        if read.until < freed_at:
            yield next(zone for zone in values if zone.first == begin), zone_of(read)
        else:
            again.append(zone_of(Read(max(read.since, freed_at), read.until, NOBODY, read.where)))
    yield from _overlaps(values, again)


def _overlaps(values: Sequence[Zone], free: Sequence[Zone]) -> Iterator[tuple[Zone, Zone]]:
    forward = sorted((zone for zone in values if zone.forward), key=lambda zone: zone.first)
    for before, after in pairwise(forward):
        if after.first < before.last:
            yield before, after
    begins = [zone.first for zone in forward]
    for zone in (*(zone for zone in values if not zone.forward), *free):
        at = bisect_left(begins, zone.last) - 1
        if at >= 0 and zone.first < forward[at].last:
            yield forward[at], zone


def overtakings(ordered: Iterable[Zone]) -> Iterator[tuple[Zone, Zone]]:
    """Find values that were seen after another one had been seen that came later. They are given as they came."""
    latest: Zone | None = None
    for zone in ordered:
        if latest is not None and zone.first < latest.last:
            yield latest, zone
        if latest is None or zone.last > latest.last:
            latest = zone
