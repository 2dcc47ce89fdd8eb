"""The canonicaliser: a table of spellings, properties over all text, and every code point by itself.

What a character may be is written anew here from what the rules promise, so that a slip in the
tables of `key_rules` cannot hide behind itself.
"""

from __future__ import annotations

import ast
import sys
import unicodedata
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sessionplane
from sessionplane.domain.errors import (
    AgentMismatch,
    FieldInvalid,
    KeyInvalid,
    LimitExceeded,
    SessionPlaneError,
)
from sessionplane.domain.keys import (
    KeyKind,
    KeySettings,
    OpaquePeer,
    Rule,
    SessionKey,
    canonical,
    explain,
    from_stored,
)
from sessionplane.domain.limits import DEFAULT, Limits

PLAIN = KeySettings()
HOME = KeySettings(main_key="home")
NO_BOUNDS = Limits(raw_key_bytes_max=sys.maxsize, key_rest_bytes_max=sys.maxsize)
REFUSALS = (KeyInvalid, AgentMismatch, FieldInvalid, LimitExceeded)
WHITE_SPACE = [chr(code) for code in (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))]
WHITE_SPACE += [chr(code) for code in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]


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


# Kinds


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("main", KeyKind.MAIN),
        ("settings2", KeyKind.CUSTOM),
        ("main:thread:5", KeyKind.CUSTOM),
        ("direct", KeyKind.CUSTOM),
        ("direct:bo", KeyKind.DIRECT),
        ("telegram:direct:7", KeyKind.DIRECT),
        ("telegram:work:direct:7:thread:8", KeyKind.DIRECT),
        ("telegram:group:7:topic:8", KeyKind.GROUP),
        ("telegram:group", KeyKind.CUSTOM),
        ("telegram:work:group:7", KeyKind.CUSTOM),
        ("telegram:work:direct", KeyKind.CUSTOM),
        ("slack:channel:c1:thread:17.5", KeyKind.CHANNEL),
        ("matrix:channel:!R:example.org", KeyKind.CHANNEL),
        ("subagent:a", KeyKind.SUBAGENT),
        ("subagent:a:subagent:b", KeyKind.SUBAGENT),
        ("subagent", KeyKind.CUSTOM),
        ("cron:j", KeyKind.CRON),
        ("cron:j:run:7", KeyKind.CRON),
        ("hook:u", KeyKind.HOOK),
        ("acp:u", KeyKind.ACP),
        ("node-3", KeyKind.CUSTOM),
        ("ses_0190b7a1", KeyKind.CUSTOM),
    ],
)
def test_the_kind_follows_from_the_shape(raw: str, kind: KeyKind) -> None:
    """The kind is told from the rest alone, whichever agent owns it."""
    assert canonical(raw, settings=PLAIN).kind is kind
    assert canonical(raw, settings=PLAIN, agent="ops").kind is kind


@pytest.mark.parametrize(
    ("raw", "thread"),
    [
        ("main:thread:5", True),
        ("direct:bo:thread:8", True),
        ("telegram:work:direct:7:thread:8", True),
        ("telegram:group:7:topic:8", True),
        ("slack:channel:c1:thread:17.5", True),
        ("matrix:channel:!R:example.org:Thread:$E", True),
        ("main", False),
        ("telegram:group:7", False),
        ("telegram:group:7:topic", False),
        ("telegram:group:thread:8", False),
        ("direct:topic:8", False),
        ("main:group:topic:8", False),
        ("thread:direct:7", False),
        ("book:topic:8", False),
        ("thread:8", False),
        ("cron:j:thread:8", False),
        ("hook:mail:thread:8", False),
        ("subagent:direct:7:thread:8", False),
    ],
)
def test_a_thread_hangs_on_a_conversation(raw: str, thread: bool) -> None:
    """The words `thread` and `topic` make one behind main, a peer or a room; in an id they mean nothing."""
    assert canonical(raw, settings=PLAIN).is_thread is thread
    assert canonical(raw, settings=PLAIN, agent="ops").is_thread is thread


