"""Whether a key's session may go on: the policies of `domain.freshness`, asked with what the disk does not know yet.

A resolve that finds its session writes nothing, so a user's visit is noted here first and written with the next sweep.
A note counts from the moment it is made until its commit. Notes are made and forgotten on the event loop; the writer's
thread looks at them too, which is sound since a look is one look-up in one dictionary. A crash loses the notes that no
sweep has written: a session can then seem idle for longer than it was, by the time between two sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from sessionplane.domain.freshness import NEVER, FreshnessSettings
from sessionplane.domain.sessions import Session

POLICIES_MAX = 4_096
"""How many keys' policies are remembered."""

Name = tuple[str, str]
"""A session: its namespace and id."""


class Visits:
    """The last visits of users that are not on disk yet."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        # Bounded by `most`; owned by the event loop.
        self._noted: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, name: Name, at_ms: int) -> bool:
        """Note a visit; False if there is no room for another session's."""
        if len(self._noted) >= self._most and name not in self._noted:
            return False
        self._noted[name] = at_ms
        return True

    def noted_at_ms(self, name: Name) -> int | None:
        """Return when a user was last there, if that is not on disk yet. May be called from any thread."""
        return self._noted.get(name)

    def pending(self) -> Mapping[Name, int]:
        """Return what is to be written now."""
        return dict(self._noted)

    def written(self, visits: Mapping[Name, int]) -> None:
        """Forget what is on disk now; a visit that came meanwhile stays."""
        for name, at_ms in visits.items():
            if self._noted.get(name) == at_ms:
                del self._noted[name]


class Judge:
    """Says by a server's policies which sessions are stale."""

    def __init__(self, settings: FreshnessSettings, visits: Visits) -> None:
        # The same keys come again and again, and the kind of each is read off its text.
        self._policy_of = lru_cache(POLICIES_MAX)(settings.policy_of)
        self._visits = visits
        self.idle = not settings.policies
        """Whether no session is ever stale: then nobody need ask."""

    def is_stale(self, session: Session, *, now_ms: int) -> bool:
        """Say whether the session is too old for the next interaction of a user with its key. One with an unfinished
        run never is.
        """
        if self.idle or session.key is None or session.running:
            return False
        policy = self._policy_of(session.key)
        if policy == NEVER:
            return False
        last_ms = session.last_interaction_at_ms
        noted_ms = self._visits.noted_at_ms((session.namespace, session.session_id))
        if noted_ms is not None and (last_ms is None or noted_ms > last_ms):
            last_ms = noted_ms
        stale = policy.judge(
            started_at_ms=session.started_at_ms, last_interaction_at_ms=last_ms, now_ms=now_ms
        )
        return stale is not None
