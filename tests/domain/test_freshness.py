"""Freshness: the rules at their edges, and which policy is whose."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError
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
from tests.support.days import DAY, ZONES, at

AT_FOUR = Freshness(daily=Daily(hour=4, zone="UTC"))
AN_HOUR = Freshness(idle=Idle(minutes=60))
BOTH = Freshness(daily=AT_FOUR.daily, idle=AN_HOUR.idle)


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
