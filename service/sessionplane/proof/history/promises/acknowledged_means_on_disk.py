"""Acknowledged means on disk: whatever anybody was shown is in the logs in the end, as it was shown, and once.

What an interrupt came to is `interrupts`'s.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sessionplane.proof.history.facts import FINISHED, Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.v1 import event_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.runner_service_pb2 import NewEvent


def acknowledged_means_on_disk(facts: Facts) -> Iterator[str]:
    """Say what was shown or acknowledged and is not there, and what was done more often than it was asked for."""
    yield from _sessions(facts)
    yield from _events(facts)
    yield from _runs(facts)
    yield from _reports(facts)
    yield from _publications(facts)
    yield from _inputs_taken(facts)
    yield from _same_ids(facts)
    yield from _effects(facts)


def _sessions(facts: Facts) -> Iterator[str]:
    """A session that was shown is what its log adds up to at the head that it was shown with."""
    folds: dict[str, Sequence[tuple[int, int]]] = {}
    for shown in facts.sessions_shown:
        session = shown.what
        session_id, head = session.session_id, session.head_sequence
        if session_id not in facts.logs:
            yield f"{session_id}, shown by {shown.where}, has no log"
        elif head > facts.head(session_id):
            yield f"{session_id} had {head} events for {shown.where}, and lost some"
        elif facts.is_whole(session_id) and head:
            if session_id not in folds:
                folds[session_id] = _folds(facts.logs[session_id])
            if folds[session_id][head - 1] != (session.state, session.generation):
                state = session_pb2.SessionState.Name(session.state)
                yield (
                    f"{session_id} was {state} in generation {session.generation} at {head} for {shown.where},"
                    f" and its log adds up to something else"
                )


def _folds(log: Sequence[Event]) -> Sequence[tuple[int, int]]:
    """State and generation behind each event."""
    folds, fold = [], (0, 0)
    for event in log:
        if event.HasField("session_changed"):
            fold = (event.session_changed.to_state, event.session_changed.generation)
        folds.append(fold)
    return folds


def _events(facts: Facts) -> Iterator[str]:
    """An event that somebody got is in the log, as it was got."""
    for stream in facts.history.streams:
        for frame in stream.frames:
            for event in frame.message.batch.events:
                yield from _kept(facts, event, told(stream))
    for call in facts.calls("ListEvents"):
        for event in call.answer.events:
            yield from _kept(facts, event, told(call))


def _kept(facts: Facts, event: Event, who: str) -> Iterator[str]:
    if event.sequence <= facts.floors.get(event.session_id, 0):
        return
    kept = facts.event(event.session_id, event.sequence)
    if kept is None:
        yield f"{who} got {event.session_id} {event.sequence}, and it is gone"
    elif kept != event:
        yield f"{who} got {event.session_id} {event.sequence}, and it is another one now"


def _runs(facts: Facts) -> Iterator[str]:
    """A run that was shown was recorded in its session, and ended if it was shown to have ended."""
    recorded = {
        (event.session_id, event.input_recorded.input_id)
        for event in facts.events()
        if event.HasField("input_recorded")
    }
    for shown in facts.runs_shown:
        run = shown.what
        if not facts.is_whole(run.session_id):
            continue
        if (run.session_id, run.run_id) not in recorded:
            yield f"{run.run_id}, shown by {shown.where}, was never recorded in {run.session_id}"
        elif run.state == FINISHED and facts.terminal_of(run.run_id) is None:
            yield f"{run.run_id} had ended for {shown.where}, and its terminal is gone"


def _reports(facts: Facts) -> Iterator[str]:
    """A terminal that a runner was told of is where it was said to be."""
    for call in facts.calls("FinishRun"):
        end, place = facts.terminal_of(call.request.run_id), call.answer.terminal_sequence
        gone = end is None and facts.all_whole
        if gone or (end is not None and end.sequence != place):
            yield f"{told(call)}: the terminal of {call.request.run_id} is not at {place}"


def _publications(facts: Facts) -> Iterator[str]:
    """What was said to be published is there under its number."""
    kept = {(event.run_id, event.run_sequence): event for event in facts.events() if event.run_sequence}
    for call in facts.calls("PublishEvents"):
        run_id, last = call.request.run_id, call.answer.last_run_sequence
        events = facts.run_events.get(run_id, ())
        if not events or not facts.is_whole(events[0].session_id):
            continue
        if last and (run_id, last) not in kept:
            yield f"{told(call)}: {run_id} had {last} publications, and lost some"
        first = call.request.first_run_sequence or last + 1 - len(call.request.events)
        for number, new in enumerate(call.request.events, start=first):
            if (run_id, number) in kept and not _same(kept[run_id, number], new):
                yield f"{told(call)}: number {number} of {run_id} is something else"


def _same(kept: Event, new: NewEvent) -> bool:
    if new.HasField("output_delta"):
        return kept.output_delta.text == new.output_delta.text
    return kept.custom == new.custom


def _inputs_taken(facts: Facts) -> Iterator[str]:
    """An input that a runner said it took, and was heard, is taken, or had been given back before."""
    told_of = {
        event.input_recorded.input_id
        for event in facts.events()
        if event.input_recorded.stage in {event_pb2.INPUT_STAGE_TAKEN, event_pb2.INPUT_STAGE_QUEUED}
    }
    for call in facts.calls("PublishEvents", "HeartbeatRun"):
        events = facts.run_events.get(call.request.run_id, ())
        if events and facts.is_whole(events[0].session_id):
            for input_id in call.request.acknowledged_input_ids:
                if input_id not in told_of:
                    yield f"{told(call)} took {input_id}, and no log says so"


def _same_ids(facts: Facts) -> Iterator[str]:
    """A repeated request id leads to the same things as the first time."""
    led: dict[tuple[str, str], tuple[Call, tuple[str, ...]]] = {}
    for call in facts.history.calls:
        if call.answer is None or not call.request_id:
            continue
        first, ids = led.setdefault((call.method, call.request_id), (call, _ids(call)))
        if ids != _ids(call):
            yield f"{told(call)} led to {_ids(call)}, and {told(first)} with the same request id to {ids}"


def _ids(call: Call) -> tuple[str, ...]:
    """What a call led to. Claims and closings that came to nothing are not remembered."""
    answer = call.answer
    if call.method == "Interrupt":
        return (answer.interrupt.interrupt_id,)
    if call.method == "ResetSession":
        return (answer.session.session_id,)
    if call.method == "StartRun":
        return (answer.input_id, answer.session.session_id)
    if call.method == "ResolveSession" and answer.resolution != session_pb2.RESOLUTION_EXISTING:
        return (answer.session.session_id, answer.input_id)
    return ()


def _effects(facts: Facts) -> Iterator[str]:
    """What was asked for under one id was done once at the most; clients give every input its own text."""
    asked: Counter[str] = Counter()
    for call in facts.made("StartRun", "ResolveSession", "Interrupt"):
        spec = call.request.follow_up if call.method == "Interrupt" else call.request.run
        if call.request_id or spec.run_id:
            asked[spec.input.text] = 1
        else:
            asked[spec.input.text] += 1 + call.repeated
    done: dict[str, int] = defaultdict(int)
    for event in facts.events():
        recorded = event.input_recorded
        if recorded.stage == event_pb2.INPUT_STAGE_RECORDED and recorded.input.text:
            done[recorded.input.text] += 1
    for text, times in done.items():
        if text in asked and times > asked[text]:
            yield f"the input {text!r} was recorded {times} times"
