"""Freshness: the rules at their edges, real days on which clocks changed, and a calendar read minute by minute.

The reference calendar only ever asks what the clocks of a zone show at a moment. It never asks when they
show a time, which is the question with two answers or none.
"""

from __future__ import annotations

import ast
import sys
import zoneinfo
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sessionplane.domain import freshness
from sessionplane.domain.freshness import (
    IDLE_MINUTES_MAX,
    KINDS,
    NEVER,
    Daily,
    Freshness,
    FreshnessSettings,
    Idle,
    Staleness,
    StaleRule,
)
from sessionplane.domain.keys import KeyKind, KeySettings, canonical

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SINCE, UNTIL = 1972, 2037  # before, some zones had offsets of odd seconds; later years repeat

ZONES = [
    "Africa/Casablanca",
    "America/Argentina/Catamarca",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "UTC",
]
# Where people live, clocks were never put back by more than two hours.
LONGEST_DAY = 26 * HOUR

AT_FOUR = Freshness(daily=Daily(hour=4, zone="UTC"))
AN_HOUR = Freshness(idle=Idle(minutes=60))
BOTH = Freshness(daily=AT_FOUR.daily, idle=AN_HOUR.idle)


def at(text: str) -> int:
    """The moment, in ms, of an ISO text in UTC."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def judged(policy: Freshness, started: str, last: str | None, now: str) -> str | None:
    """Which rule says that the session is stale."""
    interaction = None if last is None else at(last)
    stale = policy.judge(started_at_ms=at(started), last_interaction_at_ms=interaction, now_ms=at(now))
    return None if stale is None else stale.rule.value


# The rules


@pytest.mark.parametrize("started", ["1970-01-01", "2026-05-04T10:00", "2036-01-01"])
def test_without_a_policy_nothing_is_ever_stale(started: str) -> None:
    """Never is the default."""
    assert NEVER == Freshness() == FreshnessSettings().policy_of(canonical("main", settings=KeySettings()))
    assert judged(NEVER, started, None, "2035-01-01") is None


@pytest.mark.parametrize(
    ("started", "now", "stale"),
    [
        ("2026-05-04T10:00", "2026-05-04T23:59", False),
        ("2026-05-04T10:00", "2026-05-05T03:59:59.999", False),
        ("2026-05-04T10:00", "2026-05-05T04:00", True),
        ("2026-05-04T03:59:59.999", "2026-05-04T04:00", True),
        ("2026-05-04T04:00", "2026-05-05T03:59:59.999", False),
        ("2026-05-04T04:00", "2026-05-05T04:00", True),
        ("2026-05-04T10:00", "2036-05-04T10:00", True),
    ],
)
def test_daily_a_session_is_stale_once_its_day_is_over(started: str, now: str, stale: bool) -> None:
    """A day begins at the boundary itself: what starts then is fresh, what started before is not."""
    assert judged(AT_FOUR, started, None, now) == ("daily" if stale else None)
    assert judged(AT_FOUR, started, now, now) == ("daily" if stale else None), "interactions do not count"


@pytest.mark.parametrize(
    ("started", "last", "now", "stale"),
    [
        ("2026-05-04T10:00", None, "2026-05-04T11:00", False),
        ("2026-05-04T10:00", None, "2026-05-04T11:00:00.001", True),
        ("2026-05-04T10:00", "2026-05-04T12:00", "2026-05-04T13:00", False),
        ("2026-05-04T10:00", "2026-05-04T12:00", "2026-05-04T13:00:00.001", True),
        ("2026-05-04T10:00", "2026-05-09T12:00", "2026-05-09T12:59", False),
    ],
)
def test_idle_a_session_is_stale_after_the_minutes(
    started: str, last: str | None, now: str, stale: bool
) -> None:
    """The minutes count from the last interaction, or the start if there was none; they may be used up."""
    assert judged(AN_HOUR, started, last, now) == ("idle" if stale else None)


@pytest.mark.parametrize(
    ("started", "last", "now", "rule", "boundary"),
    [
        ("2026-05-04T02:00", None, "2026-05-04T03:30", "idle", "2026-05-04T03:00"),
        ("2026-05-04T02:00", None, "2026-05-04T09:00", "idle", "2026-05-04T03:00"),
        ("2026-05-04T03:30", "2026-05-04T03:50", "2026-05-04T04:10", "daily", "2026-05-04T04:00"),
        ("2026-05-04T03:30", "2026-05-04T03:50", "2026-05-04T09:00", "daily", "2026-05-04T04:00"),
        ("2026-05-04T03:30", "2026-05-05T02:00", "2026-05-05T09:00", "daily", "2026-05-04T04:00"),
        ("2026-05-04T03:00", None, "2026-05-04T04:00", "daily", "2026-05-04T04:00"),
        ("2026-05-04T03:00", None, "2026-05-04T09:00", "daily", "2026-05-04T04:00"),
    ],
)
def test_of_two_rules_the_one_that_passed_first_is_told(
    started: str, last: str | None, now: str, rule: str, boundary: str
) -> None:
    """It is told with its first moment, however many days later it is asked for; a tie is the day's."""
    interaction = None if last is None else at(last)
    assert BOTH.judge(
        started_at_ms=at(started), last_interaction_at_ms=interaction, now_ms=at(now)
    ) == Staleness(rule=StaleRule(rule), boundary_at_ms=at(boundary))