# The value


def test_a_key_is_its_text() -> None:
    """Keys are values: equal, hashed, sorted and shown as their text is."""
    raws = ["agent:a-b:x", "agent:a:x", "agent:a:X", "agent:a0:x"]
    keys = [canonical(raw, settings=PLAIN) for raw in raws]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert [str(key) for key in sorted(keys)] == sorted(key.text for key in keys)
    with pytest.raises(FrozenInstanceError):
        keys[0].rest = "y"  # type: ignore[misc]


def test_what_the_store_wrote_is_split_as_it_was() -> None:
    """A stored key comes back equal, whatever the settings are by now."""
    key = canonical("matrix:channel:!AbC:x", settings=PLAIN, agent="ops")
    assert from_stored(key.text) == key


@pytest.mark.parametrize(
    ("raw", "agent", "spelling"),
    [
        (" Settings2\t", "", "Settings2"),
        ("Settings2", "Ops", "agent:ops:Settings2"),
        ("AGENT:Ops:Settings2", "ops", "AGENT:Ops:Settings2"),
        ("signal:group:AbC", "", "signal:group:AbC"),
        ("agent:main:agent:main:Home", "", "agent:main:agent:main:Home"),
        ("e\u0301", "", "\u00e9"),
    ],
)
def test_a_key_remembers_how_it_was_spelled(raw: str, agent: str, spelling: str) -> None:
    """What the caller wrote stays, without the white space around it and with the request's agent in front."""
    assert canonical(raw, settings=HOME, agent=agent).spelling == spelling


def test_a_spelling_is_no_part_of_the_identity() -> None:
    """Two spellings of one key are one value, which a dictionary finds under either; a stored key has none."""
    one, other = (canonical(raw, settings=PLAIN) for raw in ("Settings2", "agent:main:settings2"))
    assert (one, hash(one)) == (other, hash(other))
    assert not one < other
    assert from_stored(one.text) == one
    assert from_stored(one.text).spelling == ""


@pytest.mark.parametrize("text", ["", "settings2", "agent:main", "agent:main:", "agent:Main:x", "agent::x"])
def test_a_stored_text_that_is_no_key_is_a_defect(text: str) -> None:
    """The store never wrote these, so reading one is no refusal of a request."""
    with pytest.raises(ValueError, match="stored key"):
        from_stored(text)


def test_no_other_module_builds_a_key() -> None:
    """Whoever holds a SessionKey holds a canonical key, since only one module calls its constructor."""
    builders = set()
    for path in Path(sessionplane.__file__).parent.rglob("*.py"):
        names = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(getattr(name, "id", getattr(name, "attr", "")) == "SessionKey" for name in names):
            builders.add(path.name)
    assert builders == {"keys.py"}


# Settings


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"default_agent": ""}, "agent id"),
        ({"default_agent": "Main"}, "agent id"),
        ({"agents": frozenset()}, "not in agents"),
        ({"agents": frozenset({"ops"})}, "not in agents"),
        ({"agents": frozenset({"main", "bad id!"})}, "'bad id!' is not an agent id"),
        ({"main_key": ""}, "main_key"),
        ({"main_key": "Home"}, "lower case"),
        ({"main_key": "a:b"}, "one segment"),
        ({"main_key": "a b"}, "without spaces"),
        ({"main_key": "e\u0301"}, "main_key"),
        ({"main_key": "global"}, "none of global, unknown"),
        ({"opaque_peers": PLAIN.opaque_peers * 2}, "twice"),
    ],
)
def test_settings_that_no_key_could_meet_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    """A server cannot start with settings that would refuse, or never match, what people send."""
    with pytest.raises(ValueError, match=sentence):
        KeySettings(**wrong)


