"""Who keeps a key under which two sessions meet. The only place that knows.

Sessions meet when the settings give their keys one canonical form, and when sessions are imported. Whoever does not
keep the key becomes final beside the one that does: nothing is discarded.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

_AHEAD_MS_MAX: Final = 24 * 3_600_000


class ImportOutcome(StrEnum):
    """What became of one entry of an import."""

    CREATED = "CREATED"
    ALREADY_IMPORTED = "ALREADY_IMPORTED"
    MERGED_WINNER = "MERGED_WINNER"
    MERGED_LOSER = "MERGED_LOSER"
    REFUSED = "REFUSED"


class Rank(NamedTuple):
    """How strong a session's claim to a key is: the least rank keeps it, and of equal ones whoever is named first."""

    not_later: int
    not_canonical: bool
    since_ms: int


def rank(*, updated_at_ms: int, was_canonical: bool, since_ms: int) -> Rank:
    """Rank a claim: the session that changed last keeps the key; of two that changed at once the one whose spelling
    was canonical before they met, else the older one.
    """
    return Rank(-updated_at_ms, not was_canonical, since_ms)


def moment(at_ms: int | None, now_ms: int) -> int | None:
    """Return a time of another system's as far as it can be: nothing happened before 1970, and what lies ahead a
    little, since its clock was fast, was just now. What lies further ahead is no time.
    """
    if at_ms is None or at_ms > now_ms + _AHEAD_MS_MAX:
        return None
    return min(max(at_ms, 0), now_ms)
