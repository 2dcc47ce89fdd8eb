"""Reading the text of a filter: a table of texts, a table of refusals, and properties over all text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.domain.errors import FilterInvalid
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import Limits
from sessionplane.domain.listing import FIELDS, Field, SessionFilter
from sessionplane.domain.listing_text import parse as parse_by
from tests.support.filters import filters

PIECES = (
    *Field,
    *("=", "!=", "<", "<=", ">", ">=", ":", " ", " ", "AND", "OR", "NOT", "(", ")", ".", "*", '"', "'", "\\"),
    *("ACTIVE", "cron", "main", "true", "agent:main:x", "2026-01-31T12:00:00Z", "labels.a", "ä", "\n"),
)
"""What texts are made of that come far into the grammar."""


def parse(text: str, limits: Limits = Limits(), **settings: object) -> SessionFilter:
    return parse_by(text, key_settings=KeySettings(**settings), limits=limits)  # type: ignore[arg-type]


@given(filters)
def test_the_text_of_a_filter_reads_as_that_filter(wanted: SessionFilter) -> None:
    """Writing a filter loses nothing."""
    assert parse(str(wanted)) == wanted


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@example("\ud800")
@example("labels." + '"' * 3)
def test_any_text_is_a_filter_or_is_refused_as_one(text: str) -> None:
    """Nothing else comes out, whatever goes in; and what is read, reads the same when it is written again."""
    with contextlib.suppress(FilterInvalid):
        assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", ""),
        (" \t\r\n", ""),
        ("state=ACTIVE", "state = ACTIVE"),
        ("state = SESSION_STATE_ACTIVE", "state = ACTIVE"),
        ("(state = ACTIVE)", "state = ACTIVE"),
        ("( state = ACTIVE OR state = ENDED )", "(state = ACTIVE OR state = ENDED)"),
        (
            "state = ACTIVE OR state = ENDED AND kind != 'cron'",
            "(state = ACTIVE OR state = ENDED) AND kind != cron",
        ),
        (
            "kind != cron AND (state = ACTIVE OR state = ENDED)",
            "kind != cron AND (state = ACTIVE OR state = ENDED)",
        ),
        ('agent = "Support"', "agent = support"),
        ("key = Settings2", 'key = "agent:main:settings2"'),
        ('key = "agent:main:*"', 'key : "agent:main:*"'),
        ("key:agent:main:cron:*", 'key : "agent:main:cron:*"'),
        ("key:ag*", 'key : "ag*"'),
        ("key : *", 'key : "*"'),
        (r'key = "a\*"', r'key = "agent:main:a\*"'),
        ("running = true AND running != true", "running = true AND running != true"),
        ("labels.team = billing", "labels.team = billing"),
        ("labels.a.b/c:*", 'labels.a.b/c : "*"'),
        ("labels.AND != 'AND'", 'labels."AND" != "AND"'),
        (r"""labels.'it\'s \*' = 'it\'s \*'""", r"""labels."it's \*" = "it's \*" """.strip()),
        ('labels."" = ""', 'labels."" = ""'),
        ("labels.größe = größe", 'labels."größe" = "größe"'),
        ("update_time>=2026-01-31T13:00:00+01:00", "update_time >= 2026-01-31T12:00:00Z"),
        ("create_time<'2026-01-31T12:00:00.5Z'", "create_time < 2026-01-31T12:00:00.500Z"),
    ],
)
def test_a_text_means_a_filter(text: str, meaning: str) -> None:
    """The spellings that a condition may have, by the one that is written."""
    assert str(parse(text)) == meaning


def test_a_key_is_read_by_the_servers_settings() -> None:
    """A bare key belongs to the server's default agent, here as everywhere."""
    assert str(parse("key = home", default_agent="ops", main_key="home")) == 'key = "agent:ops:main"'