@pytest.mark.parametrize(
    ("channel", "markers"), [("Signal", {"group"}), ("direct", {"group"}), ("x", {"room"}), ("x", set())]
)
def test_an_opaque_channel_that_no_key_could_have_is_refused(channel: str, markers: set[str]) -> None:
    """An entry of the registry that could never apply is a mistake, said when it is made."""
    with pytest.raises(ValueError, match="opaque_peers"):
        OpaquePeer(channel=channel, markers=frozenset(markers))


# Explanations


def test_an_explanation_tells_each_rule_in_order() -> None:
    """Each rule that changed or decided something is a step with the text on both sides of it."""
    steps = explain(" Signal:GROUP:e\u0301E ", settings=PLAIN).steps
    assert [(step.rule.name, step.after) for step in steps] == [
        ("TRIM", "Signal:GROUP:e\u0301E"),
        ("NFC", "Signal:GROUP:\u00e9E"),
        ("DEFAULT_AGENT", "agent:main:Signal:GROUP:\u00e9E"),
        ("OPAQUE", "agent:main:Signal:GROUP:\u00e9E"),
        ("FOLD", "agent:main:signal:group:\u00e9E"),
    ]


@pytest.mark.parametrize(
    ("raw", "agent", "rules"),
    [
        ("agent:main:x", "", ["AGENT_PREFIX"]),
        ("x", "ops", ["AGENT_HINT"]),
        ("Home", "", ["DEFAULT_AGENT", "FOLD", "MAIN_KEY"]),
        ("agent:a:agent:a:main", "", ["AGENT_PREFIX", "UNWRAP"]),
    ],
)
def test_an_explanation_is_silent_about_rules_that_did_nothing(
    raw: str, agent: str, rules: list[str]
) -> None:
    """A rule that neither changed nor decided anything is no step."""
    assert [step.rule.name for step in explain(raw, settings=HOME, agent=agent).steps] == rules


def test_every_rule_says_what_it_does() -> None:
    """Each rule's description is a sentence of its own, fit to be shown."""
    assert all(rule.value.endswith(".") for rule in Rule)
    assert len({rule.value for rule in Rule}) == len(Rule.__members__)


# Properties over all text and settings


def repeated(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([1, 1, 1, 2, 3, 60]).map(lambda times: text * times)


def cased(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text, text.upper(), text.title(), text.swapcase()])


AGENTS = st.sampled_from(["main", "ops", "a", "a-b", "0_x", "k" * 64])
WORDS = st.sampled_from(
    [*KeyKind, "agent", "ops", "home", "a", "global", "unknown", "thread", "topic", "run"]
).flatmap(cased)
CHANNELS = st.sampled_from(["signal", "matrix", "telegram"]).flatmap(cased)
MARKERS = st.sampled_from(["direct", "group", "channel"]).flatmap(cased)
# Characters whose folding or composing is not plain.
ODD = st.text(
    "\u00df\u0390\u0130\u01f0\u1fb3\u03c2\u212a\u0345\u0301\u0307\u0323eE\ue000", min_size=1, max_size=4
)
CODE_POINTS = st.integers(0, sys.maxunicode).map(chr)
ANY_TEXT = st.text(CODE_POINTS, max_size=40)
USUAL_TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=12)
SEGMENTS = st.one_of(WORDS, CHANNELS, ODD, USUAL_TEXT)
SHAPED = st.lists(SEGMENTS, min_size=1, max_size=9).map(":".join)
IDS = st.lists(st.one_of(WORDS, ODD, st.just("Thread")), min_size=1, max_size=5).map(":".join)
PEER_KEYS = st.builds("{}:{}:{}".format, CHANNELS, MARKERS | ODD.map("{}:Direct".format), IDS)
NESTED = st.builds("{}{}".format, AGENTS.map("agent:{}:".format).flatmap(repeated), SHAPED | PEER_KEYS)
KEYS = st.one_of(ANY_TEXT, SHAPED, PEER_KEYS, NESTED, SHAPED.flatmap(repeated))
SPACE = st.text(st.sampled_from(WHITE_SPACE), max_size=4)
PEERS = st.builds(
    OpaquePeer,
    channel=st.sampled_from(["signal", "matrix", "telegram"]),
    markers=st.sets(st.sampled_from(["direct", "group", "channel"]), min_size=1).map(frozenset),
    whole_tail=st.booleans(),
)
KEY_SETTINGS = st.builds(
    KeySettings,
    default_agent=AGENTS,
    main_key=st.sampled_from(["main", "home", "agent", "direct", "strasse", "\u0390"]),
    agents=st.none() | st.just(frozenset({"main", "ops", "a", "a-b", "0_x", "k" * 64})),
    opaque_peers=st.lists(PEERS, max_size=3, unique_by=lambda peer: peer.channel).map(tuple),
)
NO_HINT = st.just("")
HINTS = st.one_of(
    NO_HINT, NO_HINT, NO_HINT, st.sampled_from(["main", "Ops"]), st.text(CODE_POINTS, max_size=6)
)

