"""Acknowledged means on disk: whatever anybody was shown is in the logs in the end, as it was shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from sessionplane.proof.history.facts import FINISHED, Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event


def acknowledged_is_on_disk(facts: Facts) -> Iterator[str]:
    """Say what was shown or acknowledged and is not there, and what was done more often than it was asked for."""
    yield from _sessions(facts)
    yield from _frames(facts)
    yield from _runs(facts)
    yield from _publications(facts)
    yield from _interrupts(facts)
    yield from _same_ids(facts)
    yield from _effects(facts)


def _sessions(facts: Facts) -> Iterator[str]:
    """A session that was shown is what its log adds up to at the head that it was shown with."""
    folds: dict[str, list[tuple[int, int]]] = {}
    for shown in facts.sessions_shown:
        session = shown.what
        if session.session_id not in facts.logs:
            yield f"{session.session_id}, shown by {shown.where}, has no log"
            continue
        if session.head_sequence > facts.head(session.session_id):
            yield f"{session.session_id} had {session.head_sequence} events for {shown.where}, and lost some"
            continue
        if facts.floors[session.session_id] or not session.head_sequence:
            continue
        if session.session_id not in folds:
            folds[session.session_id] = _folds(facts.logs[session.session_id])
        if folds[session.session_id][session.head_sequence - 1] != (session.state, session.generation):
            state = session_pb2.SessionState.Name(session.state)
            yield (
                f"{session.session_id} was {state} in generation {session.generation} at {session.head_sequence}"
                f" for {shown.where}, and its log adds up to something else"
            )


def _folds(log: Any) -> list[tuple[int, int]]:
    """State and generation behind each event."""
    folds, fold = [], (0, 0)
    for event in log:
        if event.HasField("session_changed"):
            fold = (event.session_changed.to_state, event.session_changed.generation)
        folds.append(fold)
    return folds


def _frames(facts: Facts) -> Iterator[str]:
    """An event that a subscriber got is in the log, byte for byte."""
    for stream in facts.history.streams:
        for frame in stream.frames:
            for event in frame.message.batch.events:
                yield from _kept(facts, event, f"{told(stream)} got")
    for call in facts.calls("ListEvents"):
        for event in call.answer.events:
            yield from _kept(facts, event, f"{told(call)} got")


def _kept(facts: Facts, event: Event, who: str) -> Iterator[str]:
    if event.sequence <= facts.floors.get(event.session_id, 0):
        return
    kept = facts.event(event.session_id, event.sequence)
    if kept is None:
        yield f"{who} {event.session_id} {event.sequence}, and it is gone"
    elif kept != event:
        yield f"{who} {event.session_id} {event.sequence}, and it is another one now"


def _runs(facts: Facts) -> Iterator[str]:
    """A run that was shown was recorded in its session, and ended as it was shown to have ended."""
    recorded: dict[str, set[str]] = defaultdict(set)
    for session_id, log in facts.logs.items():
        for event in log:
            if event.HasField("input_recorded"):
                recorded[session_id].add(event.input_recorded.input_id)
    for shown in facts.runs_shown:
        run = shown.what
        if facts.floors.get(run.session_id, 0) == 0 and run.run_id not in recorded[run.session_id]:
            yield f"{run.run_id}, shown by {shown.where}, was never recorded in {run.session_id}"
        if (
            run.state == FINISHED
            and facts.terminal_of(run.run_id) is None
            and not facts.floors.get(run.session_id)
        ):
            yield f"{run.run_id} had ended for {shown.where}, and its terminal is gone"
    for call in facts.calls("FinishRun"):
        answer = call.answer
        end = facts.terminal_of(call.request.run_id)
        if end is None:
            yield f"{told(call)}: the terminal of {call.request.run_id} is gone"
        elif (end.sequence, end.run_terminal) != (answer.terminal_sequence, answer.terminal):
            yield f"{told(call)}: {call.request.run_id} has another terminal"


def _publications(facts: Facts) -> Iterator[str]:
    """What was said to be published is there under its number."""
    for call in facts.calls("PublishEvents"):
        events = facts.run_events[call.request.run_id]
        numbered = {event.run_sequence: event for event in events if event.run_sequence}
        last = call.answer.last_run_sequence
        if last > max(numbered, default=0) and not _floored(facts, events):
            yield f"{told(call)}: {call.request.run_id} had {last} publications, and lost some"
        if call.answer.last_sequence > facts.head(events[0].session_id if events else ""):
            yield f"{told(call)}: the log had {call.answer.last_sequence} events, and lost some"
        first = call.request.first_run_sequence
        for number, new in enumerate(call.request.events, start=first) if first else ():
            kept = numbered.get(number)
            if kept is not None and number > last - len(call.request.events) and not _same_body(kept, new):
                yield f"{told(call)}: number {number} of {call.request.run_id} is something else"


def _same_body(kept: Event, new: Any) -> bool:
    if new.HasField("output_delta"):
        return bool(kept.output_delta.text == new.output_delta.text)
    return bool(kept.custom == new.custom)


def _floored(facts: Facts, events: list[Event]) -> bool:
    return not events or facts.floors.get(events[0].session_id, 0) > 0


def _interrupts(facts: Facts) -> Iterator[str]:
    """An interrupt that was answered is in a log, and had come so far."""
    stages: dict[str, int] = defaultdict(int)
    for log in facts.logs.values():
        for event in log:
            changed = event.interrupt_changed
            if changed.interrupt_id:
                stages[changed.interrupt_id] = max(stages[changed.interrupt_id], changed.stage)
    for call in facts.calls("Interrupt", "GetInterrupt"):
        made = call.answer.interrupt
        if facts.floors.get(made.session_id, 0):
            continue
        if stages[made.interrupt_id] < made.stage:
            name = run_pb2.InterruptStage.Name(made.stage)
            yield f"{told(call)}: {made.interrupt_id} was {name}, and no log says so"


def _same_ids(facts: Facts) -> Iterator[str]:
    """A repeated request id leads to the same things as the first time."""
    led: dict[tuple[str, str], tuple[Call, tuple[str, ...]]] = {}
    for call in facts.history.calls:
        if call.answer is None or not call.request_id:
            continue
        scope = (call.method, call.request_id)
        first, ids = led.setdefault(scope, (call, _ids(call)))
        if ids != _ids(call):
            yield f"{told(call)} led to {_ids(call)}, and {told(first)} with the same request id to {ids}"


def _ids(call: Call) -> tuple[str, ...]:
    """What a call led to. Claims and closings that came to nothing are not remembered."""
    answer = call.answer
    if call.method == "ClaimRun":
        return ()
    if call.method == "Interrupt":
        return (answer.interrupt.interrupt_id,)
    if call.method == "StartRun":
        return (answer.input_id, answer.session.session_id)
    if call.method == "ResolveSession" and answer.resolution != session_pb2.RESOLUTION_EXISTING:
        return (answer.session.session_id, answer.input_id)
    return ()


def _effects(facts: Facts) -> Iterator[str]:
    """What was asked for under one id was done once at the most; clients give every input and reason its own text."""
    asked: Counter[str] = Counter()
    for call in facts.made("StartRun", "ResolveSession", "Interrupt"):
        spec = call.request.follow_up if call.method == "Interrupt" else call.request.run
        once = bool(call.request_id or spec.run_id)
        if spec.input.text:
            asked[spec.input.text] = 1 if once else asked[spec.input.text] + 1 + call.repeated
    done: Counter[str] = Counter()
    for log in facts.logs.values():
        for event in log:
            recorded = event.input_recorded
            if recorded.stage == 1 and recorded.input.text:
                done[recorded.input.text] += 1
    for text, times in done.items():
        if text in asked and times > asked[text]:
            yield f"the input {text!r} was recorded {times} times"
