"""The half of the model that is about keys: which session holds one, how it is lost, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionplane.domain.errors import (
    EtagMismatch,
    KeyNotBound,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    SessionReplaced,
)
from tests.support.model_rows import Answer, ModelRun, ModelSession, Resolving

PLAIN = Resolving()


@dataclass
class ModelKeys:
    """Sessions by their names, and who holds which key. See `Model`."""

    now_ms: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, ModelSession] = field(default_factory=dict)
    runs: dict[str, ModelRun] = field(default_factory=dict)
    came_back: set[str] = field(default_factory=set)

    def holder(self, key: str) -> ModelSession | None:
        """The session that holds the key."""
        return self.sessions[self.keys[key]] if key in self.keys else None

    def resolve(self, key: str, wish: Resolving = PLAIN) -> Answer:
        """Find, create or replace the session of a key. That a user only found it is written with the next sweep."""
        holder = self.holder(key)
        if wish.expected and (holder is None or holder.name != wish.expected):
            return SessionReplaced
        if holder is None:
            if wish.missing == "FAIL":
                return KeyNotBound
            self._create(key, by_user=wish.by_user, hidden=wish.hidden)
            return "CREATED"
        if wish.by_user and holder.is_stale(self.now_ms):
            self._hand_over(holder, by_user=True)
            return "ROLLED_OVER"
        return self._by_policy(holder, wish)

    def _by_policy(self, holder: ModelSession, wish: Resolving) -> Answer:
        policy = wish.ended if holder.state == "ENDED" else wish.conflict
        if policy == "FAIL":
            return SessionEnded if holder.state == "ENDED" else SessionExists
        if policy in {"CREATE_NEW", "REPLACE"}:
            self._hand_over(holder, by_user=wish.by_user, hidden=wish.hidden)
            return "REPLACED" if policy == "REPLACE" else "CREATED"
        if wish.by_user and not holder.hidden:
            holder.noted_ms = self.now_ms
        elif wish.by_user:
            holder.visited_ms = self.now_ms
        holder.hidden = holder.hidden and wish.hidden
        return "EXISTING"

    def reset(self, where: str, expected: str = "") -> Answer:
        """Move a key, or the key of a session, to a new session."""
        old = self.holder(where) if where not in self.sessions else self.sessions[where]
        if old is not None and old.deleted:
            return SessionNotFound
        if expected and (old is None or old.name != expected):
            return SessionReplaced
        if old is None:
            self._create(where, by_user=False, hidden=False)
        elif old.final:
            return SessionEnded
        else:
            self._hand_over(old, by_user=False, hidden=old.hidden)
        return "reset"

    def delete(self, where: str) -> Answer:
        """Delete the session that holds a key, or one by its name."""
        old = self.holder(where) if where not in self.sessions else self.sessions[where]
        if old is None or old.deleted:
            return "nothing"
        if not old.final:
            del self.keys[old.key]
        self._retire(old)
        old.deleted = True
        return "deleted"

    def update(self, name: str, labels: dict[str, str], *, fresh: bool) -> Answer:
        """Change a session's labels; `fresh` says whether the etag is the present one."""
        session = self.sessions[name]
        if session.deleted:
            return SessionNotFound
        if not fresh:
            return EtagMismatch
        session.labels = labels
        return "updated"

    def _create(self, key: str, *, by_user: bool, hidden: bool) -> ModelSession:
        name = f"s{len(self.sessions) + 1}"
        made = ModelSession(
            name,
            key,
            hidden=hidden,
            started_ms=self.now_ms,
            quiet_since_ms=self.now_ms,
            visited_ms=self.now_ms if by_user else None,
        )
        self.keys[key] = name
        self.sessions[name] = made
        return made

    def _hand_over(self, old: ModelSession, *, by_user: bool, hidden: bool = False) -> ModelSession:
        new = self._create(old.key, by_user=by_user, hidden=hidden)
        new.previous, new.labels = old.name, old.labels
        old.successor = new.name
        self._retire(old)
        return new

    def _retire(self, old: ModelSession) -> None:
        if old.state != "ENDED":
            self._end_all(old)
        old.final = True

    def _end_all(self, session: ModelSession) -> None:
        self._end_line(session, "REJECTED/SESSION_ENDED")
        if session.lane:
            run = self.runs[session.lane]
            outcome = "REJECTED" if run.state == "PENDING" else "INTERRUPTED"
            run.state, run.ending, run.lease_until_ms = "FINISHED", f"{outcome}/SESSION_ENDED", None
            session.lane = ""
        self._leave(session)

    def _end_line(self, session: ModelSession, ending: str) -> int:
        if session.lane:
            self._return_inputs(session, self.runs[session.lane])
        line = session.line
        for run_id in line:
            self.runs[run_id].state, self.runs[run_id].ending = "FINISHED", ending
            session.leave_line(run_id)
        return len(line)

    def _return_inputs(self, session: ModelSession, run: ModelRun) -> None:
        for input_id in run.waiting:
            self.runs[input_id] = ModelRun(input_id, run.session)
            session.back.append(input_id)
            self.came_back.add(input_id)
        run.waiting.clear()

    def _leave(self, session: ModelSession) -> None:
        session.state, session.deadline_ms = "ENDED", None
