"""The canonical form of a key under the default settings, by the rules of the documentation, written once more.

It is for keys that are good; what is to be refused is not judged here.
"""

from __future__ import annotations

import unicodedata

DEFAULT_AGENT = "main"
PREFIX = "agent:"


def canonical(written: str, agent: str = "") -> str:
    """Return the one form of a key; `agent` is the agent that a bare key belongs to."""
    rest = unicodedata.normalize("NFC", written.strip())
    owner = agent or DEFAULT_AGENT
    while rest.lower().startswith(PREFIX):
        _, owner, rest = rest.split(":", 2)
    return f"{PREFIX}{owner.lower()}:{_folded(rest.split(':'))}"


def _folded(words: list[str]) -> str:
    """Fold the case of all words but those that are the ids of a channel that tells them apart by it."""
    folded = [unicodedata.normalize("NFC", each.casefold()) for each in words]
    match folded:
        case ["signal", "direct" | "group", _, *_]:
            kept = range(2, 3)
        case ["matrix", "direct" | "group" | "channel", _, *_]:
            kept = range(2, len(folded))
        case _:
            kept = range(0)
    return ":".join(words[at] if at in kept else word for at, word in enumerate(folded))
