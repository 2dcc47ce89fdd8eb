"""Who keeps a key under which two sessions meet. The only place that knows.

Sessions meet when the settings give their keys one canonical form, and when sessions are imported. Whoever does not
keep the key becomes final beside the one that does: nothing is discarded.
"""

from __future__ import annotations

from typing import NamedTuple


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
