"""The rows of the model: what it knows of a run and of a session, and when each is due. See `model`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionplane.domain.errors import SessionPlaneError

LEASE_MS = 4_000
GRACE_MS = 3_000
START_MS = 10_000
RUN_MS = 30_000
LINGER_MS = 2_000
SWEEP_MS = 1_000
SUSPEND_MS = 5_000
CLOSE_MS = 3_500
QUIET_MS = 6_000
LINE_MAX = 2
FIRST_MAX = 2
IDLE_MS = 60_000
STALE_KEYS = frozenset({"a"})
"""The keys whose policy is that a session goes stale when no user came for IDLE_MS."""

Answer = str | type[SessionPlaneError]


@dataclass
class ModelRun:
    """One run of a session."""

    run_id: str
    session: str
    state: str = "QUEUED"
    ending: str = ""
    token: str = ""
    confirmed: bool = False
    lease_until_ms: int | None = None
    pending_ms: int = 0
    pending_since_ms: int = 0
    claimed_at_ms: int | None = None
    grace_until_ms: int | None = None
    published: int = 0
    text: str = ""
    report: str = ""
    waiting: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def due_ms(self) -> int | None:
        """When the server acts by itself."""
        moments = []
        if self.state == "PENDING":
            moments.append(self.pending_since_ms + START_MS - self.pending_ms)
        if self.claimed_at_ms is not None and self.state != "FINISHED":
            moments.append(self.claimed_at_ms + RUN_MS)
        if self.state == "INTERRUPTING" and self.grace_until_ms is not None:
            moments.append(self.grace_until_ms)
        return min(moments, default=None)


@dataclass
class ModelSession:
    """One session: it has a name here, as it has an id there, and `key` is what it holds or held. Its line has three
    parts: what was put first, inputs that came back, and the enqueued.
    """

    name: str
    key: str
    hidden: bool = False
    started_ms: int = 0
    quiet_since_ms: int = 0
    visited_ms: int | None = None
    noted_ms: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    previous: str = ""
    successor: str = ""
    final: bool = False
    deleted: bool = False
    state: str = "CREATED"
    generation: int = 1
    lane: str = ""
    first: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    enqueued: list[str] = field(default_factory=list)
    attached: int = 0
    linger_until_ms: int | None = None
    deadline_ms: int | None = None

    @property
    def line(self) -> list[str]:
        """The runs that wait, in order."""
        return self.first + self.back + self.enqueued

    def leave_line(self, run_id: str) -> None:
        """Take a run out of the line."""
        for part in (self.first, self.back, self.enqueued):
            if run_id in part:
                part.remove(run_id)

    def due_ms(self) -> int | None:
        """When the server acts by itself."""
        if self.state in {"SUSPENDED", "CLOSING"}:
            return self.deadline_ms
        if self.state in {"CREATED", "DETACHED"} and not self.lane and not self.line:
            return max(self.quiet_since_ms, self.visited_ms or 0) + QUIET_MS
        return None

    def is_stale(self, now_ms: int) -> bool:
        """Whether a user who comes with its key gets another one."""
        if self.key not in STALE_KEYS or self.lane or self.line:
            return False
        visits = [at_ms for at_ms in (self.visited_ms, self.noted_ms) if at_ms is not None]
        return now_ms > max(visits, default=self.started_ms) + IDLE_MS


@dataclass(frozen=True)
class Resolving:
    """What a resolve asks for besides its key. `expected` is the name of a session."""

    missing: str = "CREATE"
    conflict: str = "USE_EXISTING"
    ended: str = "RESUME"
    expected: str = ""
    system: bool = False
    hidden: bool = False

    @property
    def by_user(self) -> bool:
        """Whether a user asks."""
        return not self.system and not self.hidden
