"""Domain event bodies to the bytes of the wire, and back.

Owns the encoded form: what is written here is what the log keeps and what every subscriber gets, live or
later. It is the only module below the edge that imports generated code. It must never decide anything: not
whether an event may happen, not what a payload means.

An entry is an encoded `EventBatch` of one event. A repeated field is a row of records, so the concatenation
of entries is again a batch, and a frame is built without encoding anything twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar, cast

from google.protobuf.message import DecodeError

from sessionplane.domain import events, inputs, interrupts, runs, sessions
from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1.session_service_pb2 import EventBatch

E = TypeVar("E", bound=StrEnum)
N = TypeVar("N", bound=int)


def _numbers(names: type[E], value: Callable[[str], N], prefix: str) -> Mapping[E, N]:
    """Pair each name of the domain with its number on the wire; a name without one fails the import."""
    return {name: value(f"{prefix}_{name.value}") for name in names}


_SESSION_STATE = _numbers(sessions.SessionState, session_pb2.SessionState.Value, "SESSION_STATE")
_SESSION_STATE_NAME = {number: name.value for name, number in _SESSION_STATE.items()}
_SESSION_CAUSE = _numbers(sessions.SessionCause, session_pb2.SessionCause.Value, "SESSION_CAUSE")
_MOVE_REASON = _numbers(sessions.MoveReason, event_pb2.MoveReason.Value, "MOVE_REASON")
_RUN_STATE = _numbers(runs.RunState, run_pb2.RunState.Value, "RUN_STATE")
_RUN_OUTCOME = _numbers(runs.RunOutcome, run_pb2.RunOutcome.Value, "RUN_OUTCOME")
_RUN_CAUSE = _numbers(runs.RunCause, run_pb2.RunCause.Value, "RUN_CAUSE")
_INPUT_STAGE = _numbers(inputs.InputStage, event_pb2.InputStage.Value, "INPUT_STAGE")
_INTERRUPT_STAGE = _numbers(interrupts.InterruptStage, run_pb2.InterruptStage.Value, "INTERRUPT_STAGE")
_INTERRUPT_MODE = _numbers(interrupts.InterruptMode, run_pb2.InterruptMode.Value, "INTERRUPT_MODE")
_EVENT_KIND = _numbers(events.EventKind, event_pb2.EventKind.Value, "EVENT_KIND")


def encode(
    session_id: str, sequence: int, run_id: str, run_sequence: int, at_ms: int, body: events.Body
) -> bytes:
    """Return the entry of one event.

    Positional, since it runs once for every token that a model writes.
    """
    kind, fill = _BODIES[type(body)]
    batch = EventBatch()
    event = batch.events.add(
        session_id=session_id, sequence=sequence, run_id=run_id, run_sequence=run_sequence, kind=kind
    )
    # Filled in place: a message that is handed to a constructor is copied, which doubles the cost.
    time = event.time
    time.seconds = at_ms // 1000
    time.nanos = at_ms % 1000 * 1_000_000
    fill(event, body)
    return batch.SerializeToString()


def encode_ended(session_id: str, sequence: int, run_id: str, at_ms: int, terminal: bytes) -> bytes:
    """Return the entry of a terminal that is encoded already: the same bytes whenever it is asked for.

    It is put together by hand, since encoding a message again may order its maps otherwise; `run_terminal` is the
    last field of an event, so it comes last.
    """
    event = event_pb2.Event(
        session_id=session_id,
        sequence=sequence,
        run_id=run_id,
        kind=_EVENT_KIND[events.EventKind.RUN_TERMINAL],
    )
    event.time.FromMilliseconds(at_ms)
    return _field(_EVENTS_TAG, event.SerializeToString() + _field(_TERMINAL_TAG, terminal))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Encode a length as protobuf does: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number >= 1 << 7:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_DELIMITED = 2
_EVENTS_TAG = varint(EventBatch.EVENTS_FIELD_NUMBER << 3 | _DELIMITED)
_TERMINAL_TAG = varint(event_pb2.Event.RUN_TERMINAL_FIELD_NUMBER << 3 | _DELIMITED)


Unreadable = DecodeError
"""What is raised for bytes that are no message."""


def decode(data: bytes) -> event_pb2.Event:
    """Return the event of an entry."""
    return EventBatch.FromString(data).events[0]


def fold(before: events.Fold, entry: events.Entry) -> events.Fold:
    """Return what a log adds up to behind one more entry."""
    if entry.kind is events.EventKind.SESSION_CHANGED:
        changed = decode(entry.data).session_changed
        return before._replace(state=_SESSION_STATE_NAME[changed.to_state], generation=changed.generation)
    if entry.kind is events.EventKind.SESSION_MOVED:
        moved = decode(entry.data).session_moved
        return before._replace(key=moved.key if moved.holds else "")
    return before


def is_entry(entry: events.Entry, session_id: str) -> bool:
    """Say whether what stands beside an entry's bytes is what they say."""
    event = decode(entry.data)
    said = (event.session_id, event.sequence, event.run_id, (event.WhichOneof("body") or "").upper())
    return said == (session_id, entry.sequence, entry.run_id, entry.kind.value)


def recorded_input(entry: events.Entry) -> tuple[str, run_pb2.Payload]:
    """Return the id of the input that an entry records, and the input."""
    recorded = decode(entry.data).input_recorded
    return recorded.input_id, recorded.input


