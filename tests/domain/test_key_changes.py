"""What other settings mean for a stored key: a table of cases, and properties over random settings and text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.key_changes import Fate, KeyRecord, fate, respelled
from sessionplane.domain.keys import DEFAULT_OPAQUE_PEERS, KeySettings, OpaquePeer, SessionKey, canonical
from sessionplane.domain.limits import Limits

PLAIN = KeySettings()
OPS = KeySettings(default_agent="ops")
ONLY_OPS = KeySettings(default_agent="ops", agents=frozenset({"ops"}))
HOME = KeySettings(main_key="home")
FOLDING = KeySettings(opaque_peers=())


def judged(raw: str, before: KeySettings, after: KeySettings) -> Fate:
    """Judge the key that a spelling made under the settings before."""
    key = canonical(raw, settings=before)
    return fate(key, KeyRecord(settings=before), KeyRecord(settings=after))


@pytest.mark.parametrize(
    ("raw", "before", "after", "text"),
    [
        ("Notes", PLAIN, OPS, "agent:ops:notes"),
        ("agent:main:Notes", PLAIN, HOME, "agent:main:notes"),
        ("agent:ops:Notes", PLAIN, OPS, "agent:ops:notes"),
        ("Main", PLAIN, OPS, "agent:ops:main"),
        ("home", PLAIN, HOME, "agent:main:main"),
        ("home", HOME, PLAIN, "agent:main:home"),
        ("home", HOME, KeySettings(main_key="desk"), "agent:main:home"),
        ("agent:a:Home", HOME, PLAIN, "agent:a:home"),
        ("signal:group:AbC", PLAIN, FOLDING, "agent:main:signal:group:abc"),
        ("signal:group:AbC", FOLDING, PLAIN, "agent:main:signal:group:AbC"),
        ("agent:main:agent:main:Signal:Group:AbC", FOLDING, PLAIN, "agent:main:signal:group:AbC"),
    ],
)
def test_a_key_goes_where_its_spelling_leads(
    raw: str, before: KeySettings, after: KeySettings, text: str
) -> None:
    """What made the pointer reaches it again, and the pointer still knows it."""
    found = judged(raw, before, after)
    assert (found.target.text, found.target.spelling, found.refusal) == (text, raw, "")


def test_a_key_of_an_agent_that_is_not_served_any_more_is_refused() -> None:
    """It stays where it is; what is refused already is no news."""
    found = judged("agent:main:notes", OPS, ONLY_OPS)
    assert found.target.text == "agent:main:notes"
    assert "(rule ALLOW_LIST)" in found.refusal
    key = canonical("agent:main:notes", settings=PLAIN)
    again = fate(key, KeyRecord(settings=ONLY_OPS), KeyRecord(settings=replace(ONLY_OPS, main_key="home")))
    assert again == Fate(target=key)


def test_a_bare_key_follows_the_default_agent_out_of_one_that_is_not_served_any_more() -> None:
    """It was written without an agent, so it belongs to whichever is the default."""
    found = judged("notes", PLAIN, ONLY_OPS)
    assert (found.target.text, found.refusal) == ("agent:ops:notes", "")


@pytest.mark.parametrize(
    ("raw", "before", "after", "strays"),
    [
        ("agent:main:notes", PLAIN, OPS, [("notes", "agent:ops:notes")]),
        ("agent:ops:notes", PLAIN, OPS, []),
        ("main", HOME, PLAIN, [("agent:main:home", "agent:main:home"), ("home", "agent:main:home")]),
        ("agent:a:main", HOME, PLAIN, [("agent:a:home", "agent:a:home")]),
        ("main", PLAIN, HOME, []),
        ("agent:main:notes", PLAIN, HOME, []),
    ],
)
def test_a_key_that_stays_tells_which_short_spellings_leave_it(
    raw: str, before: KeySettings, after: KeySettings, strays: list[tuple[str, str]]
) -> None:
    """Who wrote the agent is not moved, but who left it out would reach another session without a word."""
    found = judged(raw, before, after)
    assert found.target.text == canonical(raw, settings=before).text
    assert list(found.strays) == strays


def test_without_a_record_only_the_spelling_counts() -> None:
    """Nobody knows which short forms led to the key."""
    key = canonical("agent:main:notes", settings=PLAIN)
    assert fate(key, None, KeyRecord(settings=OPS)) == Fate(target=key)
    bare = canonical("notes", settings=PLAIN)
    assert fate(bare, None, KeyRecord(settings=OPS)).target.text == "agent:ops:notes"


def test_a_spelling_that_new_rules_refuse_leaves_the_key_to_its_echo() -> None:
    """Whoever sends the key as it was answered still reaches it; who sends the old spelling is told."""
    key = replace(canonical("notes", settings=PLAIN), spelling="no\tes")
    found = fate(key, KeyRecord(settings=PLAIN, rules_version=0), KeyRecord(settings=PLAIN))
    assert (found.target, found.target.spelling, found.refusal) == (key, "no\tes", "")
    assert [spelling for spelling, _ in found.strays] == ["no\tes"]
    assert "(rule WHITE_SPACE)" in found.strays[0][1]
    assert fate(key, KeyRecord(settings=PLAIN), KeyRecord(settings=HOME)).strays == ()


def test_a_spelling_is_read_again_whatever_the_bounds_are() -> None:
    """It was within them when it came; the agent that was put in front of it does not count."""
    wide = Limits(raw_key_bytes_max=4_096, key_rest_bytes_max=4_096)
    key = canonical("x" * 4_096, settings=PLAIN, agent="ops", limits=wide)
    assert fate(key, KeyRecord(settings=PLAIN), KeyRecord(settings=OPS)) == Fate(target=key)


# Records


def test_a_record_is_readable() -> None:
    """Whoever opens the file sees what its keys mean."""
    record = KeyRecord(
        settings=KeySettings(
            agents=frozenset({"ops", "main"}),
            opaque_peers=(OpaquePeer(channel="signal", markers=frozenset({"group", "direct"})),),
        )
    )
    assert record.facts() == {
        "key_rules_version": "1",
        "key_settings": '{"default_agent": "main", "main_key": "main", "agents": ["main", "ops"],'
        ' "opaque_peers": [{"channel": "signal", "markers": ["direct", "group"], "whole_tail": false}]}',
    }


def test_the_order_in_which_settings_are_written_means_nothing() -> None:
    """A list turned round is the same record."""
    turned = KeySettings(opaque_peers=tuple(reversed(DEFAULT_OPAQUE_PEERS)))
    assert KeyRecord(settings=turned).facts() == KeyRecord(settings=PLAIN).facts()


def test_differences_are_said_by_name() -> None:
    """Each setting that differs is a line, and nothing else is."""
    after = KeyRecord(
        rules_version=2,
        settings=KeySettings(default_agent="ops", agents=frozenset({"ops", "a"}), opaque_peers=()),
    )
    said = list(KeyRecord(settings=PLAIN).differences(after))
    assert said[:3] == [
        "the rules of keys: version 1 -> 2",
        "default_agent: main -> ops",
        'agents: any -> ["a", "ops"]',
    ]
    assert said[3].startswith("opaque_peers: [{")
    assert list(after.differences(after)) == []


# Properties

AGENTS = st.sampled_from(["main", "ops", "a"])
RECORDS = st.builds(
    KeySettings,
    default_agent=AGENTS,
    main_key=st.sampled_from(["main", "home", "desk"]),
    agents=st.none() | st.just(frozenset({"main", "ops", "a"})),
    opaque_peers=st.sampled_from([DEFAULT_OPAQUE_PEERS, (), DEFAULT_OPAQUE_PEERS[:1]]),
).map(lambda settings: KeyRecord(settings=settings))
RESTS = st.sampled_from(["Main", "home", "Desk", "notes", "Signal:Group:AbC", "matrix:channel:!R:X", "a:b"])
RAWS = st.one_of(RESTS, st.builds("Agent:{}:{}".format, AGENTS, RESTS), st.text(max_size=8))


def read(raw: str, record: KeyRecord) -> SessionKey | None:
    try:
        return canonical(raw, settings=record.settings)
    except SessionPlaneError:
        return None


@given(record=RECORDS)
def test_a_record_comes_back_as_it_was_written(record: KeyRecord) -> None:
    """What the database says means the same as what was said."""
    facts = record.facts()
    again = KeyRecord.of_facts(facts["key_rules_version"], facts["key_settings"])
    assert again.facts() == facts


@given(raw=RAWS, record=RECORDS)
def test_the_same_settings_touch_no_key(raw: str, record: KeyRecord) -> None:
    """A restart is never a change."""
    if (key := read(raw, record)) is not None:
        assert fate(key, record, record) == Fate(target=key)


@given(raw=RAWS, way=st.lists(RECORDS, min_size=2, max_size=5))
def test_a_spelling_reaches_its_key_after_any_number_of_changes(raw: str, way: list[KeyRecord]) -> None:
    """Whatever the settings were in between: what made the pointer reaches it, as if it were written today."""
    key = read(raw, way[0])
    if key is not None:
        for record in way[1:]:
            key = respelled(key, record)
        assert key == read(raw, way[-1])


@given(raw=RAWS, before=RECORDS, after=RECORDS)
def test_a_change_that_is_not_reported_moves_no_short_spelling(
    raw: str, before: KeyRecord, after: KeyRecord
) -> None:
    """If a key stays without a word, so does every form of it that the settings before allowed."""
    key = read(raw, before)
    if key is None or fate(key, before, after) != Fate(target=key):
        return
    old, agent = before.settings, key.agent
    forms = [key.text, raw, key.rest if agent == old.default_agent else raw]
    if key.rest == "main":
        forms.append(f"agent:{agent}:{old.main_key}")
    assert {read(form, after) for form in forms} == {key}
