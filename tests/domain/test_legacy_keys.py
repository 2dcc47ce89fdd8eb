"""Spellings that other systems wrote years ago, each with what it means today, and those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.domain.errors import KeyInvalid
from sessionplane.domain.legacy_keys import LEGACY, modern
from tests.support.openclaw import GONE, SPELLINGS


@pytest.mark.parametrize(
    ("raw", "now"),
    [
        ("dm:Bob", "direct:Bob"),
        ("DM:Bob", "direct:Bob"),
        ("telegram:dm:42", "telegram:direct:42"),
        ("telegram:work:dm:42:thread:7", "telegram:work:direct:42:thread:7"),
        ("agent:main:dm:Bob", "agent:main:direct:Bob"),
        ("Agent:Main:agent:main:telegram:dm:42", "Agent:Main:agent:main:telegram:direct:42"),
        ("group:123", "unknown:group:123"),
        ("group:120363@g.us", "whatsapp:group:120363@g.us"),
        ("120363-1@G.us", "whatsapp:group:120363-1@G.us"),
        ("whatsapp:120363@g.us", "whatsapp:group:120363@g.us"),
        ("WhatsApp:Group:120363@g.us", "whatsapp:group:120363@g.us"),
        (" group:123\t", "unknown:group:123"),
    ],
)
def test_an_old_spelling_is_read_as_what_it_is_called_today(raw: str, now: str) -> None:
    """Words were renamed, and groups were written without their channel or by their address alone."""
    assert modern(raw, field="raw_key") == now
    assert modern(now, field="raw_key") == now


@pytest.mark.parametrize(
    "raw",
    [
        *(
            "settings2",
            "telegram:group:dm:5",
            "signal:channel:dm:x",
            "cron:dm:x",
            "subagent:dm:x",
            "dm",
            "dm:",
            "dmx:y",
        ),
        *("telegram:a:b:dm:x", "telegram:group:123", "agent:main:group:123", "group:", "channel:123"),
        *("whatsapp:work:group:1@g.us", "agent:main:120363@g.us", "whatsapp:direct:+49@s.whatsapp.net"),
        *("global:x", "agent:global:x", "x:unknown", "main", "agent:main:main"),
    ],
)
def test_everything_else_is_left_as_it_is(raw: str) -> None:
    """An id that looks like an old word is an id, and a key of an agent was written by a system that knew better."""
    assert modern(raw, field="raw_key") == raw


@pytest.mark.parametrize("raw", GONE)
def test_a_spelling_without_an_equivalent_is_refused_and_says_what_it_was(raw: str) -> None:
    """Whose conversation it was cannot be known here."""
    with pytest.raises(KeyInvalid) as refused:
        modern(raw, field="raw_key")
    assert refused.value.details["field"] == "raw_key"
    assert "of its own in the file (rule RESERVED)" in str(refused.value)


def test_the_table_tells_each_old_spelling_once() -> None:
    """Every entry has its own example, a meaning in words, and at least one spelling in the made-up stores."""
    for place, legacy in enumerate(LEGACY):
        fits = [each.pattern.fullmatch(legacy.example) is not None for each in LEGACY]
        assert fits.index(True) == place
        assert legacy.meaning
    raws = [raw.strip() for raw in (*SPELLINGS, *GONE)]
    assert all(any(legacy.pattern.fullmatch(raw) for raw in raws) for legacy in LEGACY)


SEGMENTS = st.sampled_from(
    ["dm", "DM", "group", "whatsapp", "agent", "main", "x@g.us", "global", "unknown", ""]
)


@example("0@g.us:dm:0")
@given(raw=st.one_of(st.text(), st.lists(SEGMENTS, max_size=8).map(":".join)))
def test_reading_an_old_spelling_twice_changes_nothing(raw: str) -> None:
    """What comes out is a spelling of today."""
    try:
        once = modern(raw, field="raw_key")
    except KeyInvalid:
        return
    assert modern(once, field="raw_key") == once