REFUSALS = [
    ("colour = red", 1, "'colour' is no field of a filter; use one of state, kind,"),
    ("State = ACTIVE", 1, "'State' is no field"),
    ("display_name = x", 1, "is no field"),
    ("= x", 1, "a field is missing"),
    ("state = ACTIVE AND", 19, "a field is missing"),
    ("((state = ACTIVE))", 2, "a field is missing"),
    ("NOT state = ACTIVE", 1, "compare with != instead"),
    ("state = ACTIVE AND -state = ENDED", 20, "compare with != instead"),
    ("state", 6, "state is not compared; use one of = !="),
    ("state ~ ACTIVE", 7, "state is not compared"),
    ("state < ACTIVE", 7, "state is not compared with <; use one of = !="),
    ("update_time != 2026-01-31T12:00:00Z", 13, "use one of < <= > >= ="),
    ("state =", 8, "the value is missing; write it as in state = ACTIVE"),
    ("state = (ACTIVE OR ENDED)", 9, "the value is missing"),
    ("state = AND", 9, "the value is missing"),
    ("state = active", 9, "'active' is unknown; use one of CREATED, STARTING"),
    ("state = UNSPECIFIED", 9, "is unknown"),
    ("kind = telegram", 8, "use one of main, custom, direct"),
    ("running = yes", 11, "use one of true, false"),
    ("agent = 'bad id!'", 9, "'bad id!' is no agent id; use 1 to 64"),
    ("key = 'two words'", 7, "it holds white space"),
    ("key = agent:main:" + "k" * 600, 7, "over its limit: 600, at most 512"),
    ("key : cron:*", 7, "no canonical key begins with 'cron:'; write agent:<agent>:<beginning>*"),
    ("key : agent:main:x", 7, "has no * at its end; compare whole values with ="),
    ("key != agent:main:*", 8, "a * ends a value that must be whole"),
    ("kind = cr*", 8, "a * ends a value that must be whole"),
    ("labels.x = a*b", 12, "a * stands within a value"),
    ("labels.x = **", 12, "a * stands within a value"),
    ("labels = x", 7, "write labels.<name>"),
    ("labels. = x", 8, "write labels.<name>"),
    ("labels.'a*' = x", 8, "a * stands in the name of a label"),
    (r"""labels.'a"' = x""", 8, "cannot be asked for"),
    (r"labels.'a\\' = x", 8, "cannot be asked for"),
    ("labels.'\n' = x", 8, "cannot be asked for"),
    ("labels.x = 'a", 12, "a quoted text is not closed"),
    (r"labels.x = 'a\n'", 12, "a quoted text is not closed, or has a"),
    ("update_time > yesterday", 15, "'yesterday' is no time as in RFC 3339: write it like"),
    ("update_time > 2026-02-30T00:00:00Z", 15, "not in the calendar"),
    ("state = ACTIVE kind = cron", 16, "AND is missing before 'kind'"),
    ("state = ACTIVE, kind = cron", 15, "AND is missing before ','"),
    ("state = ACTIVE and kind = cron", 16, "and is written in capitals"),
    ("state = ACTIVE or state = ENDED", 16, "or is written in capitals"),
    ("state = ACTIVE OR kind = cron", 19, "OR joins conditions of two fields"),
    ("labels.a = x OR labels.b = x", 17, "OR joins conditions of two fields"),
    ("(state = ACTIVE) OR state = ENDED", 18, "OR stands behind a parenthesis"),
    ("(state = ACTIVE AND kind = cron)", 17, "AND stands in parentheses"),
    (" (state = ACTIVE", 2, "a parenthesis is not closed"),
    ("state = ACTIVE)", 15, "a parenthesis is closed that was not opened"),
    ("labels.x = 'a\0'", 14, "there is U+0000"),
    ("\udfff", 1, "there is U+DFFF"),
]


@pytest.mark.parametrize(
    ("text", "position", "problem"), REFUSALS, ids=[text[:40] for text, _, _ in REFUSALS]
)
def test_a_refusal_says_where_and_what_to_do(text: str, position: int, problem: str) -> None:
    """Counted in characters, the first is 1."""
    with pytest.raises(FilterInvalid) as refused:
        parse(text)
    message = str(refused.value)
    assert message.startswith(f"The filter cannot be used: at character {position}, ")
    assert problem in message
    assert message.endswith(".")
    assert not message.endswith("..")
    assert refused.value.details["position"] == str(position)


@pytest.mark.parametrize("field", Field)
def test_every_example_of_the_docs_is_a_filter_on_its_field(field: Field) -> None:
    """What the table shows can be sent."""
    assert {one.field for group in parse(FIELDS[field].example).groups for one in group} == {field}


def test_a_text_is_at_most_so_many_bytes() -> None:
    """Bytes of UTF-8, white space included."""
    limits = Limits(filter_bytes_max=20)
    assert parse("labels.x = größe  ", limits) == parse("labels.x = größe")
    with pytest.raises(FilterInvalid, match="it has 21 bytes, at most 20"):
        parse("labels.x = größe   ", limits)


def test_a_filter_has_at_most_so_many_conditions() -> None:
    """However they are joined."""
    limits = Limits(filter_conditions_max=3)
    text = "running = true OR running = true AND running = true"
    assert sum(map(len, parse(text, limits).groups)) == 3
    with pytest.raises(FilterInvalid, match="at character 57, the filter has more than 3 conditions"):
        parse(f"{text} AND running = true", limits)
