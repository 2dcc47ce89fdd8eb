"""What a plane should do, in a page: sessions, their lines and lanes, runs, leases and clocks, without a store.

Each method is one call. It applies what the call should do and returns how it should be answered: a word, or the
error that refuses it. It is written from the specification, not from the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionplane.domain.errors import (
    InputNotFound,
    InvalidTransition,
    KeyNotBound,
    LeaseLost,
    RunFinished,
    RunInProgress,
    RunQueueFull,
    SessionEnded,
    SessionNotFound,
    SessionPlaneError,
)
from tests.support.model_keys import ModelKeys
from tests.support.model_rows import (
    CLOSE_MS,
    FIRST_MAX,
    GRACE_MS,
    LEASE_MS,
    LINE_MAX,
    LINGER_MS,
    RUN_MS,
    SUSPEND_MS,
    SWEEP_MS,
    Answer,
    ModelRun,
    ModelSession,
)


@dataclass
class Model(ModelKeys):
    """The whole plane."""

    settle_at_ms: int | None = LINGER_MS
    complete_from_ms: int = 0
    unswept_ms: int = 0
    dropped: int = 0
    asked: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """What was asked of each run and input: where, by which policy, and in which session that was."""

    def start(self, where: str, run_id: str, policy: str = "ENQUEUE") -> Answer:
        """Start a run, or send an input, in the session that holds a key, or in one by its name."""
        session = self._find(where)
        if not isinstance(session, ModelSession):
            return session
        answer = self._begin(session, run_id, policy)
        if isinstance(answer, str):
            self.asked[run_id] = (where, policy, session.name)
        return answer

    def _find(self, where: str) -> ModelSession | type[SessionPlaneError]:
        """Return the session that a user means to run in, by key a new one if it is stale."""
        by_key = where not in self.sessions
        session = self.holder(where) if by_key else self.sessions[where]
        if session is None:
            return self._create(where, by_user=True, hidden=False)
        if session.deleted:
            return SessionNotFound
        if by_key and session.is_stale(self.now_ms):
            return self._hand_over(session, by_user=True)
        return SessionEnded if session.final else session

    def _begin(self, session: ModelSession, run_id: str, policy: str) -> Answer:
        if session.state == "CLOSING":
            self._end_all(session)
        if session.lane:
            return self._wait(session, run_id, policy)
        if session.state == "ENDED":
            session.state, session.generation = "CREATED", session.generation + 1
            session.quiet_since_ms = session.started_ms = self.now_ms
        self._visit(session)
        self.runs[run_id] = ModelRun(run_id, session.name)
        session.enqueued.append(run_id)
        self._promote(session)
        return "PENDING"

    def _visit(self, session: ModelSession) -> None:
        session.visited_ms, session.hidden = self.now_ms, False

    def _wait(self, session: ModelSession, run_id: str, policy: str) -> Answer:
        """Do what the policy says while another run has the lane."""
        active = self.runs[session.lane]
        if policy == "REJECT":
            return RunInProgress
        if policy == "ENQUEUE" and len(session.enqueued) >= LINE_MAX:
            return RunQueueFull
        if policy in {"INTERRUPT", "INJECT"} and self._is_first_full(session):
            return RunQueueFull
        self._visit(session)
        if policy == "INJECT":
            active.waiting.append(run_id)
            return "INJECTED"
        self.runs[run_id] = ModelRun(run_id, session.name)
        if policy == "ENQUEUE":
            session.enqueued.append(run_id)
            return "QUEUED"
        session.first.insert(0, run_id)
        self.interrupt(active.run_id, force=False)
        return "INTERRUPTING"

    def _is_first_full(self, session: ModelSession) -> bool:
        waiting = self.runs[session.lane].waiting
        return len(session.first) + len(session.back) + len(waiting) >= FIRST_MAX

    def claim(self, run_id: str, token: str) -> Answer:
        """Claim a run; what a claim that must wait gets is `wait`."""
        run = self.runs[run_id]
        session = self.sessions[run.session]
        if session.state in {"CLOSING", "ENDED"}:
            return "declined"
        if run.state == "QUEUED" or (run.state in {"RUNNING", "INTERRUPTING"} and not run.confirmed):
            return "wait"
        if run.state != "PENDING":
            return "declined"
        run.state, run.token, run.lease_until_ms = "RUNNING", token, self.now_ms + LEASE_MS
        run.pending_ms += self.now_ms - run.pending_since_ms
        run.claimed_at_ms = self.now_ms if run.claimed_at_ms is None else run.claimed_at_ms
        if session.state == "CREATED":
            session.state = "STARTING"
        return "granted"

    def publish(self, run_id: str, token: str, texts: list[str], taken: list[str]) -> Answer:
        """Publish pieces of text, and say which inputs were taken; without a text it is a heartbeat."""
        run = self.runs[run_id]
        refusal = self._refusal(run, token)
        if refusal is not None:
            return refusal
        if not all(self._was_given(run, input_id) for input_id in taken):
            return InputNotFound
        self._hear(run)
        for input_id in taken:
            if input_id in run.waiting:
                run.waiting.remove(input_id)
                run.taken.append(input_id)
        if texts:
            self._first_event(self.sessions[run.session])
        run.published += len(texts)
        run.text += "".join(texts)
        return "heard"

    def _was_given(self, run: ModelRun, input_id: str) -> bool:
        """An input that came back from a run of the session is passed over; whoever was handed it could not know."""
        came_back = self.runs[input_id].session == run.session if input_id in self.came_back else False
        return input_id in run.waiting or input_id in run.taken or came_back

    def finish(self, run_id: str, token: str, outcome: str) -> Answer:
        """Report how a run ended."""
        run = self.runs[run_id]
        if run.token != token:
            return LeaseLost
        if run.state == "FINISHED":
            return "DUPLICATE" if run.report == outcome else "SUPERSEDED"
        self._first_event(self.sessions[run.session])
        run.report = outcome
        self._end(run, f"{outcome}/RUNNER")
        return "RECORDED"

    def release(self, run_id: str, token: str) -> Answer:
        """Give a run back."""
        run = self.runs[run_id]
        refusal = self._refusal(run, token)
        if refusal is not None:
            return refusal
        if run.state == "RUNNING" and (run.published or run.taken):
            return InvalidTransition
        self._give_back(run)
        return "released"

    def interrupt(self, run_id: str, *, force: bool) -> Answer:
        """Ask that a run stop."""
        run = self.runs[run_id]
        if self.sessions[run.session].deleted:
            return SessionNotFound
        if run.state == "FINISHED":
            return "NO_OP"
        if run.state in {"QUEUED", "PENDING"}:
            self._end(run, "INTERRUPTED/INTERRUPT")
        elif force:
            self._end(run, "INTERRUPTED/FORCED")
        elif run.state == "RUNNING":
            run.state, run.grace_until_ms = "INTERRUPTING", self.now_ms + GRACE_MS
        return "ACCEPTED" if run.state == "INTERRUPTING" else "COMPLETED"

    def interrupt_key(self, key: str, *, force: bool, drop: bool = False, follow_up: str = "") -> Answer:
        """Ask that the active run of a session stop, that what waits be dropped, and that something else be done."""
        session = self.holder(key)
        if session is None and not follow_up:
            return KeyNotBound
        session = session or self._create(key, by_user=True, hidden=False)
        lane, in_line = session.lane, session.state not in {"CLOSING", "ENDED"}
        if follow_up and in_line and lane and not drop and self._is_first_full(session):
            return RunQueueFull
        self.dropped = self._end_line(session, "INTERRUPTED/INTERRUPT") if drop else 0
        if follow_up and in_line and lane:
            self._visit(session)
            self.runs[follow_up] = ModelRun(follow_up, session.name)
            session.first.insert(0, follow_up)
        answer = self.interrupt(lane, force=force) if lane else "NO_OP"
        if follow_up and follow_up not in self.runs:
            self._begin(session, follow_up, "ENQUEUE")
        if follow_up:
            self.asked[follow_up] = (key, "ENQUEUE", session.name)
        return "COMPLETED" if lane and self.runs[lane].state == "FINISHED" else answer

    def suspend(self, key: str) -> Answer:
        """Say that the client goes to the background."""
        session = self.holder(key)
        if session is None:
            return KeyNotBound
        if session.state in {"ACTIVE", "DETACHED"}:
            session.state, session.deadline_ms = "SUSPENDED", self.now_ms + SUSPEND_MS
        return "SUSPENDED" if session.state == "SUSPENDED" else InvalidTransition

    def close(self, key: str) -> Answer:
        """Ask that a session end."""
        session = self.holder(key)
        if session is None:
            return KeyNotBound
        run = self.runs.get(session.lane)
        claimed = run is not None and run.state in {"RUNNING", "INTERRUPTING"}
        if run is not None and claimed and session.state in {"ACTIVE", "DETACHED", "SUSPENDED"}:
            self._end_line(session, "REJECTED/SESSION_ENDED")
            session.state, session.deadline_ms = "CLOSING", self.now_ms + CLOSE_MS
            run.state = "INTERRUPTING"
            run.grace_until_ms = min(run.grace_until_ms or session.deadline_ms, session.deadline_ms)
        elif session.state not in {"CLOSING", "ENDED"}:
            self._end_all(session)
        return session.state

    def attach(self, name: str) -> None:
        """Let one more subscriber come."""
        session = self.sessions[name]
        session.attached, session.linger_until_ms = session.attached + 1, None
        if session.state in {"DETACHED", "SUSPENDED"}:
            session.state, session.deadline_ms = "ACTIVE", None

    def detach(self, name: str) -> None:
        """Let one of them go."""
        session = self.sessions[name]
        session.attached -= 1
        if not session.attached:
            session.linger_until_ms = self.now_ms + LINGER_MS

    def restart(self, away_ms: int) -> None:
        """Stop, be away, and start again: nobody is attached, and every lease is whole."""
        self.now_ms += away_ms
        self.unswept_ms = 0
        self.settle_at_ms = self.complete_from_ms = self.now_ms + LINGER_MS
        for session in self.sessions.values():
            session.attached, session.linger_until_ms, session.noted_ms = 0, None, None
        self._grant_all()

    def wait(self, passed_ms: int) -> None:
        """Let time pass without a sweep."""
        self.now_ms += passed_ms
        self.unswept_ms += passed_ms

    def sweep(self, passed_ms: int) -> None:
        """Let time pass, and do what is late then."""
        self.wait(passed_ms)
        if self.unswept_ms > 2 * SWEEP_MS:
            self._grant_all()
        self.unswept_ms = 0
        self._sweep_runs()
        self._sweep_sessions()

    def _sweep_runs(self) -> None:
        leased = [run for run in self.runs.values() if self._is_over(run.lease_until_ms)]
        due = [run for run in self.runs.values() if self._is_over(run.due_ms())]
        for run in leased:
            if run.confirmed:
                self._end(run, "LOST/LEASE_EXPIRED")
            else:
                self._give_back(run)
        for run in due:
            if self._is_over(run.due_ms()):
                self._expire(run)

    def _sweep_sessions(self) -> None:
        for session in self.sessions.values():
            if session.noted_ms is not None:
                session.visited_ms = max(session.visited_ms or 0, session.noted_ms)
            session.noted_ms = None
        for session in self.sessions.values():
            if self._is_over(session.linger_until_ms):
                session.linger_until_ms = None
                self._settle(session)
        for session in self.sessions.values():
            if self._is_over(session.due_ms()):
                self._come_due(session)
        if self._is_over(self.settle_at_ms):
            self.settle_at_ms = None
            for session in self.sessions.values():
                if session.state == "ACTIVE":
                    self._settle(session)

    def _is_over(self, at_ms: int | None) -> bool:
        return at_ms is not None and at_ms <= self.now_ms

    def _grant_all(self) -> None:
        for run in self.runs.values():
            if run.lease_until_ms is not None:
                run.lease_until_ms = self.now_ms + LEASE_MS

    def _is_cut(self, run: ModelRun) -> bool:
        session, due_ms = self.sessions[run.session], run.due_ms()
        if session.state != "CLOSING" or session.deadline_ms is None:
            return False
        return due_ms is None or session.deadline_ms <= due_ms

    def _come_due(self, session: ModelSession) -> None:
        """Cut a closing at once; judge who is absent only when everybody had the time to come back."""
        if session.state == "CLOSING":
            if self._is_cut(self.runs[session.lane]):
                self._end_all(session)
        elif self.now_ms >= self.complete_from_ms and session.state == "SUSPENDED":
            session.state, session.deadline_ms = "ACTIVE" if session.attached else "DETACHED", None
            session.quiet_since_ms = self.now_ms
        elif self.now_ms >= self.complete_from_ms:
            if session.attached or session.linger_until_ms is not None:
                session.quiet_since_ms = self.now_ms
            else:
                self._leave(session)

    def _expire(self, run: ModelRun) -> None:
        if self._is_cut(run):
            return
        if run.claimed_at_ms is not None and self._is_over(run.claimed_at_ms + RUN_MS):
            self._end(run, "TIMED_OUT/DEADLINE")
        elif run.state == "PENDING":
            self._end(run, "REJECTED/DEADLINE")
        else:
            self._end(run, "INTERRUPTED/FORCED")

    def _settle(self, session: ModelSession) -> None:
        if session.attached or session.linger_until_ms is not None:
            return
        if session.state == "ACTIVE":
            session.state = "DETACHED"
        if session.state in {"CREATED", "DETACHED"}:
            session.quiet_since_ms = self.now_ms

    def _refusal(self, run: ModelRun, token: str) -> type[SessionPlaneError] | None:
        if not run.token or run.token != token:
            return LeaseLost
        return RunFinished if run.state == "FINISHED" else None

    def _hear(self, run: ModelRun) -> None:
        run.confirmed, run.lease_until_ms = True, self.now_ms + LEASE_MS

    def _first_event(self, session: ModelSession) -> None:
        if session.state == "STARTING":
            session.state = "ACTIVE" if session.attached else "DETACHED"
            session.quiet_since_ms = self.now_ms

    def _give_back(self, run: ModelRun) -> None:
        if run.state == "INTERRUPTING":
            self._end(run, "INTERRUPTED/INTERRUPT")
            return
        run.state, run.pending_since_ms = "PENDING", self.now_ms
        run.token, run.confirmed, run.lease_until_ms = "", False, None

    def _end(self, run: ModelRun, ending: str) -> None:
        session = self.sessions[run.session]
        self._return_inputs(session, run)
        run.state, run.ending, run.lease_until_ms = "FINISHED", ending, None
        if run.run_id in session.line:
            session.leave_line(run.run_id)
        else:
            session.lane = ""
            self._promote(session)
        if not session.lane and not session.line:
            session.quiet_since_ms = self.now_ms
            if session.state in {"CREATED", "STARTING", "CLOSING"}:
                self._leave(session)

    def _promote(self, session: ModelSession) -> None:
        if session.line:
            session.lane = session.line[0]
            session.leave_line(session.lane)
            run = self.runs[session.lane]
            run.state, run.pending_since_ms = "PENDING", self.now_ms
