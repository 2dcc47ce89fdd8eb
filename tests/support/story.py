"""A log in words, so that a claim about it reads like one: `["run none>PENDING", "text hello", ...]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event


def story(events: Iterable[Event], *, run_id: str = "") -> list[str]:
    """Tell events, those of one run if it is named."""
    return [tell(event) for event in events if run_id in {"", event.run_id}]


def tell(event: Event) -> str:
    """Tell one event in a few words."""
    body = event.WhichOneof("body")
    assert body is not None, f"an event without a body: {event}"
    return _WORDS[body](event)


def ending(terminal: run_pb2.RunTerminal) -> str:
    """Tell how a run ended: `SUCCEEDED/RUNNER`."""
    return f"{_outcome(terminal.outcome)}/{run_pb2.RunCause.Name(terminal.cause).removeprefix('RUN_CAUSE_')}"


def terminals(events: Iterable[Event]) -> list[str]:
    """The endings among the events, in order."""
    return [ending(event.run_terminal) for event in events if event.HasField("run_terminal")]


def sequences(events: Iterable[Event]) -> list[int]:
    """The numbers of the events."""
    return [event.sequence for event in events]


def check_log(events: Sequence[Event], *, floor: int = 0) -> None:
    """Assert what holds for every whole log: no gap, one terminal for a run, and nothing of the run behind it."""
    assert sequences(events) == list(range(floor + 1, floor + len(events) + 1))
    ended: set[str] = set()
    for event in events:
        assert event.run_id not in ended, f"something follows the terminal of its run: {event}"
        if event.HasField("run_terminal"):
            ended.add(event.run_id)


def _session(state: session_pb2.SessionState.ValueType) -> str:
    return session_pb2.SessionState.Name(state).removeprefix("SESSION_STATE_") if state else "none"


def _run(state: run_pb2.RunState.ValueType) -> str:
    return run_pb2.RunState.Name(state).removeprefix("RUN_STATE_") if state else "none"


def _outcome(outcome: run_pb2.RunOutcome.ValueType) -> str:
    return run_pb2.RunOutcome.Name(outcome).removeprefix("RUN_OUTCOME_")


def _key(reason: event_pb2.MoveReason.ValueType) -> str:
    return event_pb2.MoveReason.Name(reason).removeprefix("MOVE_REASON_")


def _stage(stage: run_pb2.InterruptStage.ValueType) -> str:
    return run_pb2.InterruptStage.Name(stage).removeprefix("INTERRUPT_STAGE_")


def _input(run_id: str, recorded: event_pb2.InputRecorded) -> str:
    """Tell what became of an input: what a run starts with, or one that is injected into another, by its id."""
    if recorded.stage == event_pb2.INPUT_STAGE_QUEUED:
        return f"returned {recorded.input.text}"
    if recorded.stage == event_pb2.INPUT_STAGE_TAKEN:
        return f"taken {recorded.input_id}"
    return f"{'input' if recorded.input_id == run_id else 'injected'} {recorded.input.text}"


def _move(state: Callable[[Any], str], changed: Any) -> str:
    return f"{state(changed.from_state)}>{state(changed.to_state)}"


_WORDS: dict[str, Callable[[Event], str]] = {
    "session_changed": lambda event: f"session {_move(_session, event.session_changed)}",
    "session_moved": lambda event: f"key {_key(event.session_moved.reason)}",
    "run_changed": lambda event: f"run {_move(_run, event.run_changed)}",
    "input_recorded": lambda event: _input(event.run_id, event.input_recorded),
    "output_delta": lambda event: f"text {event.output_delta.text}",
    "interrupt_changed": lambda event: f"interrupt {_stage(event.interrupt_changed.stage)}",
    "custom": lambda event: f"custom {event.custom.type}",
    "late_result": lambda event: f"late {_outcome(event.late_result.outcome)}",
    "run_terminal": lambda event: f"terminal {ending(event.run_terminal)}",
}
