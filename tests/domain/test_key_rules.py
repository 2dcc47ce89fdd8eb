"""What a key may be made of: properties over all text, every code point by itself, and rules that explain themselves.

What a character may be is written anew here from what the rules promise, so that a slip in the
tables of `key_rules` cannot hide behind itself.
"""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessionplane.domain.errors import KeyInvalid, LimitExceeded, SessionPlaneError
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
from tests.support.keys import HOME, PLAIN, REFUSALS

NO_BOUNDS = Limits(raw_key_bytes_max=sys.maxsize, key_rest_bytes_max=sys.maxsize)
WHITE_SPACE = [chr(code) for code in (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))]
WHITE_SPACE += [chr(code) for code in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]


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
thorough = settings(max_examples=200, deadline=None, derandomize=True)


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
