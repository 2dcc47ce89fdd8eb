"""Made-up session stores of OpenClaw, and what becomes of them: the rule of imports, written once more.

The generator begins with canonical keys and writes each in the ways that were seen in the wild, so it knows what every
spelling means without asking the code under test.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPELLINGS: Mapping[str, str | None] = {
    # One session under many spellings.
    "settings2": "agent:main:settings2",
    " Settings2 ": "agent:main:settings2",
    "agent:main:settings2": "agent:main:settings2",
    "AGENT:Main:Settings2": "agent:main:settings2",
    "agent:main:agent:main:main": "agent:main:main",
    "main": "agent:main:main",
    "MAIN": "agent:main:main",
    "agent:main:main": "agent:main:main",
    "agent:work:main": "agent:work:main",
    # Nothing that can be kept.
    "agent:main": None,
    "agent:": None,
    "agent::x": None,
    "agent:main::x": None,
    "": None,
    "   ": None,
    "agent:main:agent:work:x": None,
    "agent:bad id!:x": None,
    "two words": None,
    "nul\0": None,
    "zero\u200bwidth": None,
    "x" * 600: None,
    # Words and shapes of their time.
    "subagent:ABC": "agent:main:subagent:abc",
    "agent:main:subagent:a:subagent:B": "agent:main:subagent:a:subagent:b",
    "cron:J": "agent:main:cron:j",
    "agent:main:cron:j:run:7": "agent:main:cron:j:run:7",
    "hook:u": "agent:main:hook:u",
    "node-3": "agent:main:node-3",
    "+491701234567": "agent:main:+491701234567",
    "dm:Bo": "agent:main:direct:bo",
    "direct:bo": "agent:main:direct:bo",
    "telegram:dm:42": "agent:main:telegram:direct:42",
    "agent:main:telegram:work:dm:42": "agent:main:telegram:work:direct:42",
    "group:123": "agent:main:unknown:group:123",
    "120363@g.us": "agent:main:whatsapp:group:120363@g.us",
    "group:120363@g.us": "agent:main:whatsapp:group:120363@g.us",
    "whatsapp:120363@g.us": "agent:main:whatsapp:group:120363@g.us",
    "whatsapp:group:120363@g.us": "agent:main:whatsapp:group:120363@g.us",
    "telegram:group:-100:topic:4": "agent:main:telegram:group:-100:topic:4",
    "slack:channel:C1:Thread:17.5": "agent:main:slack:channel:c1:thread:17.5",
    # Ids whose case tells people apart.
    "signal:group:AbC=": "agent:main:signal:group:AbC=",
    "signal:group:abc=": "agent:main:signal:group:abc=",
    "matrix:channel:!R:Example.org": "agent:main:matrix:channel:!R:Example.org",
    "openai:0190B7A1-aaaa": "agent:main:openai:0190b7a1-aaaa",
    "agent:main:ÄPFEL": "agent:main:äpfel",
}
"""What was seen in the wild -> its canonical key, or None where it cannot have one."""

GONE = ("global", "GLOBAL", " unknown ", "agent:main:global", "agent:work:agent:work:Unknown")
"""Sentinels that stood for no conversation of anybody's."""


@dataclass
class Store:
    """A store, with what its generator knows: which entry means which key (None: none), in the file's order."""

    entries: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def add(self, raw: str, key: str | None, entry: Any) -> None:
        """Add an entry."""
        self.entries.append((raw, entry))
        self.keys.append(key)

    def write(self, file: Path) -> Path:
        """Write it as it would be found, a name that comes twice included."""
        lines = (f"{json.dumps(raw)}: {json.dumps(entry)}" for raw, entry in self.entries)
        file.write_text("{" + ",\n".join(lines) + "}", encoding="utf-8")
        return file


def wild(updated_at_ms: int = 1_700_000_000_000) -> Store:
    """A store with every spelling, each changed a little later than the one before."""
    store = Store()
    for place, (raw, key) in enumerate({**SPELLINGS, **dict.fromkeys(GONE)}.items()):
        entry = {"sessionId": f"s{place}", "updatedAt": updated_at_ms + place, "skills": [{"x": 1}] * 3}
        store.add(raw, key, entry)
    return store


