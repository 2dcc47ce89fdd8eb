"""The days of a time zone: real days on which clocks changed, a calendar read minute by minute, and names of zones.

The reference calendar only ever asks what the clocks of a zone show at a moment. It never asks when they
show a time, which is the question with two answers or none.
"""

from __future__ import annotations

import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sessionplane.domain.freshness import Daily, Freshness
from tests.support.days import DAY, EPOCH, HOUR, MINUTE, ZONES, at

SINCE, UNTIL = 1972, 2037  # before, some zones had offsets of odd seconds; later years repeat
# Where people live, clocks were never put back by more than two hours.
LONGEST_DAY = 26 * HOUR


@pytest.mark.parametrize(
    ("zone", "hour", "after", "boundaries"),
    [
        ("Europe/Berlin", 2, "2026-03-28T02:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),  # 2 becomes 3
        ("Europe/Berlin", 3, "2026-03-28T02:00", ["2026-03-29T01:00", "2026-03-30T01:00"]),
        ("Europe/Berlin", 4, "2026-03-28T03:00", ["2026-03-29T02:00", "2026-03-30T02:00"]),
        ("Europe/Berlin", 2, "2026-10-24T00:00", ["2026-10-25T00:00", "2026-10-26T01:00"]),  # 3 becomes 2
        ("Europe/Berlin", 3, "2026-10-24T01:00", ["2026-10-25T02:00", "2026-10-26T02:00"]),
        ("America/New_York", 2, "2026-03-07T07:00", ["2026-03-08T07:00", "2026-03-09T06:00"]),
        ("America/New_York", 1, "2026-10-31T05:00", ["2026-11-01T05:00", "2026-11-02T06:00"]),
        ("Australia/Lord_Howe", 2, "2026-10-02T15:30", ["2026-10-03T15:30", "2026-10-04T15:00"]),  # 2 is 2:30
        ("Australia/Lord_Howe", 2, "2026-04-03T15:00", ["2026-04-04T15:30", "2026-04-05T15:30"]),  # 2 is 1:30
        ("Africa/Casablanca", 2, "2026-02-14T01:00", ["2026-02-15T01:00", "2026-02-16T02:00"]),  # Ramadan
        ("Africa/Casablanca", 2, "2026-03-21T02:00", ["2026-03-22T02:00", "2026-03-23T01:00"]),
        ("Asia/Kathmandu", 4, "2026-05-03T22:15", ["2026-05-04T22:15", "2026-05-05T22:15"]),
        ("Asia/Kathmandu", 0, "1985-12-30T18:30", ["1985-12-31T18:30", "1986-01-01T18:15"]),  # 0 is 0:15
        ("Pacific/Apia", 4, "2011-12-29T14:00", ["2011-12-30T14:00", "2011-12-31T14:00"]),  # no 30th
        ("Pacific/Apia", 0, "2011-12-29T10:00", ["2011-12-30T10:00", "2011-12-31T10:00"]),
        ("America/Sao_Paulo", 0, "2018-11-03T03:00", ["2018-11-04T03:00", "2018-11-05T02:00"]),  # 0 is 1
        (
            "America/Nuuk",
            23,
            "2026-03-28T00:59",
            ["2026-03-28T01:00", "2026-03-29T01:00", "2026-03-30T00:00"],
        ),
        (
            "America/St_Johns",
            0,
            "2010-11-06T02:30",
            ["2010-11-07T02:30", "2010-11-08T03:30"],
        ),  # 0:01 is 23:01
        (
            "America/St_Johns",
            0,
            "2010-11-07T03:00",
            ["2010-11-08T03:30"],
        ),  # the 6th again, after the 7th began
        ("Antarctica/Troll", 2, "2026-03-28T02:00", ["2026-03-29T02:00", "2026-03-30T00:00"]),  # 1 becomes 3
    ],
)
def test_a_day_has_its_boundary_also_when_clocks_change(
    zone: str, hour: int, after: str, boundaries: list[str]
) -> None:
    """The first of two such hours; the moment of the change for one that is skipped; none for no day."""
    daily = Daily(hour=hour, zone=zone)
    moment = at(after)
    for boundary in boundaries:
        moment = daily.boundary_after(moment) or 0
        assert moment == at(boundary), datetime.fromtimestamp(moment / 1000, UTC).isoformat()


def wall(zone: zoneinfo.ZoneInfo, moment: int) -> datetime:
    """What the clocks of the zone show."""
    return (EPOCH + timedelta(milliseconds=moment)).astimezone(zone).replace(tzinfo=None, fold=0)


@cache
def changes(name: str) -> list[int]:
    """The days of UTC in which the clocks of a zone are changed."""
    zone = zoneinfo.ZoneInfo(name)
    days = range(at(f"{SINCE}-01-01"), at(f"{UNTIL}-01-01"), DAY)
    offsets = [(day, wall(zone, day) - wall(zoneinfo.ZoneInfo("UTC"), day)) for day in days]
    return [day for (day, before), (_, after) in pairwise(offsets) if before != after] or [days[0]]


def observed(name: str, hour: int, begin: int, end: int) -> Iterator[int]:
    """The boundaries of the days that begin between two moments, seen by looking at the clock each minute."""
    zone = zoneinfo.ZoneInfo(name)
    minute = timedelta(minutes=1)
    seen: dict[date, int] = {}
    days = set()
    due = wall(zone, begin)
    for moment in range(begin, end, MINUTE):
        shown = wall(zone, moment)
        days.add(shown.date())
        late = 0
        while due < shown:  # skipped: it would have come in as many minutes
            if (due.hour, due.minute) == (hour, 0):
                seen.setdefault(due.date(), moment + late)
            due += minute
            late += MINUTE
        if (shown.hour, shown.minute) == (hour, 0):
            seen.setdefault(shown.date(), moment)
        due = shown + minute
    yield from sorted(moment for day, moment in seen.items() if day in days)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[str, int, int]:
    """A zone, an hour, and a moment near a change of the zone's clocks."""
    name = draw(st.sampled_from(ZONES))
    change = draw(st.sampled_from(changes(name)))
    return name, draw(st.integers(0, 23)), change + draw(st.integers(-DAY // MINUTE, DAY // MINUTE)) * MINUTE


@given(stretches())
def test_each_day_of_a_zone_has_exactly_one_boundary(stretch: tuple[str, int, int]) -> None:
    """What is reckoned is what somebody sees who looks at the clock each minute of those days."""
    name, hour, moment = stretch
    begin, end = moment - DAY, moment + 2 * DAY
    seen = [each for each in observed(name, hour, begin, end + 4 * HOUR) if moment < each < end]
    daily = Daily(hour=hour, zone=name)
    reckoned = []
    boundary = daily.boundary_after(moment)
    while boundary is not None and boundary < end:
        reckoned.append(boundary)
        boundary = daily.boundary_after(boundary)
    assert reckoned == seen


@given(stretches(), st.integers(0, HOUR), st.integers(0, 2 * DAY))
def test_stale_is_what_started_before_the_last_boundary(
    stretch: tuple[str, int, int], odd: int, age: int
) -> None:
    """The rule as it is written down, against the clock that was looked at."""
    name, hour, moment = stretch
    now = moment + odd
    started = now - age
    begin, end = moment - LONGEST_DAY - HOUR, moment + 5 * HOUR
    last = max(each for each in observed(name, hour, begin, end) if each <= now)
    assert now - LONGEST_DAY < last
    stale = Freshness(daily=Daily(hour=hour, zone=name)).judge(
        started_at_ms=started, last_interaction_at_ms=None, now_ms=now
    )
    assert (stale is not None) == (started < last)


@given(stretches(), st.integers(0, 3 * DAY))
def test_a_boundary_is_near_and_never_goes_back(stretch: tuple[str, int, int], later: int) -> None:
    """It comes within 26 hours, the longest day where people live, and a later moment has no earlier one."""
    name, hour, moment = stretch
    daily = Daily(hour=hour, zone=name)
    boundary = daily.boundary_after(moment)
    assert boundary is not None
    assert moment < boundary <= moment + LONGEST_DAY
    assert boundary <= (daily.boundary_after(moment + later) or 0)
    assert daily.boundary_after(boundary - 1) == boundary


@given(st.sampled_from(sorted(zoneinfo.available_timezones())), st.integers(0, 23), st.integers(0, 2**41))
def test_every_zone_has_days(name: str, hour: int, moment: int) -> None:
    """Also where a base in the ice changed its clocks by seven hours."""
    assume(name not in {"localtime", "posixrules"})
    boundary = Daily(hour=hour, zone=name).boundary_after(moment)
    assert boundary is not None
    assert moment < boundary <= moment + 31 * HOUR


def test_the_calendar_ends_somewhere() -> None:
    """No date of another age makes a session stale by the day, and none fails."""
    daily = Daily(hour=4, zone="Pacific/Apia")
    assert daily.boundary_after(at("0002-01-01")) is not None
    assert daily.boundary_after(at("0002-01-01") - 1) is None
    assert daily.boundary_after(at("9998-12-31")) is not None
    assert daily.boundary_after(at("9999-01-01")) is None


# Zones


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("Berlin", "did you mean Europe/Berlin"),
        ("right/Europe/Berlin", "did you mean Europe/Berlin"),
        ("posix/Europe/Berlin", "did you mean Europe/Berlin"),
        ("localtime", "write one such as"),
        ("PST", "write one such as"),
        ("Europe", "no time zone"),
        ("zone.tab", "no time zone"),
        ("", "no time zone"),
        (".", "no time zone"),
        ("/etc/localtime", "no time zone"),
        ("../../etc/passwd", "no time zone"),
        ("Europe/Berlin\0", "no time zone"),
        ("\ud800", "no time zone"),
        ("x" * 100_000, "no time zone"),
    ],
)
def test_a_zone_is_a_name_of_the_iana_data(zone: str, hint: str) -> None:
    """Whatever else the text may reach on this machine, the answer is one short sentence."""
    with pytest.raises(ValueError, match=hint) as refused:
        Daily(hour=4, zone=zone)
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 200


@pytest.fixture
def _no_zones_of_the_system() -> Iterator[None]:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=before)


@pytest.mark.usefixtures("_no_zones_of_the_system")
def test_zones_are_found_without_those_of_the_system() -> None:
    """A slim container has none; those of the package tzdata are there."""
    assert Daily(hour=4, zone="Asia/Kathmandu").boundary_after(at("2026-05-04")) == at("2026-05-04T22:15")
    with pytest.raises(ValueError, match="did you mean Asia/Kathmandu"):
        Daily(hour=4, zone="Asia/Kathmando")


@pytest.mark.usefixtures("_no_zones_of_the_system")
def test_a_machine_without_zones_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is right is not called wrong."""
    for module in [name for name in sys.modules if name.split(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    with pytest.raises(ValueError, match="Install the Python package tzdata"):
        Daily(hour=4, zone="Europe/Berlin")