@pytest.mark.parametrize(
    ("started", "last"),
    [
        ("2026-05-04T10:00:00.001", None),
        ("2026-05-09T10:00", None),
        ("2026-05-09T10:00", "2026-05-09T10:00"),
        ("2026-05-04T09:00", "2026-05-04T10:00:00.001"),
        ("2026-05-04T05:00", "2026-05-09T10:00"),
    ],
)
def test_a_time_in_the_future_makes_nothing_stale(started: str, last: str | None) -> None:
    """When a clock that was ahead is put right, sessions in use do not roll over because of it."""
    assert judged(BOTH, started, last, "2026-05-04T10:00") is None


def test_a_clock_that_was_ahead_does_not_hide_what_is_old() -> None:
    """Each rule looks at its own time: the other one may be in the future."""
    assert judged(BOTH, "2026-05-03T10:00", "2026-05-09T10:00", "2026-05-04T10:00") == "daily"
    assert judged(BOTH, "2026-05-09T10:00", "2026-05-04T08:00", "2026-05-04T10:00") == "idle"


times = st.integers() | st.integers(min_value=-(2**63), max_value=2**63) | st.integers(0, 2**42)
policies = st.builds(
    Freshness,
    daily=st.none() | st.builds(Daily, hour=st.integers(0, 23), zone=st.sampled_from(ZONES)),
    idle=st.none() | st.builds(Idle, minutes=st.integers(1, IDLE_MINUTES_MAX)),
)


@given(policies, times, st.none() | times, times)
def test_every_time_is_judged(policy: Freshness, started: int, last: int | None, now: int) -> None:
    """No time raises, a moment that is told has passed, and what is stale stays so in the same words."""
    stale = policy.judge(started_at_ms=started, last_interaction_at_ms=last, now_ms=now)
    if stale is not None:
        assert min(started, started if last is None else last) < stale.boundary_at_ms <= now
        later = policy.judge(started_at_ms=started, last_interaction_at_ms=last, now_ms=now + DAY)
        assert later == stale


@given(policies, times, st.none() | times, times)
def test_a_future_time_counts_for_nothing(
    policy: Freshness, started: int, last: int | None, now: int
) -> None:
    """A session all of whose times lie ahead is fresh by any policy."""
    assume(started > now and (last is None or last > now))
    assert policy.judge(started_at_ms=started, last_interaction_at_ms=last, now_ms=now) is None


# Days on which clocks change


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


# Policies


@pytest.mark.parametrize("hour", [-1, 24, 400])
def test_an_hour_is_one_of_a_day(hour: int) -> None:
    """The refusal says which hours there are."""
    with pytest.raises(ValueError, match=f"hour is {hour}, but must be from 0 to 23"):
        Daily(hour=hour, zone="UTC")