_WAYS: Sequence[Callable[[str], str]] = (
    lambda rest: rest,
    lambda rest: f" {rest}\t",
    str.upper,
    str.title,
    lambda rest: f"agent:main:{rest}",
    lambda rest: f"AGENT:Main:{rest}",
    lambda rest: f"agent:main:agent:main:{rest}",
    lambda rest: f"agent:main:{rest.upper()}",
    lambda rest: f"Agent:MAIN:{rest.title()}",
    lambda rest: rest.replace("direct:", "dm:", 1) if rest.startswith("direct:") else rest.swapcase(),
)


def large(count: int, *, seed: int, now_ms: int, keys: int) -> Store:
    """A store of so many entries for so many keys, with times that tie, lie ahead, or are no times at all."""
    dice = random.Random(seed)
    store = Store()
    shapes = ("k{}", "direct:p{}", "telegram:group:g{}", "cron:j{}", "telegram:work:direct:w{}")
    seen: set[str] = set()
    while len(store.entries) < count:
        number = dice.randrange(keys)
        rest = shapes[number % len(shapes)].format(number)
        raw = dice.choice(_WAYS)(rest)
        if raw in seen and dice.random() < 0.95:
            continue
        seen.add(raw)
        if dice.random() < 0.02:
            store.add(dice.choice(["agent:main", "two words", "agent:main::x", "global"]), None, {})
            continue
        entry: Any = {
            "sessionId": dice.choice([f"s{len(store.entries)}"] * 9 + [f"shared{number}"]),
            "updatedAt": _odd_time(dice, now_ms),
            "sessionStartedAt": now_ms - dice.randrange(5) * 1_000,
            "lastInteractionAt": _odd_time(dice, now_ms),
            "label": dice.choice([None, "", f"Chat {number}", "ü" * 100]),
        }
        for name in [name for name in entry if dice.random() < 0.05]:
            del entry[name]
        malformed = dice.random() < 0.01
        store.add(raw, None if malformed else f"agent:main:{rest}", None if malformed else entry)
    return store


def _odd_time(dice: random.Random, now_ms: int) -> object:
    usual = now_ms - dice.randrange(1, 4) * 3_600_000
    return dice.choice([usual] * 8 + [usual + 0.5, -5, float("nan"), None, "yesterday", now_ms * 2, True])


# The rule, written once more


@dataclass(frozen=True)
class Fate:
    """What becomes of an entry: its outcome, and the place in the file of the entry that keeps the key instead."""

    outcome: str
    keeper: int | None = None


def fates(
    store: Store, *, now_ms: int, there: Mapping[str, tuple[int, bool, int]] | None = None
) -> list[Fate]:
    """Say what becomes of every entry. `there` are the sessions that hold keys already: key -> when it changed,
    whether its spelling was canonical, and since when it is.
    """
    found: dict[int, Fate] = {}
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(store.keys):
        if key is None:
            found[place] = Fate("REFUSED")
        else:
            groups.setdefault(key, []).append(place)
    for key, places in groups.items():
        claims = [(_claim(store, place, now_ms), place) for place in places]
        claims.sort(key=lambda claim: claim[0], reverse=True)
        holder = (there or {}).get(key)
        found.update(_met(store, [place for _, place in claims], claims[0][0], holder))
    return [found[place] for place in range(len(store.entries))]


def _claim(store: Store, place: int, now_ms: int) -> tuple[int, bool, int, int]:
    """The larger, the better: changed later, canonical, older, earlier in the file."""
    raw, entry = store.entries[place]
    updated = _time(entry.get("updatedAt"), now_ms) or 0
    started = _time(entry.get("sessionStartedAt"), now_ms)
    return updated, raw == store.keys[place], -(updated if started is None else started), -place


def _time(value: object, now_ms: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        return None
    return None if value > now_ms + 24 * 3_600_000 else min(max(int(value), 0), now_ms)


def _met(
    store: Store,
    places: Iterable[int],
    best: tuple[int, bool, int, int],
    holder: tuple[int, bool, int] | None,
) -> dict[int, Fate]:
    found: dict[int, Fate] = {}
    kept: dict[str, int] = {}
    keeper: int | None = None
    stays = holder is not None and (holder[0], holder[1], -holder[2]) >= best[:3]
    for place in places:
        raw, entry = store.entries[place]
        source = entry.get("sessionId", raw)
        if source in kept:
            found[place] = Fate("ALREADY_IMPORTED", kept[source])
            continue
        kept[source] = place
        if keeper is None and not stays:
            found[place], keeper = Fate("CREATED" if holder is None else "MERGED_WINNER"), place
        else:
            found[place] = Fate("MERGED_LOSER", keeper)
    return found
