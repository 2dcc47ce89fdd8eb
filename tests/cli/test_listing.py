"""The flags of `sessionplane sessions` as the text of a filter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from sessionplane.cli.listing import filter_text
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.listing_text import parse

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "meaning"),
    [
        ({}, ""),
        ({"wish": "  "}, ""),
        ({"states": ["active"]}, "state = ACTIVE"),
        ({"states": ["Active", "SESSION_STATE_ENDED"]}, "(state = ACTIVE OR state = ENDED)"),
        ({"kinds": ["Cron"], "agents": ["a", "b"]}, "kind = cron AND (agent = a OR agent = b)"),
        ({"prefixes": ["agent:main:*"]}, r'key : "agent:main:\**"'),
        ({"labels": ["team=a=b", "it's"]}, """labels.team = "a=b" AND labels."it's" : "*\""""),
        ({"labels": ["empty="]}, 'labels.empty = ""'),
        ({"running": True}, "running = true"),
        ({"running": False}, "running = false"),
        ({"since": "90m"}, "update_time >= 2026-01-31T10:30:00Z"),
        ({"since": "3d"}, "update_time >= 2026-01-28T12:00:00Z"),
        ({"since": "2026-01-01T00:00:00+01:00"}, "update_time >= 2025-12-31T23:00:00Z"),
        (
            {"wish": "state = ENDED OR state = ACTIVE", "running": True},
            "(state = ENDED OR state = ACTIVE) AND running = true",
        ),
    ],
    ids=str,
)
def test_flags_become_a_filter(asked: dict[str, Any], meaning: str) -> None:
    """What several of them ask for holds at once; what one of them asks for twice holds for either, but labels."""
    assert str(parse(filter_text(**asked, now=NOW), key_settings=KeySettings())) == meaning


@pytest.mark.parametrize("since", ["yesterday", "1x", "2026-01-01", "2026-01-01T00:00:00"])
def test_what_is_no_time_is_refused_in_words_of_the_flag(since: str) -> None:
    """Whoever wrote --since never wrote a filter, so the refusal speaks of no place in one."""
    with pytest.raises(click.UsageError, match=r"--since: .*: write a span, such as 90s or 2h, or a time"):
        filter_text(since=since, now=NOW)


def test_the_callers_own_filter_comes_first() -> None:
    """The server counts characters from the beginning of the whole."""
    assert filter_text(wish="colour = red", states=["active"], now=NOW).startswith("colour = red AND ")
