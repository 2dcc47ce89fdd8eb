"""The canonicaliser: a table of spellings, the agent of a request, and sizes."""

from __future__ import annotations

from typing import Any

import pytest

from sessionplane.domain.errors import (
    AgentMismatch,
    FieldInvalid,
    KeyInvalid,
    LimitExceeded,
    SessionPlaneError,
)
from sessionplane.domain.keys import KeySettings, Rule, canonical
from sessionplane.domain.limits import Limits
from tests.support.keys import HOME, PLAIN, REFUSALS


def canon(raw: str, key_settings: KeySettings = PLAIN, **more: Any) -> str:
    return canonical(raw, settings=key_settings, **more).text


def refusal(raw: str, key_settings: KeySettings = PLAIN, **more: Any) -> SessionPlaneError:
    with pytest.raises(SessionPlaneError) as caught:
        canonical(raw, settings=key_settings, **more)
    assert isinstance(caught.value, REFUSALS)
    return caught.value


def rule_of(error: SessionPlaneError) -> Rule:
    return Rule[error.details["problem"].rpartition("(rule ")[2].removesuffix(")")]


# Spellings and what they mean


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("settings2", "agent:main:settings2"),
        (" Settings2 ", "agent:main:settings2"),
        ("agent:main:settings2", "agent:main:settings2"),
        ("AGENT:Main:Settings2", "agent:main:settings2"),
        ("agent:main:agent:main:main", "agent:main:main"),
        ("agent:main:AGENT:Main:agent:MAIN:x", "agent:main:x"),
        ("agent:ops:agent:ops:signal:group:AbC", "agent:ops:signal:group:AbC"),
        ("main", "agent:main:main"),
        ("MAIN", "agent:main:main"),
        ("agent:a:main", "agent:a:main"),
        ("agent", "agent:main:agent"),
        ("agent:main:agent", "agent:main:agent"),
        ("agents:x:y", "agent:main:agents:x:y"),
        ("subagent:ABC", "agent:main:subagent:abc"),
        ("cron:J", "agent:main:cron:j"),
        ("hook:u", "agent:main:hook:u"),
        ("node-3", "agent:main:node-3"),
        ("group:X", "agent:main:group:x"),
        ("120363@g.us", "agent:main:120363@g.us"),
        ("dm:x", "agent:main:dm:x"),
        ("host.Example:01JABCDEF", "agent:main:host.example:01jabcdef"),
        ("global:x", "agent:main:global:x"),
        ("agent:global:x", "agent:global:x"),
        ("Straße", "agent:main:strasse"),
        ("ΣΊΣΥΦΟΣ", "agent:main:σίσυφοσ"),
        ("e\u0301", "agent:main:\u00e9"),
        ("\u212a", "agent:main:k"),
        ("\u0301x", "agent:main:\u0301x"),
        ("\ue000", "agent:main:\ue000"),
    ],
)
def test_each_spelling_has_its_one_canonical_form(raw: str, text: str) -> None:
    """A spelling seen in the wild, or at the edge of a rule, means exactly this key."""
    assert canon(raw) == text


@pytest.mark.parametrize("raw", ["home", "HOME", "main", "agent:main:Home", "agent:main:agent:main:home"])
def test_the_main_key_is_a_spelling_of_main(raw: str) -> None:
    """Whatever `main_key` says, the canonical text says `main`, so a changed setting moves no session."""
    assert canon(raw, HOME) == "agent:main:main"


def test_the_main_key_is_compared_with_the_whole_rest() -> None:
    """A rest that only begins with the main key is another conversation."""
    assert canon("home:thread:5", HOME) == "agent:main:home:thread:5"


