"""State decides: every log is a walk through the tables, every answer names the route that its state has, and a call
that was refused left nothing in any log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sessionplane.proof.history.facts import Facts, refused, texts, told
from sessionplane.proof.history.records import Call
from sessionplane.proof.history.tables import (
    NONE,
    OPEN,
    ROUTES,
    RUN_CHANGES,
    RUN_ENDS,
    SESSION_CHANGES,
    word,
)
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event


def state_decides(facts: Facts) -> Iterator[str]:
    """Say which step of a log no table allows, and which refusal was none."""
    for session_id, log in sorted(facts.logs.items()):
        if facts.is_whole(session_id):
            yield from _walk(session_id, log)
    yield from _routes(facts)
    yield from _refused_starts(facts)
    yield from _refused_publications(facts)
    yield from _refused_interrupts(facts)


@dataclass(slots=True)
class Walk:
    """Where a session is while its log is read."""

    state: str = NONE
    generation: int = 0
    final: bool = False
    runs: dict[str, str] = field(default_factory=dict)

    def in_state(self, *states: str) -> list[str]:
        """Return the runs that are in one of these states."""
        return [run_id for run_id, state in self.runs.items() if state in states]


def _walk(session_id: str, log: Sequence[Event]) -> Iterator[str]:
    walk = Walk()
    for event in log:
        step = _STEPS.get(event.WhichOneof("body") or "")
        if step is not None:
            for problem in step(walk, event):
                yield f"{session_id} at {event.sequence}: {problem}"


def _session_changed(walk: Walk, event: Event) -> Iterator[str]:
    changed = event.session_changed
    before, after = (word(session_pb2.SessionState, each) for each in (changed.from_state, changed.to_state))
    cause = word(session_pb2.SessionCause, changed.cause)
    if before != walk.state:
        yield f"it changes from {before} and was {walk.state}"
    if (before, cause, after) not in SESSION_CHANGES:
        yield f"{cause} does not lead from {before} to {after}"
    begins = before == NONE or cause == "RESUMED"
    if changed.generation != walk.generation + begins:
        yield f"generation {changed.generation} follows {walk.generation} by {cause}"
    walk.state, walk.generation = after, changed.generation
    unfinished = walk.in_state("QUEUED", "PENDING", "RUNNING", "INTERRUPTING")
    if after == "ENDED" and unfinished:
        yield f"it ended, and {', '.join(unfinished)} did not"


def _session_moved(walk: Walk, event: Event) -> Iterator[str]:
    if event.session_moved.holds:
        if walk.final:
            yield "it is final and got a key"
        return
    walk.final = True
    if walk.state != "ENDED":
        yield f"it lost its key and was {walk.state}"


def _run_changed(walk: Walk, event: Event) -> Iterator[str]:
    changed, run_id = event.run_changed, event.run_id
    before, after = (word(run_pb2.RunState, each) for each in (changed.from_state, changed.to_state))
    if before != walk.runs.get(run_id, NONE):
        yield f"{run_id} changes from {before} and was {walk.runs.get(run_id, NONE)}"
    if (before, after) not in RUN_CHANGES:
        yield f"{run_id} went from {before} to {after}"
    if (before == NONE or after == "RUNNING") and (walk.final or walk.state not in OPEN):
        yield f"{run_id} became {after} in a session that is {walk.state}{', final' if walk.final else ''}"
    walk.runs[run_id] = after
    past = walk.in_state("PENDING", "RUNNING", "INTERRUPTING")
    if len(past) > 1:
        yield f"{', '.join(past)} have the lane together"


def _published(walk: Walk, event: Event) -> Iterator[str]:
    if walk.runs.get(event.run_id) not in {"RUNNING", "INTERRUPTING"}:
        yield f"{event.run_id} published and was {walk.runs.get(event.run_id, NONE)}"


def _run_terminal(walk: Walk, event: Event) -> Iterator[str]:
    terminal = event.run_terminal
    end = word(run_pb2.RunOutcome, terminal.outcome), word(run_pb2.RunCause, terminal.cause)
    if walk.runs.get(event.run_id) != "FINISHED":
        yield f"{event.run_id} has its terminal and was {walk.runs.get(event.run_id, NONE)}"
    if end not in RUN_ENDS:
        yield f"{event.run_id} ended as {'/'.join(end)}"


_STEPS: Mapping[str, Callable[[Walk, Event], Iterator[str]]] = {
    "session_changed": _session_changed,
    "session_moved": _session_moved,
    "run_changed": _run_changed,
    "output_delta": _published,
    "custom": _published,
    "run_terminal": _run_terminal,
}


def _routes(facts: Facts) -> Iterator[str]:
    """An answer says what StartRun would do, and that is what the state that it shows leads to."""
    for call in facts.calls("ResolveSession", "GetSession", "ResetSession"):
        session = call.answer.session
        state = "FINAL" if session.final else word(session_pb2.SessionState, session.state)
        route = word(session_pb2.Route, call.answer.route)
        if route != ROUTES[state]:
            yield f"{told(call)} says {route} of {session.session_id}, which is {state}"


def _refused_starts(facts: Facts) -> Iterator[str]:
    """An input that every call for it refused was never recorded. Clients give every input its own text."""
    asked = ((call.request.run.input.text, call) for call in facts.made("StartRun", "ResolveSession"))
    recorded = {event.input_recorded.input.text for event in facts.events()}
    for text, call in _only_refused(asked):
        if text in recorded:
            yield f"{told(call)} was refused, and its input was recorded"


def _refused_publications(facts: Facts) -> Iterator[str]:
    """A text that every call with it refused is in no log."""
    asked = ((text, call) for call in facts.made("PublishEvents") for text in texts(call))
    published = {event.output_delta.text for event in facts.events()}
    for text, call in _only_refused(asked):
        if text in published:
            yield f"{told(call)} was refused, and {text!r} was published"


def _refused_interrupts(facts: Facts) -> Iterator[str]:
    """An interrupt that every call for it refused is in no log. Clients give every one its own reason."""
    asked = ((call.request.reason, call) for call in facts.made("Interrupt"))
    made = {event.interrupt_changed.reason for event in facts.events()}
    for reason, call in _only_refused(asked):
        if reason in made:
            yield f"{told(call)} was refused, and the interrupt was made"


def _only_refused(asked: Iterable[tuple[str, Call]]) -> Iterator[tuple[str, Call]]:
    """Return what was asked for in its own words, if nothing but a refusal ever came of that."""
    outcomes: dict[str, set[bool]] = defaultdict(set)
    last: dict[str, Call] = {}
    for words, call in asked:
        outcomes[words].add(refused(call))
        last[words] = call
    return ((words, last[words]) for words, seen in outcomes.items() if words and seen == {True})
