"""An interrupt is durable intent: its stages go one way, and it has one outcome, COMPLETED or NO_OP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from sessionplane.domain.interrupts import FIRST_STAGES, STAGES, InterruptStage
from sessionplane.proof.history.facts import Facts, told
from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import Event

NO_OP, COMPLETED = run_pb2.INTERRUPT_STAGE_NO_OP, run_pb2.INTERRUPT_STAGE_COMPLETED


def stage(number: run_pb2.InterruptStage.ValueType) -> InterruptStage:
    """Return the stage of the domain."""
    return InterruptStage(run_pb2.InterruptStage.Name(number).removeprefix("INTERRUPT_STAGE_"))


def interrupt_has_one_outcome(facts: Facts) -> Iterator[str]:
    """Say which interrupt went another way, came to nothing, or to two things."""
    stories: dict[str, list[Event]] = defaultdict(list)
    for log in facts.logs.values():
        for event in log:
            if event.HasField("interrupt_changed"):
                stories[event.interrupt_changed.interrupt_id].append(event)
    for interrupt_id, story in sorted(stories.items()):
        if not facts.floors[story[0].session_id]:
            yield from _way(interrupt_id, story)
            yield from _outcome(facts, interrupt_id, story[-1])
    yield from _answers(facts, stories)


def _way(interrupt_id: str, story: list[Event]) -> Iterator[str]:
    stages = [stage(event.interrupt_changed.stage) for event in story]
    if stages[0] not in FIRST_STAGES:
        yield f"{interrupt_id} began as {stages[0]}"
    for before, after in pairwise(stages):
        if after not in STAGES[before] and after is not before:
            yield f"{interrupt_id} went from {before} to {after}"
    if stages.count(InterruptStage.COMPLETED) + stages.count(InterruptStage.NO_OP) > 1:
        yield f"{interrupt_id} has more than one outcome: {', '.join(stages)}"


def _outcome(facts: Facts, interrupt_id: str, last: Event) -> Iterator[str]:
    """The run's end and the interrupt's come together, the interrupt's first."""
    reached = last.interrupt_changed.stage
    if (reached == NO_OP) != (not last.run_id):
        yield f"{interrupt_id} is NO_OP of a run, or something else without one"
    end = facts.terminal_of(last.run_id) if last.run_id else None
    if (end is not None) != (reached == COMPLETED) and reached != NO_OP:
        yield f"{interrupt_id} is {stage(reached)}, and its run has {'' if end else 'not '}ended"


def _answers(facts: Facts, stories: dict[str, list[Event]]) -> Iterator[str]:
    """An answer shows a stage that was reached by then, and a later one no earlier stage. Force is done when it is
    answered.
    """
    seen: dict[str, list[tuple[float, float, run_pb2.InterruptStage.ValueType]]] = defaultdict(list)
    for call in facts.calls("Interrupt", "GetInterrupt"):
        made = call.answer.interrupt
        seen[made.interrupt_id].append((call.called_at, call.ended_at, made.stage))
        before = max(
            (each for _, until, each in seen[made.interrupt_id] if until < call.called_at),
            default=run_pb2.INTERRUPT_STAGE_UNSPECIFIED,
        )
        if made.stage < before:
            yield f"{told(call)}: {made.interrupt_id} went back to {stage(made.stage)} from {stage(before)}"
        force = call.method == "Interrupt" and call.request.mode == run_pb2.INTERRUPT_MODE_FORCE
        if force and made.stage not in {NO_OP, COMPLETED}:
            yield f"{told(call)}: force was answered with {stage(made.stage)}"
        if (
            made.stage == NO_OP
            and call.method == "Interrupt"
            and call.request.run_id
            and stories[made.interrupt_id]
        ):
            noted = stories[made.interrupt_id][0]
            end = facts.terminal_of(call.request.run_id)
            missed = call.request.expected_run_id not in {"", call.request.run_id}
            if (
                not missed
                and (end is None or end.sequence > noted.sequence)
                and not facts.floors[noted.session_id]
            ):
                yield f"{told(call)}: there was nothing to stop, but {call.request.run_id} had not ended"
