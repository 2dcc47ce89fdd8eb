"""Spellings of keys that other systems wrote years ago, for imports only.

Owns one table: what such a spelling looks like, and what it is called today. Everything else about a key is said by
`keys`, which reads the result like any other spelling; it never sees this table, since a caller of today who writes
one of these means a key of that very text.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sessionplane.domain.errors import KeyInvalid
from sessionplane.domain.key_rules import WHITE_SPACE, Rule


class Legacy(NamedTuple):
    """An old spelling: what it was, how it is known, and what it became; if nothing did, the meaning is why not."""

    example: str
    meaning: str
    pattern: re.Pattern[str]
    became: str | None


# Segments before a marker: neither markers themselves nor words that give what follows another meaning.
_BEFORE: Final = r"(?!(?:direct|group|channel|dm|agent|subagent|cron|hook|acp):)[^:]+:"
_PREFIXES: Final = r"(?:agent:[^:]*:)*"


def _known(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


LEGACY: Final = (
    Legacy(
        "telegram:dm:42",
        "dm was the word for direct",
        _known(rf"({_PREFIXES}(?:{_BEFORE}){{0,2}})dm:(?=[^:])(.*)"),
        r"\1direct:\2",
    ),
    Legacy(
        "120363@g.us",
        "a group of WhatsApp was known by its address alone",
        _known(r"(?:whatsapp:)?(?:group:)?([^:]+@g\.us(?::(?:thread|topic):.*)?)"),
        r"whatsapp:group:\1",
    ),
    Legacy(
        "group:123",
        "a group was written without its channel",
        _known(r"group:(?=[^:])(.*)"),
        r"unknown:group:\1",
    ),
    Legacy(
        "global",
        "global was one conversation of all agents, and belongs to none of them. Give it a key of its own in the file",
        _known(rf"{_PREFIXES}global"),
        None,
    ),
    Legacy(
        "unknown",
        "unknown stood for messages whose conversation was not known. Give it a key of its own in the file",
        _known(rf"{_PREFIXES}unknown"),
        None,
    ),
)
"""The first that fits a spelling is used."""


def modern(raw: str, *, field: str) -> str:
    """Return today's spelling of a key that was written long ago: the trimmed text itself unless the table knows it.

    Raises KeyInvalid for a spelling that has no equivalent.
    """
    text = raw.strip(WHITE_SPACE)
    for legacy in LEGACY:
        found = legacy.pattern.fullmatch(text)
        if found and legacy.became is None:
            raise KeyInvalid(field=field, problem=f"{legacy.meaning} (rule {Rule.RESERVED.name})")
        if found and legacy.became:
            return found.expand(legacy.became)
    return text