def is_payload(data: bytes, payload: run_pb2.Payload) -> bool:
    """Say whether a row keeps this payload."""
    return run_pb2.Payload.FromString(data) == payload


def delta_text(data: bytes) -> str:
    """Return the text of an output_delta's entry."""
    return decode(data).output_delta.text


def custom_type(entry: events.Entry) -> str:
    """Return the type of a custom event's entry."""
    return decode(entry.data).custom.type


def encode_terminal(terminal: runs.RunTerminal) -> bytes:
    """Return a terminal as the run's row keeps it: an encoded `RunTerminal`."""
    message = run_pb2.RunTerminal()
    _fill_terminal(message, terminal)
    return message.SerializeToString()


def decode_terminal(data: bytes) -> run_pb2.RunTerminal:
    """Return the terminal that a run's row keeps."""
    return run_pb2.RunTerminal.FromString(data)


def is_terminal(data: bytes, terminal: bytes) -> bool:
    """Say whether an entry is the terminal that a run's row keeps."""
    return decode(data).run_terminal == decode_terminal(terminal)


def brief_terminal(data: bytes) -> bytes:
    """Return an encoded terminal without its text and result; none stays none."""
    if not data:
        return data
    terminal = decode_terminal(data)
    terminal.ClearField("output_text")
    terminal.ClearField("result")
    return terminal.SerializeToString()


def _session_changed(event: event_pb2.Event, body: events.SessionChanged) -> None:
    message = event.session_changed
    if body.from_state is not None:
        message.from_state = _SESSION_STATE[body.from_state]
    message.to_state = _SESSION_STATE[body.to_state]
    message.cause = _SESSION_CAUSE[body.cause]
    message.generation = body.generation


def _session_moved(event: event_pb2.Event, body: events.SessionMoved) -> None:
    message = event.session_moved
    message.key = body.key.text if body.key is not None else ""
    message.reason = _MOVE_REASON[body.reason]
    message.other_session_id = body.other_session_id
    message.holds = body.holds
    message.previous_key = body.previous_key.text if body.previous_key is not None else ""


def _run_changed(event: event_pb2.Event, body: events.RunChanged) -> None:
    message = event.run_changed
    if body.from_state is not None:
        message.from_state = _RUN_STATE[body.from_state]
    message.to_state = _RUN_STATE[body.to_state]
    message.lease_epoch = body.lease_epoch
    message.runner_id = body.runner_id


def _input_recorded(event: event_pb2.Event, body: events.InputRecorded) -> None:
    message = event.input_recorded
    message.input_id = body.input_id
    message.stage = _INPUT_STAGE[body.stage]
    if body.input:
        message.input.ParseFromString(body.input)


def _output_delta(event: event_pb2.Event, body: events.OutputDelta) -> None:
    message = event.output_delta
    message.text = body.text
    message.offset = body.offset


def _interrupt_changed(event: event_pb2.Event, body: events.InterruptChanged) -> None:
    message = event.interrupt_changed
    message.interrupt_id = body.interrupt_id
    message.stage = _INTERRUPT_STAGE[body.stage]
    message.mode = _INTERRUPT_MODE[body.mode]
    message.reason = body.reason


def _custom(event: event_pb2.Event, body: events.Custom) -> None:
    message = event.custom
    message.type = body.type
    if body.data:
        message.data.ParseFromString(body.data)


def _late_result(event: event_pb2.Event, body: events.LateResult) -> None:
    message, report = event.late_result, body.report
    message.run_id = body.run_id
    message.outcome = _RUN_OUTCOME[report.outcome]
    message.output_text = report.output_text or ""
    if report.result:
        message.result.ParseFromString(report.result)
    if report.failure is not None:
        _fill_failure(message.failure, report.failure)


def _run_terminal(event: event_pb2.Event, body: events.RunTerminal) -> None:
    _fill_terminal(event.run_terminal, body.terminal)


def _fill_terminal(message: run_pb2.RunTerminal, terminal: runs.RunTerminal) -> None:
    message.outcome = _RUN_OUTCOME[terminal.outcome]
    message.cause = _RUN_CAUSE[terminal.cause]
    message.output_text = terminal.output_text
    message.output_complete = terminal.output_complete
    message.interrupt_id = terminal.interrupt_id
    message.finish_time.FromMilliseconds(terminal.finished_at_ms)
    if terminal.result:
        message.result.ParseFromString(terminal.result)
    if terminal.failure is not None:
        _fill_failure(message.failure, terminal.failure)


def _fill_failure(message: run_pb2.RunFailure, failure: runs.RunFailure) -> None:
    message.reason = failure.reason
    message.message = failure.message
    message.retryable = failure.retryable


_Fill = Callable[[event_pb2.Event, events.Body], None]

_BODIES: Mapping[type[events.Body], tuple[event_pb2.EventKind.ValueType, _Fill]] = {
    body: (_EVENT_KIND[body.kind], cast("_Fill", fill))
    for body, fill in (
        (events.SessionChanged, _session_changed),
        (events.SessionMoved, _session_moved),
        (events.RunChanged, _run_changed),
        (events.InputRecorded, _input_recorded),
        (events.OutputDelta, _output_delta),
        (events.InterruptChanged, _interrupt_changed),
        (events.Custom, _custom),
        (events.LateResult, _late_result),
        (events.RunTerminal, _run_terminal),
    )
}
"""body -> its kind on the wire, and what fills it in."""
