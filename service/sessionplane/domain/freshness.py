"""When a key's session is too old to go on: from an hour of the day on, after being idle, or never.

Owns the policies of the kinds of keys and the judgement by them. Must never read a clock, or decide what
becomes of a stale session: it is given times and answers with a rule. A policy reads its zone from the
time zone data (the system's, else the package tzdata) once, when it is built; judging reads nothing.

The boundary of a day is hour:00 on the clocks of the zone, as `zoneinfo` takes a time of which it knows
no more:

* An hour that comes twice, since clocks are put back, counts when it comes first.
* An hour that clocks skip counts when it would have come had they not been put forward. If it is the
  first that they skip, which is how it is nearly everywhere, that is the moment of the change.
* A day that a zone skips as a whole (Samoa had no 30 December 2011) has no boundary of its own.

So each day that a zone has brings one boundary, and two of them are 24 hours apart, give or take what
the clocks were changed by.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from sessionplane.domain.key_rules import excerpt
from sessionplane.domain.keys import KeyKind, SessionKey

DEFAULT_KIND: Final = "default"
THREAD_KIND: Final = "thread"
KINDS: Final = (DEFAULT_KIND, THREAD_KIND, *(kind.value for kind in KeyKind))
"""What a policy can be set for."""

IDLE_MINUTES_MAX: Final = 10 * 366 * 24 * 60
_HOUR_MAX: Final = 23
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_BOUNDARIES_MAX: Final = 4_096  # most judgements are about the same few days
_SHOWN_MAX: Final = 64  # characters of a name that is refused

# Files beside the zones: they follow this machine's settings, or count leap seconds.
_NOT_IANA: Final = frozenset({"localtime", "posix", "posixrules", "right"})

_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_FIRST_MS: Final = (datetime(2, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
_LAST_MS: Final = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MS


class StaleRule(StrEnum):
    """By what a session is stale."""

    DAILY = "daily"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness:
    """A session is stale: by which rule, and the moment that it outlived."""

    rule: StaleRule
    boundary_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """A session ends with its day, which begins at this hour in this zone.

    `hour` is from 0 to 23, `zone` a name of the IANA time zone data. Raises ValueError with a sentence for
    the operator.
    """

    hour: int
    zone: str
    _zone_info: zoneinfo.ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.hour <= _HOUR_MAX:
            raise ValueError(f"hour is {self.hour}, but must be from 0 to {_HOUR_MAX}.")
        object.__setattr__(self, "_zone_info", _zone(self.zone))

    def boundary_after(self, at_ms: int) -> int | None:
        """Return the first boundary later than this moment, in ms; None beyond the years 2 to 9998."""
        if not _FIRST_MS <= at_ms < _LAST_MS:
            return None
        # Clocks differ from UTC by less than a day: what was before yesterday has begun in every zone, the
        # day after tomorrow in none. So the next day to begin is one of four.
        today = _EPOCH_DAY + at_ms // _DAY_MS
        boundaries = [_boundary(day, self.hour, self._zone_info) for day in range(today - 1, today + 3)]
        return min(boundary for boundary in boundaries if boundary > at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A session ends this long after its last interaction. Raises ValueError with a sentence."""

    minutes: int

    def __post_init__(self) -> None:
        if not 1 <= self.minutes <= IDLE_MINUTES_MAX:
            raise ValueError(
                f"minutes is {self.minutes}, but must be from 1 to {IDLE_MINUTES_MAX}."
                " Without idle a session is never too idle."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The policy of one kind: it is stale as soon as one of its rules says so. Without a rule: never."""

    daily: Daily | None = None
    idle: Idle | None = None

    def judge(
        self, *, started_at_ms: int, last_interaction_at_ms: int | None, now_ms: int
    ) -> Staleness | None:
        """Return by which rule the session is stale now, the one whose moment passed first; None if fresh.

        Daily: a boundary came after the start, so a session that starts at one is of the new day.
        Idle: more than the minutes have passed since the last interaction, or the start if there was none.
        A time after `now_ms`, left by a clock that was ahead, makes nothing stale: the rule that looks at
        it waits until its moment has really passed. Total over all integers.
        """
        passed = []
        if self.daily is not None:
            boundary = self.daily.boundary_after(started_at_ms)
            if boundary is not None and boundary <= now_ms:
                passed.append(Staleness(rule=StaleRule.DAILY, boundary_at_ms=boundary))
        if self.idle is not None:
            since = started_at_ms if last_interaction_at_ms is None else last_interaction_at_ms
            boundary = since + self.idle.minutes * _MINUTE_MS
            if boundary < now_ms:
                passed.append(Staleness(rule=StaleRule.IDLE, boundary_at_ms=boundary))
        return min(passed, key=lambda stale: stale.boundary_at_ms, default=None)


NEVER: Final = Freshness()


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessSettings:
    """The policies of a server by kind: one of KINDS -> policy, at most one for each.

    Raises ValueError with a sentence for the operator.
    """

    policies: Mapping[str, Freshness] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.policies if kind not in KINDS]
        if unknown:
            raise ValueError(
                f"{excerpt(unknown[0])} is no kind of key{_hint(unknown[0], KINDS)}."
                f" There are {', '.join(KINDS)}."
            )
        object.__setattr__(self, "policies", MappingProxyType(dict(self.policies)))

    def policy_of(self, key: SessionKey) -> Freshness:
        """Return the policy of a thread if the key is one, else that of its kind, else the default one.

        A policy stands for itself: what it leaves out is not taken from a more general one.
        """
        if THREAD_KIND in self.policies and key.is_thread:
            return self.policies[THREAD_KIND]
        return self.policies.get(key.kind, self.policies.get(DEFAULT_KIND, NEVER))


@lru_cache(maxsize=_BOUNDARIES_MAX)
def _boundary(day: int, hour: int, zone_info: zoneinfo.ZoneInfo) -> int:
    return (datetime.combine(date.fromordinal(day), time(hour), zone_info) - _EPOCH) // _MS


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        if name.partition("/")[0] not in _NOT_IANA:
            return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass  # no such file, no path at all, or a file that holds no zone: one answer for all
    known = zoneinfo.available_timezones()
    if not known:
        raise ValueError("This machine has no time zone data. Install the Python package tzdata.")
    hint = _hint(name, [each for each in known if "/" in each])
    example = hint or "; write one such as Europe/Berlin"
    raise ValueError(f"zone is {name[:_SHOWN_MAX]!a}, which is no time zone of the IANA data{example}.")


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:_SHOWN_MAX], known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
