"""State decides: every log is a walk through the tables, and a call that was refused left nothing in any log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sessionplane.domain import runs, sessions
from sessionplane.domain.routing import ROUTES, Action, Column, Verb
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.proof.history.facts import Facts, told
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event

CLAIMED = (RunState.RUNNING, RunState.INTERRUPTING)


def state_decides(facts: Facts) -> Iterator[str]:
    """Say which step of a log no table allows, and which refusal was none."""
    for session_id, log in sorted(facts.logs.items()):
        if not facts.floors[session_id]:
            yield from _walk(session_id, log)
    yield from _refused_starts(facts)
    yield from _refused_publications(facts)
    yield from _refused_interrupts(facts)


@dataclass(slots=True)
class Walk:
    """Where a session is while its log is read."""

    session_id: str
    state: SessionState | None = None
    final: bool = False
    runs: dict[str, RunState] = field(default_factory=dict)

    @property
    def column(self) -> Column:
        """The column of the routing table."""
        if self.final and self.state is SessionState.ENDED:
            return Column.FINAL
        return Column(self.state.value) if self.state is not None else Column.NONE


def _walk(session_id: str, log: Sequence[Event]) -> Iterator[str]:
    walk = Walk(session_id)
    for event in log:
        step = _STEPS.get(event.WhichOneof("body") or "")
        if step is not None:
            for problem in step(walk, event):
                yield f"{session_id} at {event.sequence}: {problem}"


def _session_changed(walk: Walk, event: Event) -> Iterator[str]:
    changed = event.session_changed
    target = _session_state(changed.to_state)
    cause = SessionCause(session_pb2.SessionCause.Name(changed.cause).removeprefix("SESSION_CAUSE_"))
    before = _session_state(changed.from_state) if changed.from_state else None
    if before is not walk.state:
        yield f"it changes from {before} and was {walk.state}"
    if before is not None and sessions.TRANSITIONS[before].get(cause) is not target:
        yield f"{cause} does not lead from {before} to {target}"
    walk.state = target
    unfinished = [run_id for run_id, state in walk.runs.items() if state is not RunState.FINISHED]
    if target is SessionState.ENDED and unfinished:
        yield f"it ended, and {', '.join(unfinished)} did not"


def _session_moved(walk: Walk, event: Event) -> Iterator[str]:
    if event.session_moved.holds:
        if walk.final:
            yield "it is final and got a key"
        return
    walk.final = True
    if walk.state is not SessionState.ENDED:
        yield f"it lost its key and was {walk.state}"


def _run_changed(walk: Walk, event: Event) -> Iterator[str]:
    changed = event.run_changed
    target = _run_state(changed.to_state)
    before = _run_state(changed.from_state) if changed.from_state else None
    if before is not walk.runs.get(event.run_id):
        yield f"{event.run_id} changes from {before} and was {walk.runs.get(event.run_id)}"
    elif before is None and target not in runs.FIRST_STATES:
        yield f"{event.run_id} began as {target}"
    elif before is not None and target not in runs.TRANSITIONS[before]:
        yield f"{event.run_id} went from {before} to {target}"
    if before is None and ROUTES[Verb.START_RUN][walk.column] is not Action.ADMIT:
        yield f"{event.run_id} was let into a session that is {walk.column}"
    if target is RunState.RUNNING and ROUTES[Verb.CLAIM][walk.column] is not Action.GRANT:
        yield f"{event.run_id} was claimed in a session that is {walk.column}"
    walk.runs[event.run_id] = target
    past = [
        run_id for run_id, state in walk.runs.items() if state not in {RunState.QUEUED, RunState.FINISHED}
    ]
    if len(past) > 1:
        yield f"{', '.join(past)} have the lane together"


def _published(walk: Walk, event: Event) -> Iterator[str]:
    if event.run_sequence and walk.runs.get(event.run_id) not in CLAIMED:
        yield f"{event.run_id} published and was {walk.runs.get(event.run_id)}"


def _run_terminal(walk: Walk, event: Event) -> Iterator[str]:
    if walk.runs.get(event.run_id) is not RunState.FINISHED:
        yield f"{event.run_id} has its terminal and was {walk.runs.get(event.run_id)}"


_STEPS = {
    "session_changed": _session_changed,
    "session_moved": _session_moved,
    "run_changed": _run_changed,
    "output_delta": _published,
    "custom": _published,
    "run_terminal": _run_terminal,
}


def _session_state(number: session_pb2.SessionState.ValueType) -> SessionState:
    return SessionState(session_pb2.SessionState.Name(number).removeprefix("SESSION_STATE_"))


def _run_state(number: run_pb2.RunState.ValueType) -> RunState:
    return RunState(run_pb2.RunState.Name(number).removeprefix("RUN_STATE_"))


def _refused_starts(facts: Facts) -> Iterator[str]:
    """An input that every call for it refused was never recorded."""
    refused, other = {}, set()
    for call in facts.made("StartRun", "ResolveSession"):
        text = call.request.run.input.text
        if call.refusal is not None and not call.repeated:
            refused[text] = call
        elif text:
            other.add(text)
    recorded = {
        event.input_recorded.input.text
        for log in facts.logs.values()
        for event in log
        if event.HasField("input_recorded")
    }
    for text, call in refused.items():
        if text and text not in other and text in recorded:
            yield f"{told(call)} was refused, and its input was recorded"


def _refused_publications(facts: Facts) -> Iterator[str]:
    """A text that every call with it refused is in no log."""
    refused, other = {}, set()
    for call in facts.made("PublishEvents"):
        for new in call.request.events:
            if call.refusal is not None and not call.repeated:
                refused[call.request.run_id, new.output_delta.text] = call
            else:
                other.add((call.request.run_id, new.output_delta.text))
    for (run_id, text), call in refused.items():
        published = any(event.output_delta.text == text for event in facts.run_events[run_id])
        if text and published and (run_id, text) not in other:
            yield f"{told(call)} was refused, and {text!r} was published"


def _refused_interrupts(facts: Facts) -> Iterator[str]:
    """An interrupt that every call for it refused is in no log."""
    outcomes: dict[str, set[bool]] = defaultdict(set)
    for call in facts.made("Interrupt"):
        outcomes[call.request.reason].add(call.refusal is not None and not call.repeated)
    for log in facts.logs.values():
        for event in log:
            reason = event.interrupt_changed.reason
            if reason and outcomes.get(reason) == {True}:
                yield f"the interrupt {reason!r} was refused, and {event.interrupt_changed.interrupt_id} was made"