@pytest.mark.parametrize(
    ("raw", "rest"),
    [
        ("Signal:Group:AbC+/=", "signal:group:AbC+/="),
        ("signal:direct:UUID", "signal:direct:UUID"),
        ("signal:Work:Direct:UUID", "signal:work:direct:UUID"),
        ("signal:group:AbC:Thread:DeF", "signal:group:AbC:thread:def"),
        ("signal:group:direct:AbC", "signal:group:direct:abc"),
        ("signal:channel:AbC", "signal:channel:abc"),
        ("MATRIX:Channel:!AbC:Example.Org", "matrix:channel:!AbC:Example.Org"),
        ("matrix:Group:!AbC:x:THREAD:$EvT", "matrix:group:!AbC:x:thread:$EvT"),
        ("matrix:direct:@Bo:x:Thread:Thread:y", "matrix:direct:@Bo:x:Thread:thread:y"),
        ("matrix:direct:@Bo:Thread:Thread", "matrix:direct:@Bo:thread:Thread"),
        ("matrix:direct:Thread:X", "matrix:direct:Thread:X"),
        ("matrix:direct:A:Thread", "matrix:direct:A:Thread"),
        ("matrix:channel:e\u0301E\u0301", "matrix:channel:\u00e9\u00c9"),
        ("matrix:channel", "matrix:channel"),
        ("Matrix:Other:X", "matrix:other:x"),
        ("x:matrix:channel:AbC", "x:matrix:channel:abc"),
        ("whatsapp:group:AbC", "whatsapp:group:abc"),
    ],
)
def test_only_registered_spans_keep_their_case(raw: str, rest: str) -> None:
    """Signal keeps one segment and Matrix the tail; markers, accounts and all else are folded."""
    assert canonical(raw, settings=PLAIN).rest == rest


def test_no_span_keeps_its_case_without_a_registry() -> None:
    """The registry alone decides about case, not the names of channels."""
    assert canon("signal:group:AbC", KeySettings(opaque_peers=())) == "agent:main:signal:group:abc"


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ("", Rule.EMPTY),
        (" \t\u3000", Rule.EMPTY),
        ("agent:main", Rule.AGENT_PREFIX),
        ("agent:", Rule.AGENT_PREFIX),
        ("agent:main:agent:main", Rule.AGENT_PREFIX),
        ("agent:main:agent:", Rule.EMPTY_SEGMENT),
        ("agent::x", Rule.AGENT_ID),
        ("agent:bad!:x", Rule.AGENT_ID),
        ("agent:-a:x", Rule.AGENT_ID),
        ("agent:stra\u00dfe:x", Rule.AGENT_ID),
        (f"agent:{'a' * 65}:x", Rule.AGENT_ID),
        ("agent:main:agent:bad!:x", Rule.AGENT_ID),
        ("agent:main:", Rule.EMPTY_SEGMENT),
        ("agent:main::x", Rule.EMPTY_SEGMENT),
        ("agent:main:agent:main:", Rule.EMPTY_SEGMENT),
        ("a::b", Rule.EMPTY_SEGMENT),
        (":a", Rule.EMPTY_SEGMENT),
        ("a:", Rule.EMPTY_SEGMENT),
        (":", Rule.EMPTY_SEGMENT),
        ("agent:main:agent:ops:x", Rule.UNWRAP),
        ("agent:bad id!:x", Rule.WHITE_SPACE),
        ("a b", Rule.WHITE_SPACE),
        ("a\nb", Rule.WHITE_SPACE),
        ("a: b", Rule.WHITE_SPACE),
        ("a\0b", Rule.CONTROL),
        ("\x1ca", Rule.CONTROL),
        ("a\x7f", Rule.CONTROL),
        ("a\u200bb", Rule.INVISIBLE),
        ("\ufeffa", Rule.INVISIBLE),
        ("a\u202eb", Rule.INVISIBLE),
        ("\u2764\ufe0f", Rule.INVISIBLE),
        ("\ud800", Rule.SURROGATE),
        ("\ue000\udfff", Rule.SURROGATE),
        ("\uffff", Rule.UNASSIGNED),
        ("\ufb01n", Rule.COMPATIBILITY),
        ("\uff1a", Rule.COMPATIBILITY),
        ("global", Rule.RESERVED),
        ("Unknown", Rule.RESERVED),
        ("agent:a:GLOBAL", Rule.RESERVED),
        ("agent:a:agent:a:unknown", Rule.RESERVED),
    ],
)
def test_a_refused_key_names_the_field_and_the_rule(raw: str, rule: Rule) -> None:
    """What no rule can read is refused by name, and nothing is guessed or mended."""
    error = refusal(raw, field="parent.key")
    assert isinstance(error, KeyInvalid)
    assert error.details["field"] == "parent.key"
    assert rule_of(error) is rule