@pytest.mark.parametrize("minutes", [-1, 0, IDLE_MINUTES_MAX + 1])
def test_idle_is_a_time(minutes: int) -> None:
    """Zero does not mean never: whoever wants that leaves the rule out."""
    with pytest.raises(ValueError, match=f"minutes is {minutes}, but must be from 1 .* Without idle"):
        Idle(minutes=minutes)


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


def test_policies_are_values() -> None:
    """Equal by what they say, and never changed."""
    assert Daily(hour=4, zone="UTC") == Daily(hour=4, zone="UTC") != Daily(hour=4, zone="Etc/UTC")
    assert len({BOTH, Freshness(daily=AT_FOUR.daily, idle=Idle(minutes=60))}) == 1
    with pytest.raises(FrozenInstanceError):
        BOTH.idle = None
    given_policies = {"default": BOTH}
    settings = FreshnessSettings(policies=given_policies)
    given_policies["cron"] = NEVER
    assert settings == FreshnessSettings(policies={"default": BOTH})
    with pytest.raises(TypeError):
        settings.policies["cron"] = NEVER


def test_kinds_are_those_of_keys_and_two_more() -> None:
    """So there are no more policies than kinds."""
    assert sorted(KINDS) == sorted(["default", "thread", *KeyKind])
    assert dict(FreshnessSettings(policies=dict.fromkeys(KINDS, BOTH)).policies) == dict.fromkeys(KINDS, BOTH)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("dm", "'dm' is no kind of key. There are default, thread, main"),
        ("drect", "'drect' is no kind of key (did you mean direct?). There are default"),
        ("Direct", "'Direct' is no kind of key (did you mean direct?)."),
        ("", "'' is no kind of key."),
        ("x" * 10_000, "'xxxxxxxxxxxxxxxx'... is no kind of key."),
    ],
)
def test_an_unknown_kind_is_refused(kind: str, sentence: str) -> None:
    """A policy that no key would ever have is a mistake."""
    with pytest.raises(ValueError, match="is no kind of key") as refused:
        FreshnessSettings(policies={"default": BOTH, kind: NEVER})
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("set_for", "raw", "policy_of"),
    [
        ([], "main", None),
        (["default"], "main", "default"),
        (["default"], "telegram:direct:7:thread:8", "default"),
        (["default", "main"], "main", "main"),
        (["default", "direct"], "main", "default"),
        (["direct"], "main", None),
        (["default", "direct"], "telegram:direct:7:thread:8", "direct"),
        (["default", "direct", "thread"], "telegram:direct:7:thread:8", "thread"),
        (["default", "group", "thread"], "telegram:group:7:topic:8", "thread"),
        (["default", "group", "thread"], "telegram:group:7", "group"),
        (["default", "custom", "thread"], "main:thread:8", "thread"),
        (["default", "custom", "thread"], "book:thread:8", "custom"),
        (["default", "thread"], "cron:j:run:7", "default"),
    ],
)
def test_the_nearest_policy_holds(set_for: list[str], raw: str, policy_of: str | None) -> None:
    """That of a thread before that of what it hangs on, that of a kind before the default."""
    policies = {kind: Freshness(idle=Idle(minutes=1 + KINDS.index(kind))) for kind in set_for}
    key = canonical(raw, settings=KeySettings(), agent="ops")
    found = FreshnessSettings(policies=policies).policy_of(key)
    assert found == (policies[policy_of] if policy_of else NEVER)


def test_a_policy_of_a_kind_stands_for_itself() -> None:
    """An empty one means never, and an idle one takes no day from the default."""
    settings = FreshnessSettings(policies={"default": AT_FOUR, "cron": NEVER, "direct": AN_HOUR})
    assert settings.policy_of(canonical("cron:j", settings=KeySettings())) == NEVER
    assert settings.policy_of(canonical("direct:bo", settings=KeySettings())) == AN_HOUR


def test_the_domain_never_asks_for_the_time() -> None:
    """One module may use the calendar of `datetime`; its clock nobody may use."""
    asked = set()
    for path in Path(freshness.__file__).parent.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        asked |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not asked & {"now", "utcnow", "today"}
