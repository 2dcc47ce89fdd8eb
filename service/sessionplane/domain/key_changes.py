"""What other key settings or other rules mean for keys that are there: which move, which are refused, which stay.

Owns the record of the settings that a database was written under, and the judgement of one key between two records.
Must never decide what becomes of sessions: `merging` says who keeps a key, and the plane acts.

A key is judged by the spelling that made its pointer: whoever wrote it keeps reaching the same session. Other callers
may have written the same key in other ways. Those that follow from the settings (the bare rest of a key of the default
agent, the `main_key`) are looked at too: where one of them leads elsewhere from now on, the key is reported, although
it stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.key_shapes import MAIN
from sessionplane.domain.keys import (
    KEY_RULES_VERSION,
    KeySettings,
    OpaquePeer,
    SessionKey,
    canonical,
)
from sessionplane.domain.limits import DEFAULT

RULES_FACT: Final = "key_rules_version"
SETTINGS_FACT: Final = "key_settings"

# What is stored was within the bounds when it came, and a spelling with its agent in front may be longer than that.
_NO_BOUNDS: Final = replace(DEFAULT, raw_key_bytes_max=2**31, key_rest_bytes_max=2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """Under which rules and settings the keys of a database are canonical."""

    settings: KeySettings
    rules_version: int = KEY_RULES_VERSION

    def facts(self) -> Mapping[str, str]:
        """Return what the database says about itself: the same for the same meaning, and readable."""
        settings = self.settings
        values = {
            "default_agent": settings.default_agent,
            "main_key": settings.main_key,
            "agents": None if settings.agents is None else sorted(settings.agents),
            "opaque_peers": [
                {"channel": peer.channel, "markers": sorted(peer.markers), "whole_tail": peer.whole_tail}
                for peer in sorted(settings.opaque_peers, key=lambda peer: peer.channel)
            ],
        }
        return {
            RULES_FACT: str(self.rules_version),
            SETTINGS_FACT: json.dumps(values, ensure_ascii=False),
        }

    @classmethod
    def of_facts(cls, rules_version: str, settings: str) -> Self:
        """Read what `facts` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        values = json.loads(settings)
        agents = values["agents"]
        peers = (
            OpaquePeer(
                channel=each["channel"], markers=frozenset(each["markers"]), whole_tail=each["whole_tail"]
            )
            for each in values["opaque_peers"]
        )
        return cls(
            rules_version=int(rules_version),
            settings=KeySettings(
                default_agent=values["default_agent"],
                main_key=values["main_key"],
                agents=None if agents is None else frozenset(agents),
                opaque_peers=tuple(peers),
            ),
        )

    def differences(self, after: KeyRecord) -> Iterator[str]:
        """Say in a line each what is different in a later record."""
        if self.rules_version != after.rules_version:
            yield f"the rules of keys: version {self.rules_version} -> {after.rules_version}"
        before_values, after_values = (json.loads(each.facts()[SETTINGS_FACT]) for each in (self, after))
        for name, value in before_values.items():
            if value != after_values[name]:
                yield f"{name}: {_shown(value)} -> {_shown(after_values[name])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of one key. `target` is what it is from now on, the same if it stays.

    `refusal` says why it is refused, and it has no other target then; `strays` are spellings that reached it and
    now lead elsewhere, each with where to.
    """

    target: SessionKey
    refusal: str = ""
    strays: tuple[tuple[str, str], ...] = ()


def fate(key: SessionKey, before: KeyRecord | None, after: KeyRecord) -> Fate:
    """Judge a stored key, with the spelling of its pointer. Without a record before, only that spelling counts.

    A key that nobody could reach before either is no news: it just stays.
    """
    target, refusal = _read(key.spelling, after)
    strays: list[tuple[str, str]] = []
    if target is None:
        # Whoever sends the key as it was answered may still be understood.
        target, echo_refusal = _read(key.text, after)
        if target is None:
            return Fate(target=key, refusal=echo_refusal if _was_read(key.text, before, after) else "")
        if _was_read(key.spelling, before, after):
            strays.append((key.spelling, refusal))
    if target == key:
        for spelling in _short_spellings(key, before):
            leads_to, refusal = _read(spelling, after)
            if leads_to != target:
                strays.append((spelling, refusal if leads_to is None else leads_to.text))
    return Fate(target=replace(target, spelling=key.spelling), strays=tuple(strays))


def respelled(key: SessionKey, after: KeyRecord) -> SessionKey:
    """Return what a stored key is from now on; the same if it is refused."""
    return fate(key, None, after).target


def _read(spelling: str, record: KeyRecord) -> tuple[SessionKey | None, str]:
    try:
        return canonical(spelling, settings=record.settings, field="The key", limits=_NO_BOUNDS), ""
    except SessionPlaneError as refused:
        return None, refused.details["problem"]


def _was_read(spelling: str, before: KeyRecord | None, after: KeyRecord) -> bool:
    """Say whether the text was a key before. Rules of another version cannot be asked any more."""
    if before is None or before.rules_version != after.rules_version:
        return True
    return _read(spelling, before)[0] is not None


def _short_spellings(key: SessionKey, before: KeyRecord | None) -> Iterator[str]:
    """Name the spellings that reached a key only because of the settings."""
    if before is None:
        return
    rests = [key.rest]
    if key.rest == MAIN and before.settings.main_key != MAIN:
        rests.append(before.settings.main_key)
        yield f"agent:{key.agent}:{before.settings.main_key}"
    if key.agent == before.settings.default_agent:
        yield from rests


def _shown(value: object) -> str:
    if value is None:
        return "any"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
