"""Event bodies to bytes: every body, every name, and what joined entries are."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain import events, interrupts, runs, sessions
from sessionplane.store import codec
from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1.session_service_pb2 import EventBatch
from tests.support.values import NOW_MS, created, delta, key, session_id, terminal

PAYLOAD = run_pb2.Payload(text="größe", content_type="text/plain")
REPORT = runs.RunReport(
    outcome=runs.RunOutcome.FAILED,
    output_text="text",
    result=PAYLOAD.SerializeToString(),
    failure=runs.RunFailure(reason="OOM", message="out of memory", retryable=True),
)
FAILURE = run_pb2.RunFailure(reason="OOM", message="out of memory", retryable=True)

BODIES: list[tuple[events.Body, event_pb2.Event]] = [
    (
        created(),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_SESSION_CHANGED,
            session_changed=event_pb2.SessionChanged(
                to_state=session_pb2.SESSION_STATE_CREATED,
                cause=session_pb2.SESSION_CAUSE_CREATED,
                generation=1,
            ),
        ),
    ),
    (
        events.SessionMoved(
            key=key("x"), reason=sessions.MoveReason.RESET, other_session_id="ses_2", holds=True
        ),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_SESSION_MOVED,
            session_moved=event_pb2.SessionMoved(
                key="agent:main:x",
                reason=event_pb2.MOVE_REASON_RESET,
                other_session_id="ses_2",
                holds=True,
            ),
        ),
    ),
    (
        events.RunChanged(
            from_state=runs.RunState.PENDING, to_state=runs.RunState.RUNNING, lease_epoch=2, runner_id="r"
        ),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_RUN_CHANGED,
            run_changed=event_pb2.RunChanged(
                from_state=run_pb2.RUN_STATE_PENDING,
                to_state=run_pb2.RUN_STATE_RUNNING,
                lease_epoch=2,
                runner_id="r",
            ),
        ),
    ),
    (
        events.InputRecorded(
            input_id="run_1", stage=events.InputStage.RECORDED, input=PAYLOAD.SerializeToString()
        ),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_INPUT_RECORDED,
            input_recorded=event_pb2.InputRecorded(
                input_id="run_1", stage=event_pb2.INPUT_STAGE_RECORDED, input=PAYLOAD
            ),
        ),
    ),
    (
        delta("größe", offset=7),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_OUTPUT_DELTA,
            output_delta=event_pb2.OutputDelta(text="größe", offset=7),
        ),
    ),
    (
        events.InterruptChanged(
            interrupt_id="int_1",
            stage=interrupts.InterruptStage.ACCEPTED,
            mode=interrupts.InterruptMode.FORCE,
            reason="stop",
        ),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_INTERRUPT_CHANGED,
            interrupt_changed=event_pb2.InterruptChanged(
                interrupt_id="int_1",
                stage=run_pb2.INTERRUPT_STAGE_ACCEPTED,
                mode=run_pb2.INTERRUPT_MODE_FORCE,
                reason="stop",
            ),
        ),
    ),
    (
        events.Custom(type="tool.call", data=PAYLOAD.SerializeToString()),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_CUSTOM,
            custom=event_pb2.CustomEvent(type="tool.call", data=PAYLOAD),
        ),
    ),
    (
        events.LateResult(run_id="run_1", report=REPORT),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_LATE_RESULT,
            late_result=event_pb2.LateResult(
                run_id="run_1",
                outcome=run_pb2.RUN_OUTCOME_FAILED,
                output_text="text",
                result=PAYLOAD,
                failure=FAILURE,
            ),
        ),
    ),
    (
        events.RunTerminal(terminal=terminal()),
        event_pb2.Event(
            kind=event_pb2.EVENT_KIND_RUN_TERMINAL,
            run_terminal=codec.decode_terminal(codec.encode_terminal(terminal())),
        ),
    ),
]

ENUMS: list[tuple[type[StrEnum], Any, str]] = [
    (sessions.SessionState, session_pb2.SessionState, "SESSION_STATE"),
    (sessions.SessionCause, session_pb2.SessionCause, "SESSION_CAUSE"),
    (sessions.MoveReason, event_pb2.MoveReason, "MOVE_REASON"),
    (runs.RunState, run_pb2.RunState, "RUN_STATE"),
    (runs.RunOutcome, run_pb2.RunOutcome, "RUN_OUTCOME"),
    (runs.RunCause, run_pb2.RunCause, "RUN_CAUSE"),
    (events.InputStage, event_pb2.InputStage, "INPUT_STAGE"),
    (events.EventKind, event_pb2.EventKind, "EVENT_KIND"),
    (interrupts.InterruptStage, run_pb2.InterruptStage, "INTERRUPT_STAGE"),
    (interrupts.InterruptMode, run_pb2.InterruptMode, "INTERRUPT_MODE"),
]


@pytest.mark.parametrize(("body", "expected"), BODIES, ids=[type(body).__name__ for body, _ in BODIES])
def test_every_body_becomes_its_message(body: events.Body, expected: event_pb2.Event) -> None:
    """With what the log adds: session, sequence, run and time."""
    data = codec.encode(session_id(1), 3, "run_1", 4, NOW_MS + 5, body)
    expected.session_id, expected.sequence = session_id(1), 3
    expected.run_id, expected.run_sequence = "run_1", 4
    expected.time.FromMilliseconds(NOW_MS + 5)
    assert codec.decode(data) == expected


def test_the_bodies_above_are_all_there_are() -> None:
    """A new kind needs its encoding, and its case here."""
    assert {body.kind for body, _ in BODIES} == set(events.EventKind)
    assert set(codec._BODIES) == {type(body) for body, _ in BODIES}


@pytest.mark.parametrize(("names", "wire", "prefix"), ENUMS, ids=[prefix for *_, prefix in ENUMS])
def test_every_name_of_the_domain_is_on_the_wire(names: type[StrEnum], wire: Any, prefix: str) -> None:
    """And the wire knows no other, but UNSPECIFIED."""
    assert {f"{prefix}_{name}" for name in names} == set(wire.keys()) - {f"{prefix}_UNSPECIFIED"}


def test_an_empty_body_is_still_a_body() -> None:
    """A delta without text has its kind and its place in the oneof."""
    event = codec.decode(codec.encode(session_id(1), 1, "", 0, NOW_MS, delta("")))
    assert event.WhichOneof("body") == "output_delta"


def test_what_was_not_given_is_absent() -> None:
    """No payload is not an empty payload."""
    report = runs.RunReport(outcome=runs.RunOutcome.SUCCEEDED)
    late = codec.decode(
        codec.encode(session_id(1), 1, "", 0, NOW_MS, events.LateResult(run_id="r", report=report))
    )
    assert not late.late_result.HasField("result")
    assert not late.late_result.HasField("failure")
    custom = codec.decode(codec.encode(session_id(1), 1, "", 0, NOW_MS, events.Custom(type="t")))
    assert not custom.custom.HasField("data")


def test_a_terminal_in_a_row_is_the_one_in_the_log() -> None:
    """Both say the same, with everything that a terminal can have."""
    full = terminal(
        outcome=runs.RunOutcome.INTERRUPTED,
        cause=runs.RunCause.FORCED,
        result=PAYLOAD.SerializeToString(),
        failure=REPORT.failure,
        interrupt_id="int_1",
    )
    logged = codec.decode(
        codec.encode(session_id(1), 1, "run_1", 0, NOW_MS, events.RunTerminal(terminal=full))
    )
    assert codec.decode_terminal(codec.encode_terminal(full)) == logged.run_terminal
    assert logged.run_terminal.failure == FAILURE


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), max_size=8))
def test_joined_entries_are_a_batch(texts: list[str]) -> None:
    """Whatever their length: a frame is built by concatenation."""
    entries = [
        codec.encode(session_id(1), sequence, "run_1", sequence, NOW_MS, delta(text))
        for sequence, text in enumerate(texts, start=1)
    ]
    batch = EventBatch.FromString(b"".join(entries))
    assert [event.output_delta.text for event in batch.events] == texts
    assert [event.sequence for event in batch.events] == list(range(1, len(texts) + 1))
    assert [codec.delta_text(entry) for entry in entries] == texts


@given(at_ms=st.integers(0, 2**42), sequence=st.integers(1, 2**40))
def test_a_terminal_is_put_together_around_its_own_bytes(at_ms: int, sequence: int) -> None:
    """The event reads as any other does, and what the row keeps stands in it as it is, however it is ordered."""
    encoded = codec.encode_terminal(terminal(finished_at_ms=at_ms))
    data = codec.encode_ended(session_id(1), sequence, "run_1", at_ms, encoded)
    body = events.RunTerminal(terminal=terminal(finished_at_ms=at_ms))
    assert data == codec.encode(session_id(1), sequence, "run_1", 0, at_ms, body)
    parts = [run_pb2.RunTerminal(cause=1), run_pb2.RunTerminal(outcome=1)]
    odd = b"".join(part.SerializeToString() for part in parts)
    data = codec.encode_ended(session_id(1), sequence, "run_1", at_ms, odd)
    assert data.endswith(odd)
    assert codec.decode(data).run_terminal == run_pb2.RunTerminal(outcome=1, cause=1)
