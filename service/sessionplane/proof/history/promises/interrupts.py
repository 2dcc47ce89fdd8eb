"""An interrupt is durable intent: what was answered of it stays so, its runner is told until it says that it heard, its
stages go one way, and it has one outcome, COMPLETED or NO_OP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.proof.history.tables import INTERRUPT_STAGES, NONE, word
from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import Event

NO_OP, COMPLETED = run_pb2.INTERRUPT_STAGE_NO_OP, run_pb2.INTERRUPT_STAGE_COMPLETED

Stories = Mapping[str, Sequence[Event]]
"""interrupt id -> what the logs say of it."""


def stage(number: int) -> str:
    """Name a stage."""
    return word(run_pb2.InterruptStage, number)


def interrupts(facts: Facts) -> Iterator[str]:
    """Say which interrupt was forgotten, went another way, came to nothing, or to two things."""
    stories: dict[str, list[Event]] = defaultdict(list)
    for event in facts.events():
        if event.HasField("interrupt_changed"):
            stories[event.interrupt_changed.interrupt_id].append(event)
    for interrupt_id, story in sorted(stories.items()):
        if facts.is_whole(story[0].session_id):
            yield from _way(interrupt_id, story)
            yield from _outcome(facts, interrupt_id, story[-1])
    yield from _kept(facts, stories)
    yield from _never_back(facts)
    yield from _made(facts, stories)
    yield from _told_of(facts)


def _way(interrupt_id: str, story: Sequence[Event]) -> Iterator[str]:
    stages = [NONE, *(stage(event.interrupt_changed.stage) for event in story)]
    for before, after in pairwise(stages):
        if (before, after) not in INTERRUPT_STAGES:
            yield f"{interrupt_id} went from {before} to {after}"


def _outcome(facts: Facts, interrupt_id: str, last: Event) -> Iterator[str]:
    """The run's end and the interrupt's come together. One of no run came to nothing."""
    reached = last.interrupt_changed.stage
    if (reached == NO_OP) != (not last.run_id):
        yield f"{interrupt_id} is NO_OP of a run, or something else without one"
    elif last.run_id and (facts.terminal_of(last.run_id) is not None) != (reached == COMPLETED):
        ended = "has not ended" if reached == COMPLETED else "has ended"
        yield f"{interrupt_id} is {stage(reached)}, and its run {ended}"


def _kept(facts: Facts, stories: Stories) -> Iterator[str]:
    """An interrupt that was answered is in a log, and came as far there as it was said to be."""
    for call in facts.calls("Interrupt", "GetInterrupt"):
        made = call.answer.interrupt
        reached = max((e.interrupt_changed.stage for e in stories.get(made.interrupt_id, ())), default=0)
        if reached < made.stage and facts.is_whole(made.session_id):
            yield f"{told(call)}: {made.interrupt_id} was {stage(made.stage)}, and no log says so"


def _never_back(facts: Facts) -> Iterator[str]:
    """A later answer shows no earlier stage."""
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    calls = sorted(facts.calls("Interrupt", "GetInterrupt"), key=lambda call: call.called_at)
    for call in calls:
        made = call.answer.interrupt
        for until, before in seen[made.interrupt_id]:
            if until < call.called_at and made.stage < before:
                yield f"{told(call)}: {made.interrupt_id} went back to {stage(made.stage)} from {stage(before)}"
        seen[made.interrupt_id].append((call.ended_at, made.stage))


def _made(facts: Facts, stories: Stories) -> Iterator[str]:
    """Force is done when it is answered, and only a run that has ended has nothing to stop."""
    for call in facts.calls("Interrupt"):
        made, asked = call.answer.interrupt, call.request
        if asked.mode == run_pb2.INTERRUPT_MODE_FORCE and made.stage not in {NO_OP, COMPLETED}:
            yield f"{told(call)}: force was answered with {stage(made.stage)}"
        story = stories.get(made.interrupt_id, ())
        missed = asked.expected_run_id not in {"", asked.run_id}
        if made.stage == NO_OP and asked.run_id and story and not missed and facts.is_whole(made.session_id):
            end = facts.terminal_of(asked.run_id)
            if end is None or end.sequence > story[0].sequence:
                yield f"{told(call)}: there was nothing to stop, but {asked.run_id} had not ended"


def _told_of(facts: Facts) -> Iterator[str]:
    """Each answer to the runner's unary calls tells of an interrupt that was answered before, until it is acknowledged.

    An answer without a lease came over DriveRun, where commands are messages of their own.
    """
    for call in facts.calls("Interrupt"):
        made = call.answer.interrupt
        if made.run_id and made.stage not in {NO_OP, COMPLETED}:
            yield from _untold(facts, made, call)


def _untold(facts: Facts, made: run_pb2.Interrupt, asked: Call) -> Iterator[str]:
    heard = list(facts.of_run(made.run_id, "PublishEvents", "HeartbeatRun"))
    acknowledged = min(
        (
            c.called_at
            for c in heard
            if getattr(c.request, "acknowledged_interrupt_id", "") == made.interrupt_id
        ),
        default=float("inf"),
    )
    for call in heard:
        if call.answer is None or call.called_at < asked.ended_at or call.ended_at > acknowledged:
            continue
        told_of = {command.interrupt.interrupt_id for command in call.answer.commands}
        if call.answer.lease.token and made.interrupt_id not in told_of:
            yield f"{told(call)} was not told of {made.interrupt_id} ({told(asked)})"
