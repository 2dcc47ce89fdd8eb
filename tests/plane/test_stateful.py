"""The use cases under any sequence of calls, pauses and restarts, beside a model that fits on a page.

After each step every answer was the model's, a refused call changed nothing, and the database keeps what is promised:
logs without a gap, at most one run past QUEUED in a session, one terminal for each finished run and none for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.events import Place
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.runs import RunOutcome, RunPolicy
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.store import codec
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.session_pb2 import SessionState
from tests.support.machines import KEYS, NUMBERS, KeyMachine
from tests.support.model_rows import (
    CLOSE_MS,
    GRACE_MS,
    LEASE_MS,
    RUN_MS,
    START_MS,
    SUSPEND_MS,
    SWEEP_MS,
    Answer,
    ModelSession,
)
from tests.support.planes import NAMESPACE, ref, spec
from tests.support.rows import broken
from tests.support.story import check_log, ending, terminals

pytestmark = pytest.mark.timeout(900)  # a failure is made small before it is shown

CLAIMED = ("RUNNING", "INTERRUPTING")
POLICIES = st.sampled_from([*RunPolicy, RunPolicy.ENQUEUE, RunPolicy.INJECT, RunPolicy.INJECT])
TEXTS = st.lists(st.sampled_from(["a", "é", "🙂 "]), max_size=3)
CROWDS = st.sampled_from(["nobody", "runner", "runner+line"])
OUTCOMES = st.sampled_from([RunOutcome.SUCCEEDED, RunOutcome.FAILED, RunOutcome.INTERRUPTED])


def has_tokens(machine: PlaneMachine) -> bool:
    return bool(machine.bench.tokens)


def has_unfinished(machine: PlaneMachine) -> bool:
    return any(run.state != "FINISHED" for run in machine.model.runs.values())


class PlaneMachine(KeyMachine):
    """The calls that are about runs and streams, and what must hold after each call."""

    @rule(key=KEYS, policy=POLICIES)
    def start_run(self, key: str, policy: RunPolicy) -> None:
        self.start(key, policy)

    @precondition(has_unfinished)
    @rule(number=NUMBERS)
    def claim(self, number: int) -> None:
        self.claim_one(number)

    def claim_one(self, number: int) -> None:
        self.claim_run(self.some_run(number, "PENDING")[0])

    def claim_run(self, run_id: str) -> None:
        claimed = self.wait(self.bench.claim(run_id, lease_ms=LEASE_MS))
        answer = self.model.claim(run_id, self.bench.tokens.get(run_id, ""))
        if claimed is None:
            assert answer == "wait"
        else:
            assert answer == ("granted" if claimed.lease else "declined")

    @precondition(has_tokens)
    @rule(number=NUMBERS, texts=TEXTS)
    def publish(self, number: int, texts: list[str]) -> None:
        self.publish_some(number, texts)

    def publish_some(self, number: int, texts: list[str], taken: Sequence[str] = ()) -> None:
        run_id, token = self.some_run(number, *CLAIMED)
        answer = self.model.publish(run_id, token, texts, list(taken))
        self.expect(answer, self.bench.publish(run_id, *texts, taken=taken))

    @precondition(has_unfinished)
    @rule(number=NUMBERS)
    def claim_and_work(self, number: int) -> None:
        """Most sequences should get somewhere."""
        self.claim_one(number)
        self.publish_some(number, ["a"])

    @precondition(has_tokens)
    @rule(number=NUMBERS)
    def heartbeat(self, number: int) -> None:
        run_id, token = self.some_run(number, *CLAIMED)
        heard = self.expect(self.model.publish(run_id, token, [], []), self.bench.heartbeat(run_id))
        if not isinstance(heard, SessionPlaneError):
            assert [each.input_id for each in heard.inputs] == self.model.runs[run_id].waiting

    @precondition(has_tokens)
    @rule(number=NUMBERS, texts=TEXTS, choices=st.lists(NUMBERS, min_size=1, max_size=3))
    def take(self, number: int, texts: list[str], choices: list[int]) -> None:
        """Acknowledge inputs of a run, mostly ones that wait for it."""
        run_id, token = self.some_run(number, *CLAIMED)
        known = self.model.runs[run_id].waiting + self.model.runs[run_id].taken or [run_id, "run-1"]
        taken = [known[choice % len(known)] for choice in choices]
        answer = self.model.publish(run_id, token, texts, taken)
        self.expect(answer, self.bench.publish(run_id, *texts, taken=taken))

    @rule(key=KEYS, count=st.integers(1, 3), number=NUMBERS, takes=st.booleans())
    def inject_into_work(self, key: str, count: int, number: int, takes: bool) -> None:
        """Send inputs to a runner at work, who takes one of them or none, and then often ends."""
        self.busy(key, "runner")
        for _ in range(count):
            self.start(key, RunPolicy.INJECT)
        run = self.model.runs[self.model.sessions[self.model.keys[key]].lane]
        taken = run.waiting[number % 3 :][:1] if takes else []
        answer = self.model.publish(run.run_id, run.token, ["a"], taken)
        self.expect(answer, self.bench.publish(run.run_id, "a", taken=taken))
        if number % 2:
            answer = self.model.finish(run.run_id, run.token, "SUCCEEDED")
            self.expect(answer, self.bench.finish(run.run_id))

    @precondition(has_tokens)
    @rule(number=NUMBERS, outcome=OUTCOMES)
    def finish(self, number: int, outcome: RunOutcome) -> None:
        run_id, token = self.some_run(number, *CLAIMED)
        answer = self.model.finish(run_id, token, outcome.value)
        finished = self.expect(answer, self.bench.finish(run_id, outcome=outcome))
        assert isinstance(finished, SessionPlaneError) or finished.result == answer

    @precondition(has_tokens)
    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        run_id, token = self.some_run(number, *CLAIMED)
        self.expect(self.model.release(run_id, token), self.bench.release(run_id))

    @rule(number=NUMBERS, force=st.booleans())
    def interrupt(self, number: int, force: bool) -> None:
        run_id, _ = self.some_run(number, "QUEUED", *CLAIMED)
        answer = self.model.interrupt(run_id, force=force)
        mode = InterruptMode.FORCE if force else InterruptMode.GRACEFUL
        made = self.expect(answer, self.bench.interrupt(run_id=run_id, mode=mode, grace_ms=GRACE_MS))
        self.check_stage(made, answer)

    @precondition(lambda self: self.started > 2)
    @rule(key=KEYS, force=st.booleans())
    def interrupt_key(self, key: str, force: bool) -> None:
        answer = self.model.interrupt_key(key, force=force)
        mode = InterruptMode.FORCE if force else InterruptMode.GRACEFUL
        made = self.expect(answer, self.bench.interrupt(key, mode=mode, grace_ms=GRACE_MS))
        self.check_stage(made, answer)

    @rule(key=KEYS, force=st.booleans(), drop=st.booleans(), follows=st.booleans())
    def interrupt_and_follow(self, key: str, force: bool, drop: bool, follows: bool) -> None:
        run_id = self.new_id() if follows else ""
        answer = self.model.interrupt_key(key, force=force, drop=drop, follow_up=run_id)
        mode = InterruptMode.FORCE if force else InterruptMode.GRACEFUL
        instead = spec(key, run_id=run_id, start_timeout_ms=START_MS, run_timeout_ms=RUN_MS)
        call = self.bench.interrupt(
            key,
            mode=mode,
            grace_ms=GRACE_MS,
            drop_queued=drop,
            follow_up=instead if follows else None,
        )
        made = self.expect(answer, call)
        self.check_stage(made, answer)
        if not isinstance(made, SessionPlaneError):
            assert made.dropped == self.model.dropped
            assert (made.follow_up.run.run_id if made.follow_up else "") == run_id

    def check_stage(self, made: Any, answer: Answer) -> None:
        assert isinstance(made, SessionPlaneError) or made.interrupt.stage in {answer, "DELIVERED"}

    def busy(self, key: str, crowd: str) -> None:
        """Have a runner at work in the session, or one and a line behind it: what is idle is the easy case."""
        if crowd == "nobody":
            return
        for _ in range(len(crowd.split("+"))):
            self.start(key)
        run_id = self.model.sessions[self.model.keys[key]].lane
        if self.model.runs[run_id].state == "PENDING":
            self.claim_run(run_id)
            answer = self.model.publish(run_id, self.bench.tokens[run_id], ["a"], [])
            self.expect(answer, self.bench.publish(run_id, "a"))

    @rule(key=KEYS, crowd=CROWDS)
    def suspend(self, key: str, crowd: str) -> None:
        self.busy(key, crowd)
        answer = self.model.suspend(key)
        view = self.expect(answer, self.bench.suspend(key, grace_ms=SUSPEND_MS))
        assert isinstance(view, SessionPlaneError) or view.session.state == answer

    @rule(key=KEYS, crowd=CROWDS)
    def close(self, key: str, crowd: str) -> None:
        self.busy(key, crowd)
        answer = self.model.close(key)
        view = self.expect(answer, self.bench.close(key, timeout_ms=CLOSE_MS))
        assert isinstance(view, SessionPlaneError) or view.session.state == answer

    @precondition(lambda self: "a" in self.model.keys)
    @rule()
    def attach(self) -> None:
        name = self.model.keys["a"]
        self.model.attach(name)
        self.wait(self.bench.attach(self.session_ids[name]))

    @precondition(lambda self: any(each.attached for each in self.model.sessions.values()))
    @rule(number=NUMBERS)
    def detach(self, number: int) -> None:
        attached = [each.name for each in self.model.sessions.values() if each.attached]
        name = attached[number % len(attached)]
        self.model.detach(name)
        self.wait(self.bench.detach(self.session_ids[name]))

    @rule(passing=st.sampled_from([1, 2, 4, 10, "pause", "restart"]), away_ms=st.sampled_from([0, 5_000]))
    def pass_time(self, passing: int | str, away_ms: int) -> None:
        """Time passes sweep by sweep, or the machine is paused and sweeps late, or the process starts again."""
        if isinstance(passing, int):
            for _ in range(passing):
                self.model.sweep(SWEEP_MS)
            self.wait(self.bench.pass_time(passing * SWEEP_MS))
        elif passing == "pause":
            self.model.sweep(10 * SWEEP_MS)
            self.bench.clock.advance(10 * SWEEP_MS)
            self.wait(self.bench.plane.sweeper.sweep())
        else:
            self.model.restart(away_ms)
            self.wait(self.bench.reopen(after_ms=away_ms))

    @invariant()
    def nothing_is_broken(self) -> None:
        assert broken(self.bench.database) == {}

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        logs = {each.name: self.check_session(each) for each in self.model.sessions.values()}
        for key in ("a", "cron:b"):
            holder = self.bench.plane.read(lambda tx, key=key: tx.session_by_key(NAMESPACE, ref(key).key))
            expected_id = self.session_ids.get(self.model.keys.get(key, ""), "")
            assert (holder.session_id if holder else "") == expected_id
        began_ms = self.bench.clock.wall_ms() - self.model.now_ms
        for run_id, expected in self.model.runs.items():
            view = self.bench.view(run_id)
            run = view.run
            waiting, taken = list(view.waiting_input_ids), list(view.taken_input_ids)
            assert (run.run_id, waiting, taken) == (run_id, expected.waiting, expected.taken)
            assert (run.state, run.last_run_sequence) == (expected.state, expected.published)
            assert run.output_bytes == len(expected.text.encode())
            due_ms = expected.due_ms()
            assert run.due_at_ms == (None if due_ms is None else due_ms + began_ms)
            if expected.state == "FINISHED":
                terminal = self.bench.check_end(run_id, logs[expected.session]).run_terminal
                assert (ending(terminal), terminal.output_text) == (expected.ending, expected.text)

    def check_session(self, expected: ModelSession) -> list[Event]:
        """Hold a session's row, line, lane and log against the model and the promises; return the log."""
        session_id = self.session_ids[expected.name]
        session = self.bench.plane.read(lambda tx: tx.session(NAMESPACE, session_id))
        assert session is not None
        self.check_succession(expected, session)
        assert (session.state, session.generation) == (expected.state, expected.generation)
        began_ms = self.bench.clock.wall_ms() - self.model.now_ms
        deadline_ms = expected.deadline_ms
        assert session.deadline_at_ms == (None if deadline_ms is None else deadline_ms + began_ms)
        assert session.active_run_id == expected.lane
        assert session.queued_run_count == len(expected.line)
        assert self.bench.plane.attached_count(session.session_id) == expected.attached
        line = [self.bench.view(run_id).queue_position for run_id in expected.line]
        assert line == list(range(1, len(line) + 1))
        log = self.log(session)
        check_log(log)
        self.check_fold(session, log)
        mine = [run for run in self.model.runs.values() if run.session == expected.name]
        assert len(terminals(log)) == sum(run.state == "FINISHED" for run in mine)
        past = [run.run_id for run in mine if run.state not in {"QUEUED", "FINISHED"}]
        assert past == ([session.active_run_id] if session.active_run_id else [])
        return log

    def check_succession(self, expected: ModelSession, session: Session) -> None:
        """What people gave it, who sees it, who was there, and whom it has its key from and left it to."""
        began_ms = self.bench.clock.wall_ms() - self.model.now_ms
        visited_ms = expected.visited_ms
        assert session.last_interaction_at_ms == (None if visited_ms is None else visited_ms + began_ms)
        assert session.started_at_ms == expected.started_ms + began_ms
        assert (session.visibility is Visibility.INTERNAL) is expected.hidden
        assert dict(session.labels) == expected.labels
        assert (session.final, session.deleted_at_ms is not None) == (expected.final, expected.deleted)
        assert session.previous_session_id == self.session_ids.get(expected.previous, "")
        assert session.superseded_by == self.session_ids.get(expected.successor, "")

    def log(self, session: Session) -> list[Event]:
        """Read the whole log, which checks its chain, and hold it against the head."""
        entries = self.bench.plane.read(
            lambda tx: tx.entries(session.session_id, after=Place(0, b""), limit=10_000, bytes_max=1 << 30)
        )
        assert (entries[-1].sequence, entries[-1].chain) == (session.head_sequence, session.head_hash)
        assert sum(len(entry.data) for entry in entries) == session.log_bytes
        return [codec.decode(entry.data) for entry in entries]

    def check_fold(self, session: Session, log: list[Event]) -> None:
        """The state and generation of a row are what its events add up to."""
        before = 0
        for event in log:
            if event.HasField("session_changed"):
                assert event.session_changed.from_state == before
                before, generation = event.session_changed.to_state, event.session_changed.generation
        assert SessionState.Name(before) == f"SESSION_STATE_{session.state}"
        assert generation == session.generation


PlaneMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples // 5, stateful_step_count=30
)
TestPlane = PlaneMachine.TestCase
