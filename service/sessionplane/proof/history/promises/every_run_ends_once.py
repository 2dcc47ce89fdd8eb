"""Every run ends, once, for everyone: one terminal, its last event, with the text so far, the same for whoever asks, in
time; and an input that was sent into a run is taken once, or becomes a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sessionplane.proof.history.facts import FINISHED, SIGNS, Facts, refused, told
from sessionplane.proof.history.records import Bounds, Call, Happening
from sessionplane.v1 import event_pb2, run_pb2
from sessionplane.v1.event_pb2 import Event


def every_run_ends_once(facts: Facts) -> Iterator[str]:
    """Say which run has no end, two, another one for somebody, a wrong text, or an end at the wrong time."""
    for run_id, events in sorted(facts.run_events.items()):
        yield from _terminal(run_id, events)
        yield from _text(facts, run_id, events)
    yield from _same_for_everyone(facts)
    yield from _woken(facts)
    yield from _early(facts)
    yield from _inputs(facts)
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
    end = facts.terminal_of(run_id)
    if end is None or not facts.is_whole(end.session_id):
        return
    terminal = end.run_terminal
    joined = "".join(event.output_delta.text for event in events)
    allowed = {joined}
    if terminal.cause == run_pb2.RUN_CAUSE_RUNNER:
        reports = [call.request for call in facts.of_run(run_id, "FinishRun") if not refused(call)]
        same = [report for report in reports if report.outcome == terminal.outcome]
        if not same:
            yield f"{run_id} ended as no runner reported"
        allowed = {report.output_text if report.HasField("output_text") else joined for report in same}
    if allowed and terminal.output_text not in allowed:
        yield f"{run_id} ended with the text {terminal.output_text!r} instead of {sorted(allowed)!r}"


def _same_for_everyone(facts: Facts) -> Iterator[str]:
    """Whoever was shown the end of a run was shown the one that it has."""
    shown = [
        (each.what.run_id, each.what.terminal, each.where)
        for each in facts.runs_shown
        if each.what.state == FINISHED and each.what.HasField("terminal")
    ]
    shown += [(call.request.run_id, call.answer.terminal, told(call)) for call in facts.calls("FinishRun")]
    for run_id, terminal, where in shown:
        end = facts.terminal_of(run_id)
        if end is None:
            continue
        kept = end.run_terminal
        text = terminal.output_text in {"", kept.output_text}  # Most answers leave it out.
        if (terminal.outcome, terminal.cause) != (kept.outcome, kept.cause) or not text:
            yield f"{run_id} had another end for {where}"


def _woken(facts: Facts) -> Iterator[str]:
    """Who waits for the end of a run is told soon after anybody else."""
    for call in facts.calls("WaitRun"):
        if call.answer.finished != (call.answer.run.state == FINISHED):
            yield f"{told(call)} says finished {call.answer.finished} of a run that is not"
        since = max(call.called_at, facts.ends_seen.get(call.answer.run.run_id, call.ended_at))
        late_s = call.ended_at - since
        if late_s > facts.history.limits.wake_s and not facts.asleep(call.called_at, call.ended_at):
            yield f"{told(call)} was answered {late_s:.2f} s after somebody knew of the end"


def _early(facts: Facts) -> Iterator[str]:
    """A run is not lost before its lease has run out since its runner was heard, or since everybody got time again."""
    lease_s = facts.history.limits.lease_s
    for run_id, events in sorted(facts.run_events.items()):
        if events[-1].run_terminal.cause != run_pb2.RUN_CAUSE_LEASE_EXPIRED:
            continue
        heard = [call.called_at for call in facts.of_run(run_id, *SIGNS) if call.answer is not None]
        due = _held_since(facts, heard) + lease_s
        if facts.ends_seen.get(run_id, due) < due:
            yield f"{run_id} was lost {due - facts.ends_seen[run_id]:.2f} s before its lease ran out"


def _held_since(facts: Facts, heard: Sequence[float]) -> float:
    """When a lease was last granted for certain: its runner was heard, or time was given again to those who had some
    left when the server went away.
    """
    if not heard:
        return 0.0
    limits, since, gone = facts.history.limits, 0.0, float("inf")
    for incident in facts.history.incidents:
        if incident.what in _AWAY:
            gone = min(gone, incident.at)
        if incident.what in _BACK:
            since = max([since, *(at for at in heard if at < gone)])
            if since and gone < since + limits.lease_s:
                since = incident.at - (limits.start_s if incident.what is Happening.READY else 0.0)
            gone = float("inf")
    return max(since, *heard)


_AWAY = frozenset({Happening.CRASHED, Happening.STOPPED, Happening.ASLEEP})
_BACK = frozenset({Happening.READY, Happening.AWAKE})
"""What gives every runner its whole lease again."""


def _inputs(facts: Facts) -> Iterator[str]:
    """An input that waited for a run is taken by its runner, or becomes a run: never both, in the end never neither."""
    waited = {
        event.input_recorded.input_id: event.session_id
        for event in facts.events()
        if event.input_recorded.stage == event_pb2.INPUT_STAGE_RECORDED
        and event.run_id != event.input_recorded.input_id
    }
    became: dict[str, list[str]] = defaultdict(list)
    for event in facts.events():
        recorded = event.input_recorded
        if recorded.stage in {event_pb2.INPUT_STAGE_TAKEN, event_pb2.INPUT_STAGE_QUEUED}:
            became[recorded.input_id].append(event_pb2.InputStage.Name(recorded.stage))
    for input_id in waited:
        if len(became[input_id]) > 1:
            yield f"the input {input_id} came to {' and '.join(became[input_id])}"
        if facts.history.alive and not became[input_id]:
            yield f"the input {input_id} was neither taken nor given back"


def _unended(facts: Facts) -> Iterator[str]:
    for run_id, events in sorted(facts.run_events.items()):
        begun = any(event.HasField("run_changed") for event in events)
        if begun and facts.terminal_of(run_id) is None:
            yield f"{run_id} never ended, though nothing went wrong any more"


HELD = frozenset({run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_INTERRUPTING})


def _late(facts: Facts) -> Iterator[str]:
    """A run whose runner was heard and is silent is not seen under that lease for longer than it may be, counted from
    whatever gave it time: a start, a pause, a disk that could not be written.
    """
    limits = facts.history.limits
    calm, trouble = facts.last(Happening.CALM), facts.last(Happening.TROUBLE)
    given = max(facts.last(Happening.READY), facts.last(Happening.AWAKE))
    for shown in facts.runs_shown:
        run = shown.what
        if run.state not in HELD or not _was_heard(facts, run):
            continue
        sign = max(_sign(call, limits) for call in facts.of_run(run.run_id, *SIGNS))
        due = max(max(sign, given) + limits.lease_s, trouble) + limits.sweep_s + limits.slack_s
        if shown.since > max(due, calm):
            yield f"{run.run_id} had not ended {shown.since - due:.2f} s after its runner was lost ({shown.where})"


def _was_heard(facts: Facts, run: run_pb2.Run) -> bool:
    """Say whether the runner that holds a run was heard under this lease."""
    calls = (call for call in facts.of_run(run.run_id, *SIGNS) if call.answer is not None)
    return any(facts.epoch(call) == run.lease_epoch for call in calls)


def _sign(call: Call, limits: Bounds) -> float:
    return call.returned_at if call.returned_at is not None else call.called_at + limits.call_s
