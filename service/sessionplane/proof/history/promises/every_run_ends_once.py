"""Every run ends, once, for everyone: one terminal, its last event, with the text so far, the same for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessionplane.proof.history.facts import FINISHED, Facts, Shown, told
from sessionplane.proof.history.records import Call, Happening
from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import Event

SLACK_S = 1.0
"""What the promise adds to lease and sweep."""

CALL_S = 1.0
"""So long after it was called may a call whose answer is unknown still have been done."""


START_S = 1.5
"""So long before it is ready does a server give leases again at the earliest."""

WAKE_S = 0.6
"""Who waits for a run's end is told no longer than this after anybody else."""


def every_run_ends_once(facts: Facts) -> Iterator[str]:
    """Say which run has no end, two, another one for somebody, a wrong text, or an end that came too late."""
    for run_id, events in sorted(facts.run_events.items()):
        yield from _terminal(run_id, events)
        yield from _text(facts, run_id, events)
    yield from _shown(facts)
    yield from _early(facts)
    if facts.history.alive:
        yield from _unended(facts)
        yield from _late(facts)


def _terminal(run_id: str, events: Sequence[Event]) -> Iterator[str]:
    ends = [event for event in events if event.HasField("run_terminal")]
    if len(ends) > 1:
        yield f"{run_id} ended {len(ends)} times"
    elif ends and events[-1] is not ends[0]:
        yield f"{run_id} goes on behind its terminal"


def _text(facts: Facts, run_id: str, events: Sequence[Event]) -> Iterator[str]:
    """The text is the runner's, if the runner ended the run and gave one, and else the join of its deltas."""
    end = next((event for event in events if event.HasField("run_terminal")), None)
    if end is None or facts.floors[end.session_id]:
        return
    terminal = end.run_terminal
    joined = "".join(event.output_delta.text for event in events if event.HasField("output_delta"))
    allowed = {joined}
    if terminal.cause == run_pb2.RUN_CAUSE_RUNNER:
        reports = [call.request for call in facts.made("FinishRun") if call.request.run_id == run_id]
        same = [report for report in reports if report.outcome == terminal.outcome]
        if not same:
            yield f"{run_id} ended as no runner reported"
        allowed = {report.output_text if report.HasField("output_text") else joined for report in same}
    if terminal.output_text not in allowed:
        yield f"{run_id} ended with the text {terminal.output_text!r} instead of {sorted(allowed)!r}"


def _shown(facts: Facts) -> Iterator[str]:
    for shown in facts.runs_shown:
        run = shown.what
        end = facts.terminal_of(run.run_id)
        if run.state == FINISHED and run.HasField("terminal") and end is not None:
            kept = end.run_terminal
            if (run.terminal.outcome, run.terminal.cause) != (kept.outcome, kept.cause):
                yield f"{run.run_id} had another end for {shown.where}"
    seen = _seen_ended(facts)
    for call in facts.calls("WaitRun"):
        if call.answer.finished != (call.answer.run.state == FINISHED):
            yield f"{told(call)} says finished {call.answer.finished} of a run that is not"
        since = max(call.called_at, seen.get(call.answer.run.run_id, float("inf")))
        if call.ended_at > since + WAKE_S and not facts.asleep(call.called_at, call.ended_at):
            yield f"{told(call)} was answered {call.ended_at - since:.2f} s after somebody knew of the end"


def _unended(facts: Facts) -> Iterator[str]:
    for run_id, events in sorted(facts.run_events.items()):
        begun = any(event.HasField("run_changed") for event in events)
        if begun and not any(event.HasField("run_terminal") for event in events):
            yield f"{run_id} never ended, though nothing went wrong any more"


def _early(facts: Facts) -> Iterator[str]:
    """A run is not lost before its lease has run out since its runner was heard, or since everybody got time again."""
    lease_s = facts.history.limits.lease_s
    seen = _seen_ended(facts)
    for run_id, events in sorted(facts.run_events.items()):
        if not events or events[-1].run_terminal.cause != run_pb2.RUN_CAUSE_LEASE_EXPIRED:
            continue
        since = _held_since(
            facts, [call.called_at for call in facts.calls(*SIGNS) if call.request.run_id == run_id]
        )
        if seen.get(run_id, float("inf")) < since + lease_s:
            yield f"{run_id} was lost {since + lease_s - seen[run_id]:.2f} s before its lease ran out"


def _held_since(facts: Facts, heard: Sequence[float]) -> float:
    """When a lease was last granted for certain: its runner was heard, or time was given again to those who had some
    left when the server went away.
    """
    if not heard:
        return 0.0
    lease_s, since, gone = facts.history.limits.lease_s, 0.0, float("inf")
    for incident in facts.history.incidents:
        if incident.what in _AWAY:
            gone = min(gone, incident.at)
        if incident.what in _BACK:
            since = max([since, *(at for at in heard if at < gone)])
            if since and gone < since + lease_s:
                since = incident.at - (START_S if incident.what is Happening.READY else 0.0)
            gone = float("inf")
    return max(since, *heard)


_AWAY = frozenset({Happening.CRASHED, Happening.STOPPED, Happening.ASLEEP})
_BACK = frozenset({Happening.READY, Happening.AWAKE})
"""What gives every runner its whole lease again."""


def _seen_ended(facts: Facts) -> dict[str, float]:
    """run id -> when somebody first knew that it had ended."""
    seen = [(shown.what.run_id, shown.until) for shown in facts.runs_shown if _finished(shown)]
    for stream in facts.history.streams:
        for frame in stream.frames:
            seen += [
                (event.run_id, frame.at)
                for event in frame.message.batch.events
                if event.HasField("run_terminal")
            ]
    seen += [(call.request.run_id, call.ended_at) for call in facts.refused if _is_over(call)]
    return dict(sorted(seen, key=lambda each: each[1], reverse=True))


def _is_over(call: Call) -> bool:
    return call.refusal is not None and call.refusal.reason == "RUN_FINISHED"


def _finished(shown: Shown) -> bool:
    return bool(shown.what.state == FINISHED)


HELD = frozenset({run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_INTERRUPTING})
SIGNS = ("PublishEvents", "HeartbeatRun")


def _late(facts: Facts) -> Iterator[str]:
    """A run whose runner was heard and is silent is not seen under that lease for longer than it may be, counted from
    whatever gave it time: a start, a pause, a disk that could not be written.
    """
    limits = facts.history.limits
    calm, trouble = _last(facts, Happening.CALM), _last(facts, Happening.TROUBLE)
    given = max(_last(facts, Happening.READY), _last(facts, Happening.AWAKE))
    signs: dict[str, float] = {}
    for call in facts.made(*SIGNS):
        signs[call.request.run_id] = max(signs.get(call.request.run_id, 0.0), _sign(call))
    heard = {
        (call.request.run_id, facts.epochs.get((call.request.run_id, call.request.lease_token)))
        for call in facts.calls(*SIGNS)
    }
    for shown in facts.runs_shown:
        run = shown.what
        if run.state not in HELD or (run.run_id, run.lease_epoch) not in heard:
            continue
        due = max(max(signs[run.run_id], given) + limits.lease_s, trouble) + limits.sweep_s + SLACK_S
        if shown.since > max(due, calm):
            yield f"{run.run_id} had not ended {shown.since - due:.2f} s after its runner was lost ({shown.where})"


def _sign(call: Call) -> float:
    return call.returned_at if call.returned_at is not None else call.called_at + CALL_S


def _last(facts: Facts, what: Happening) -> float:
    return max((each.at for each in facts.history.incidents if each.what is what), default=0.0)