# The request's agent and the allow list


@pytest.mark.parametrize(
    ("raw", "agent", "text"),
    [
        ("x", "Ops", "agent:ops:x"),
        ("main", "ops", "agent:ops:main"),
        ("agent:ops:x", "OPS", "agent:ops:x"),
        ("x", "", "agent:main:x"),
    ],
)
def test_a_bare_key_belongs_to_the_agent_of_the_request(raw: str, agent: str, text: str) -> None:
    """The request's agent owns a bare key and may repeat, in any case, what a full key says."""
    assert canon(raw, agent=agent) == text


def test_a_request_cannot_change_the_agent_of_a_key() -> None:
    """A request whose agent is not the key's own is refused, and told which one the key names."""
    error = refusal("agent:ops:x", agent="main")
    assert isinstance(error, AgentMismatch)
    assert error.details["field"] == "session.key"
    assert error.details["agent"] == "ops"
    assert rule_of(error) is Rule.AGENT_HINT


@pytest.mark.parametrize("agent", ["bad id!", " main", "main\n", "\u212a", "a" * 65, "-a", "\ud800", "a:b"])
def test_an_agent_in_a_request_is_never_mended(agent: str) -> None:
    """A request's agent that is no agent id is refused at its own field, and echoed only escaped."""
    error = refusal("x", agent=agent)
    assert isinstance(error, FieldInvalid)
    assert error.details["field"] == "session.agent"
    assert rule_of(error) is Rule.AGENT_ID
    assert str(error).isascii()
    assert str(error).isprintable()


def test_the_field_of_the_agent_stands_beside_the_field_of_the_key() -> None:
    """A key at the top of a request has its agent there too."""
    assert refusal("x", agent="!", field="key").details["field"] == "agent"


@pytest.mark.parametrize(
    ("raw", "agent", "field"), [("agent:c:x", "", "session.key"), ("x", "c", "session.agent")]
)
def test_an_agent_outside_the_list_is_refused(raw: str, agent: str, field: str) -> None:
    """With an allow list, other agents are refused at the field that named them."""
    error = refusal(raw, KeySettings(agents=frozenset({"main", "b"})), agent=agent)
    assert isinstance(error, AgentMismatch)
    assert error.details["field"] == field
    assert error.details["agent"] == "c"
    assert rule_of(error) is Rule.ALLOW_LIST


def test_an_agent_in_the_list_is_served() -> None:
    """The allow list admits its own agents, folded."""
    assert canon("agent:B:x", KeySettings(agents=frozenset({"main", "b"}))) == "agent:b:x"


# Sizes


@pytest.mark.parametrize(
    ("raw", "actual", "limit"),
    [
        ("x" * 1025, 1025, 1024),
        (" " * 1024 + "x", 1025, 1024),
        ("\ud800" * 342, 1026, 1024),
        ("x" * 513, 513, 512),
        ("\u0130" * 171, 513, 512),
        ("agent:main:" + "\u00e9" * 257, 514, 512),
    ],
)
def test_sizes_are_bytes_of_utf8(raw: str, actual: int, limit: int) -> None:
    """The raw text and the folded rest are measured as the wire and the database hold them."""
    error = refusal(raw)
    assert isinstance(error, LimitExceeded)
    assert error.details == {"field": "session.key", "actual": str(actual), "limit": str(limit)}


def test_the_longest_key_is_accepted_and_so_is_its_echo() -> None:
    """A canonical key at every limit is far below the limit of raw text."""
    text = canon(f"agent:{'a' * 64}:{'x' * 512}")
    assert canon(text) == text
    assert len(text) == 583


def test_limits_are_the_callers() -> None:
    """The bounds come from the server's limits, not from this module."""
    assert refusal("abcd", limits=Limits(key_rest_bytes_max=3)).details["limit"] == "3"


def test_a_refusal_shows_little_of_the_key() -> None:
    """A message holds a short, escaped piece of the key at most, and reads as sentences."""
    error = refusal("agent:" + "\u0416" * 100 + ":x")
    assert str(error).isascii()
    assert len(str(error)) < 260
