"""What the shape of a key tells: its kind, whether it is a thread, where its marker stands.

Owns the words that have a meaning inside the rest of a key. Must never change a text or decide who owns
it: a shape is for policy and listing, and no part of the identity. It is read from canonical segments,
so words are compared folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

MAIN: Final = "main"


class KeyKind(StrEnum):
    """What a key is about, told from its shape for policy and listing; never a part of its identity."""

    MAIN = "main"
    CUSTOM = "custom"
    DIRECT = "direct"
    GROUP = "group"
    CHANNEL = "channel"
    SUBAGENT = "subagent"
    CRON = "cron"
    HOOK = "hook"
    ACP = "acp"


KIND_BY_FIRST_WORD: Final = {
    kind.value: kind for kind in (KeyKind.DIRECT, KeyKind.SUBAGENT, KeyKind.CRON, KeyKind.HOOK, KeyKind.ACP)
}
KIND_BY_MARKER: Final = {kind.value: kind for kind in (KeyKind.DIRECT, KeyKind.GROUP, KeyKind.CHANNEL)}

_THREAD_WORDS: Final = frozenset({"thread", "topic"})


def kind_of(rest: str) -> KeyKind:
    """Return what a key with this rest is about; a shape that is none of the known ones is `custom`.

    An id may hold colons (Matrix), so a :thread: or :topic: behind it never changes the kind.
    """
    if rest == MAIN:
        return KeyKind.MAIN
    segments = rest.split(":")
    if len(segments) > 1 and (kind := KIND_BY_FIRST_WORD.get(segments[0])):
        return kind
    marker = marker_index(segments)
    return KIND_BY_MARKER[segments[marker]] if marker else KeyKind.CUSTOM


def is_thread(rest: str) -> bool:
    """Tell whether the key is the :thread:<id> or :topic:<n> of a conversation.

    Conversations are main, direct, group and channel; elsewhere these words are parts of somebody's id.
    """
    segments = rest.split(":")
    base = _base_length(segments)
    return base > 0 and any(word in _THREAD_WORDS for word in segments[base:-1])


def _base_length(segments: Sequence[str]) -> int:
    """How many segments a conversation has before its first thread could begin; 0 for no conversation."""
    if segments[0] == KeyKind.DIRECT:
        return 2
    if segments[0] in KIND_BY_FIRST_WORD:
        return 0
    marker = marker_index(segments)
    return marker + 2 if marker else int(segments[0] == MAIN)


def marker_index(segments: Sequence[str]) -> int:
    """Where `<channel>:<marker>:<id>` or `<channel>:<account>:direct:<id>` has its marker; 0 for neither."""
    match segments:
        case [_, marker, _, *_] if marker in KIND_BY_MARKER:
            return 1
        case [_, _, KeyKind.DIRECT, _, *_]:
            return 2
    return 0
