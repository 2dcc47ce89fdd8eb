"""A canonical key and the settings that made it are values: what they say of themselves, and what neither can be."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import sessionplane
from sessionplane.domain.keys import KeySettings, OpaquePeer, canonical, from_stored
from tests.support.keys import HOME, PLAIN

# The key


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
