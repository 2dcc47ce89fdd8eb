"""The bounds of time, held against virtual time to the second: real machines are too uneven for that.

What gives the server time is counted: it was away, the machine slept, its disk could not be written or is slow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from sessionplane.proof.history.facts import SIGNS, Facts, told
from sessionplane.proof.history.records import Call, Happening, History
from sessionplane.proof.sim.plan import LEASE_MS, SWEEP_MS, Plan
from sessionplane.v1 import run_pb2

SLACK_S = 1.0
"""What the promise adds to lease and sweep."""

COMMITS = 8
"""A sweep and what it was late for take so many turns of the writer at the most."""

_GIVING = frozenset({Happening.READY, Happening.AWAKE, Happening.TROUBLE})
_HELD = frozenset({run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_INTERRUPTING})
_GRACEFUL = frozenset({run_pb2.INTERRUPT_MODE_UNSPECIFIED, run_pb2.INTERRUPT_MODE_GRACEFUL})


def overdue(plan: Plan, facts: Facts) -> Iterator[str]:
    """Say what went on for longer than it may."""
    history = facts.history
    time = _Time(plan, history)
    yield from _leases(facts, time)
    starts = sum(each.what is Happening.READY for each in history.incidents)
    if plan.jumps and starts > 1:
        # A process counts its time on by itself; the next one begins with the clock that somebody has set meanwhile.
        return
    yield from _graces(facts, time)
    yield from _timeouts(facts, time)
    yield from _early(facts, time)


class _Time:
    """When the server was given time, and how long it may take."""

    def __init__(self, plan: Plan, history: History) -> None:
        self.limits = plan.limits
        self._slack_s = SWEEP_MS / 1000 + SLACK_S + COMMITS * plan.commit_s
        self._given = [each.at for each in history.incidents if each.what in _GIVING]

    def due(self, since: float, span_s: float, now: float) -> float:
        """Return until when what began at a moment may go on, as it is judged now."""
        return self._late(since + span_s, now)

    def lease_due(self, since: float, now: float) -> float:
        """The same for a lease, which is granted again in full whenever the server is given time."""
        return self._late(max(since, self._last(now)) + LEASE_MS / 1000, now)

    def _late(self, due: float, now: float) -> float:
        return max(due, self._last(now)) + self._slack_s

    def _last(self, now: float) -> float:
        index = bisect_right(self._given, now)
        return self._given[index - 1] if index else 0.0


def _leases(facts: Facts, time: _Time) -> Iterator[str]:
    """A runner that was silent for longer than its lease is not heard any more: its run has ended, or is another's."""
    signs: dict[str, list[Call]] = {}
    for call in sorted(facts.made(*SIGNS), key=lambda call: call.called_at):
        before = signs.setdefault(call.request.run_id, [])
        heard = any(facts.epoch(each) == facts.epoch(call) and each.answer is not None for each in before)
        if call.answer is not None and heard:
            # One without an answer may have been heard at any time since.
            last = max(each.ended_at for each in before)
            due = time.lease_due(last, call.ended_at)
            if call.called_at > due:
                yield f"{told(call)} was accepted {call.called_at - due:.2f} s after its lease had to lapse"
        before.append(call)


def _graces(facts: Facts, time: _Time) -> Iterator[str]:
    """A run that was asked to stop has stopped when the grace is over."""
    asked: dict[str, float] = {}
    for call in facts.calls("Interrupt"):
        made = call.answer.interrupt
        if made.run_id and call.request.mode in _GRACEFUL:
            asked[made.run_id] = min(call.ended_at, asked.get(made.run_id, call.ended_at))
    for shown in facts.runs_shown:
        run = shown.what
        if run.state == run_pb2.RUN_STATE_INTERRUPTING and run.run_id in asked:
            grace_s = time.limits.interrupt_grace_ms_default / 1000
            due = time.due(asked[run.run_id], grace_s, shown.until)
            if shown.since > due:
                yield f"{run.run_id} had not stopped {shown.since - due:.2f} s after its grace ({shown.where})"


def _timeouts(facts: Facts, time: _Time) -> Iterator[str]:
    """A run has ended when its time is over: that to be claimed, and that to be done in."""
    claimed = _first_claims(facts)
    waiting: dict[str, float] = {}
    for shown in sorted(facts.runs_shown, key=lambda shown: shown.until):
        run = shown.what
        if run.state == run_pb2.RUN_STATE_PENDING and not run.lease_epoch:
            since = waiting.setdefault(run.run_id, shown.until)
            due = time.due(since, time.limits.start_timeout_ms_default / 1000, shown.until)
        elif run.state in _HELD and run.run_id in claimed:
            due = time.due(claimed[run.run_id], time.limits.run_timeout_ms_default / 1000, shown.until)
        else:
            continue
        if shown.since > due:
            yield f"{run.run_id} went on for {shown.since - due:.2f} s after its time was over ({shown.where})"


def _early(facts: Facts, time: _Time) -> Iterator[str]:
    """A run whose time was over had all of it: from when it was asked for at the earliest, or from its first claim."""
    limits = time.limits
    asked: dict[str, float] = {}
    for call in facts.made("StartRun", "ResolveSession", "Interrupt"):
        spec = call.request.follow_up if call.method == "Interrupt" else call.request.run
        asked[spec.input.text] = min(call.called_at, asked.get(spec.input.text, call.called_at))
    claims = [call.called_at for call in facts.made("ClaimRun")]
    for run_id, events in facts.run_events.items():
        terminal, known = events[-1].run_terminal, facts.ends_seen.get(run_id)
        if terminal.cause != run_pb2.RUN_CAUSE_DEADLINE or known is None:
            continue
        if terminal.outcome == run_pb2.RUN_OUTCOME_TIMED_OUT:
            due = min(claims, default=0.0) + limits.run_timeout_ms_default / 1000
        else:
            due = asked.get(events[0].input_recorded.input.text, 0.0) + limits.start_timeout_ms_default / 1000
        if known < due:
            yield f"{run_id} was ended {due - known:.2f} s before its time was over"


def _first_claims(facts: Facts) -> dict[str, float]:
    claimed: dict[str, float] = {}
    for call in facts.calls("ClaimRun"):
        if call.answer.claimed:
            claimed.setdefault(call.answer.run.run_id, call.ended_at)
    return claimed
