"""What a key may be made of: the rules by name, and what they say about text.

Owns which characters a key may hold, what an agent id is and how case is folded. Must never know the
parts of a key or whose key it is; that is `keys`, which applies these rules in their order.

Why a canonical text outlives an upgrade of Python: Unicode promises that folding and NFC of assigned,
NFKC-stable text never change. Hence unassigned code points are refused; for them it promises nothing.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from typing import Final

_AGENT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
AGENT_ID_RULE: Final = "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit"
_EXCERPT_MAX: Final = 16  # characters of a caller's text that an error message may show


class Rule(Enum):
    """The rules that can change, decide or refuse a key; the name is stable, the value says what it does."""

    TRIM = "White space around the key is dropped."
    NFC = "The text is put into Unicode normalisation form C."
    EMPTY = "A key that is empty or blank is refused; it never means the main session."
    WHITE_SPACE = "White space inside a key is refused."
    CONTROL = "Control characters, NUL among them, are refused."
    INVISIBLE = "Zero-width, bidirectional and other characters that show nothing are refused."
    SURROGATE = "Lone surrogates are refused; they are not text."
    UNASSIGNED = "Code points that Unicode has not assigned are refused; how they fold may yet change."
    COMPATIBILITY = "Characters that Unicode calls another form of plainer ones (NFKC) are refused."
    AGENT_PREFIX = "A key that begins with agent: names its agent itself and needs a rest behind it."
    AGENT_ID = f"An agent id is {AGENT_ID_RULE}; it is folded, never mended."
    AGENT_HINT = "A key without an agent belongs to the request's; a key with one must agree with it."
    DEFAULT_AGENT = "A key without an agent, in a request without one, belongs to the default agent."
    ALLOW_LIST = "Only agents in the server's list are served, where it has one."
    EMPTY_SEGMENT = "Empty segments between colons are refused."
    UNWRAP = "A repeated prefix of the same agent is dropped; one of another agent is refused."
    OPAQUE = "The ids of registered channels keep their case."
    FOLD = "Case is folded."
    MAIN_KEY = "The main_key of the settings is a spelling of main."
    RESERVED = "The names global and unknown are reserved."


# The Unicode property White_Space, not str.isspace(), which counts four controls more.
WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Default_Ignorable_Code_Point outside category Cf: joiners, fillers and variation selectors.
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_REFUSED_CATEGORIES: Final = {
    "Cc": (Rule.CONTROL, "a control character"),
    "Cf": (Rule.INVISIBLE, "an invisible character"),
    "Cs": (Rule.SURROGATE, "half of a surrogate pair"),
    "Cn": (Rule.UNASSIGNED, "an unassigned code point"),
}


def agent_id(text: str) -> str | None:
    """Fold the case of an agent id; None for text that is not one."""
    # Lowering ASCII only: a full casefold would mend, since it makes `ss` of a sharp s.
    folded = text.lower() if text.isascii() else ""
    return folded if _AGENT_ID.fullmatch(folded) else None


def fold(text: str) -> str:
    """Fold the case of NFC text; the result is NFC, and folding it again changes nothing."""
    # Without NFC behind it the result would change once more: casefold takes some characters apart.
    return unicodedata.normalize("NFC", text.casefold())


def refused_character(text: str) -> tuple[Rule, str] | None:
    """Give the rule that the first unusable character of NFC text breaks, and a name for that character."""
    if _is_plainly_usable(text):
        return None
    return next(filter(None, map(_character_refusal, text)), None)


def _is_plainly_usable(text: str) -> bool:
    # A shortcut that may say no wrongly (private-use characters are not printable), never yes.
    if not text.isprintable() or " " in text:
        return False
    return text.isascii() or (not _IGNORABLE.search(text) and unicodedata.is_normalized("NFKC", text))


def _character_refusal(character: str) -> tuple[Rule, str] | None:
    if character in WHITE_SPACE:
        found = (Rule.WHITE_SPACE, "white space")
    elif _IGNORABLE.match(character):
        found = _REFUSED_CATEGORIES["Cf"]
    elif category := _REFUSED_CATEGORIES.get(unicodedata.category(character)):
        found = category
    elif not unicodedata.is_normalized("NFKC", character):
        found = (Rule.COMPATIBILITY, "a compatibility character")
    else:
        return None
    return found[0], f"{found[1]}, U+{ord(character):04X}"


def is_canonical_segment(text: str) -> bool:
    """Say whether a text can be one segment of a canonical key, outside the spans that keep their case."""
    normal = unicodedata.normalize("NFC", text)
    return bool(text) and ":" not in text and not refused_character(normal) and fold(normal) == text


def excerpt(text: str) -> str:
    """Quote, escape and shorten: fit for a log line and a terminal whatever the caller sent."""
    return ascii(text) if len(text) <= _EXCERPT_MAX else f"{text[:_EXCERPT_MAX]!a}..."