thorough = settings(max_examples=400, deadline=None, derandomize=True)


def attempt(raw: str, key_settings: KeySettings, agent: str = "") -> SessionKey | SessionPlaneError:
    """The key or the typed refusal; any other exception fails the test that asked."""
    try:
        return canonical(raw, settings=key_settings, agent=agent)
    except REFUSALS as error:
        return error


@thorough
@given(raw=KEYS, key_settings=KEY_SETTINGS, agent=HINTS)
def test_every_text_is_a_key_or_a_typed_refusal(raw: str, key_settings: KeySettings, agent: str) -> None:
    """No text whatever raises another exception, breaks a size bound or shows itself in a message."""
    result = attempt(raw, key_settings, agent)
    if isinstance(result, SessionKey):
        assert result.text == f"agent:{result.agent}:{result.rest}"
        assert 0 < len(result.rest.encode()) <= DEFAULT.key_rest_bytes_max
        assert from_stored(result.text) == result
        assert result.kind in KeyKind
    else:
        assert len(str(result)) < 500
        assert str(result).isascii()
        assert str(result).isprintable()


@thorough
@given(raw=KEYS, key_settings=KEY_SETTINGS, agent=HINTS)
@example(raw="\u1fb3\u0345", key_settings=PLAIN, agent="")
@example(raw="matrix:direct:Thread:Thread:Thread", key_settings=PLAIN, agent="")
def test_a_canonical_key_is_its_own_canonical_form(raw: str, key_settings: KeySettings, agent: str) -> None:
    """An echoed key is always accepted and means itself, alone, with its agent, or wrapped once more."""
    key = attempt(raw, key_settings, agent)
    if isinstance(key, SessionKey):
        for again in (key.text, f"agent:{key.agent}:{key.text}"):
            assert canonical(again, settings=key_settings) == key
            assert canonical(again, settings=key_settings, agent=key.agent) == key
        assert canonical(key.rest, settings=key_settings, agent=key.agent) == key


@thorough
@given(raw=KEYS, first=KEY_SETTINGS, second=KEY_SETTINGS, agent=HINTS)
def test_a_spelling_means_what_was_written(
    raw: str, first: KeySettings, second: KeySettings, agent: str
) -> None:
    """Under any other settings the spelling alone is read as the text and the agent of the request would be."""
    key = attempt(raw, first, agent)
    if isinstance(key, SessionKey):
        expected = attempt(raw, second, agent)
        again = attempt(key.spelling, second)
        if isinstance(expected, SessionKey) and not isinstance(again, LimitExceeded):
            assert isinstance(again, SessionKey)
            assert (again, again.spelling) == (expected, key.spelling)


@thorough
@given(raw=KEYS, before=SPACE, after=SPACE, key_settings=KEY_SETTINGS)
def test_white_space_around_a_key_changes_nothing(
    raw: str, before: str, after: str, key_settings: KeySettings
) -> None:
    """White space of every kind around a spelling gives the same key or the same refusal."""
    plain, spaced = attempt(raw, key_settings), attempt(f"{before}{raw}{after}", key_settings)
    if not isinstance(spaced, LimitExceeded):
        assert str(spaced) == str(plain)


@thorough
@given(raw=KEYS, key_settings=KEY_SETTINGS)
def test_canonically_equivalent_spellings_are_one_key(raw: str, key_settings: KeySettings) -> None:
    """Composed and decomposed text, which look the same, are the same key or the same refusal."""
    results = [attempt(unicodedata.normalize(form, raw), key_settings) for form in ("NFC", "NFD")]
    if not any(isinstance(result, LimitExceeded) for result in results):
        assert str(results[0]) == str(results[1])


@thorough
@given(raw=KEYS, key_settings=KEY_SETTINGS, agent=HINTS)
def test_an_explanation_leads_from_the_raw_text_to_the_key(
    raw: str, key_settings: KeySettings, agent: str
) -> None:
    """The explained key is the canonical one, and the steps are one chain without a gap."""
    key = attempt(raw, key_settings, agent)
    if isinstance(key, SessionKey):
        explanation = explain(raw, settings=key_settings, agent=agent)
        texts = [raw, *(step.after for step in explanation.steps)]
        assert explanation.key == key
        assert [step.before for step in explanation.steps] == texts[:-1]
        assert texts[-1] == key.text
    else:
        with pytest.raises(type(key)) as caught:
            explain(raw, settings=key_settings, agent=agent)
        assert caught.value.details == key.details


@thorough
@given(raw=KEYS, key_settings=KEY_SETTINGS)
def test_what_is_accepted_is_stable_text(raw: str, key_settings: KeySettings) -> None:
    """A canonical key is NFKC text, outside the opaque spans folded, and holds nothing invisible."""
    key = attempt(raw, key_settings)
    if isinstance(key, SessionKey):
        assert unicodedata.is_normalized("NFKC", key.text)
        assert not any(map(is_refused, key.text))
        kept = [peer.channel for peer in key_settings.opaque_peers]
        assert key.rest.split(":")[0] in kept or key.rest == folded(key.rest)


# Every code point

IGNORABLE = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, 0xFFA0}
IGNORABLE |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
EMPTY_PLANES = range(0x40000, 0xE0000)


def is_refused(character: str) -> bool:
    normal = unicodedata.normalize("NFC", character)
    return (
        unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Zs", "Zl", "Zp"}
        or ord(character) in IGNORABLE
        or unicodedata.normalize("NFKC", character) != normal
    )


def folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def test_every_usable_code_point_folds_as_a_segment() -> None:
    """Each usable character, as a segment of its own, folds the same way once and twice."""
    usable = [chr(code) for code in range(sys.maxunicode + 1) if code not in EMPTY_PLANES]
    usable = [character for character in usable if character != ":" and not is_refused(character)]
    assert len(usable) > 250_000
    for start in range(0, len(usable), 1_000):
        some = usable[start : start + 1_000]
        key = canonical(":".join(["x", *some]), settings=PLAIN, limits=NO_BOUNDS)
        assert key.rest == ":".join(["x", *map(folded, some)])
        assert canonical(key.text, settings=PLAIN, limits=NO_BOUNDS) == key


def test_every_other_code_point_is_refused_inside_a_key() -> None:
    """Each unusable character is refused by itself; of planes 4 to 13, which are empty, a sample is."""
    codes = [*range(0x40000), *EMPTY_PLANES[::101], *range(0xE0000, sys.maxunicode + 1)]
    accepted = []
    for character in filter(is_refused, map(chr, codes)):
        try:
            accepted.append(canonical(f"x{character}y", settings=PLAIN))
        except KeyInvalid:
            continue
    assert accepted == []
