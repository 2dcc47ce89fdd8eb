"""Messages as text: a line for people, a JSON object for programs.

What others wrote (text, reasons, names) is shown quoted, with everything that is not printable escaped: it
must never reach a terminal as a command.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import click
from google.protobuf.json_format import MessageToDict

from sessionplane.v1 import event_pb2, run_pb2, session_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_TEXT_MAX = 200  # characters of somebody's text in one line
_ID_MAX = 16  # longer ids are shown by their end, which is the part that differs


class _Enum(Protocol):
    def Name(self, number: Any) -> str: ...  # noqa: N802


def word(enum: _Enum, value: int) -> str:
    """An enum value without its prefix: RUN_STATE_PENDING is PENDING; unspecified is a dash."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Name(value).removeprefix(prefix) if value else "-"


def quoted(text: str) -> str:
    """Text of others, on one line, harmless, and not too long."""
    shown = json.dumps(text[:_TEXT_MAX], ensure_ascii=False)
    harmless = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)
    return harmless + (" ..." if len(text) > _TEXT_MAX else "")


def as_json(message: Message) -> str:
    """One line of JSON with the names of the protos."""
    fields = MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def clock(time: Timestamp) -> str:
    """The time here, with its date unless that is today's; empty if there is none."""
    if not time.seconds:
        return ""
    here = time.ToDatetime(UTC).astimezone()
    is_today = here.date() == datetime.now().astimezone().date()
    return f"{here:%H:%M:%S}" if is_today else f"{here:%Y-%m-%d %H:%M:%S}"


def short(some_id: str) -> str:
    """An id for a table, where its beginning says nothing."""
    return some_id if len(some_id) <= _ID_MAX else f"..{some_id[-8:]}"


def facts(**values: object) -> None:
    """Prints names and values, one a line; what is empty is left out."""
    for name, value in values.items():
        if value not in ("", None):
            click.echo(f"{name.replace('_', ' '):<12} {value}")


def session(shown: session_pb2.Session, **more: object) -> None:
    """Prints what a session is, and what more there is to say of it."""
    hidden = shown.visibility == session_pb2.VISIBILITY_INTERNAL
    facts(
        key=shown.key,
        session=shown.session_id,
        name=quoted(shown.display_name) if shown.display_name else "",
        visibility="INTERNAL" if hidden else "",
        state=f"{word(session_pb2.SessionState, shown.state)}, generation {shown.generation}",
        **more,
    )


def payload(content: run_pb2.Payload) -> str:
    """What a payload holds, shortly."""
    match content.WhichOneof("content"):
        case "text":
            return quoted(content.text)
        case "structured":
            return quoted(as_json(content.structured))
        case "data":
            return f"{len(content.data)} bytes {quoted(content.content_type) if content.content_type else ''}".strip()
    return "nothing"


def terminal(end: run_pb2.RunTerminal) -> str:
    """How a run ended."""
    parts = [f"{word(run_pb2.RunOutcome, end.outcome)} by {word(run_pb2.RunCause, end.cause)}"]
    if end.HasField("failure"):
        parts.append(f"{quoted(end.failure.reason)} {quoted(end.failure.message)}")
    if end.output_text:
        parts.append(f"{quoted(end.output_text)}{'' if end.output_complete else ' (not all of it)'}")
    if end.HasField("result"):
        parts.append(f"result {payload(end.result)}")
    return "  ".join(parts)


def event(entry: event_pb2.Event) -> str:
    """One line for one event: time, sequence, run, what it is and what it says."""
    body = entry.WhichOneof("body") or "unknown"
    name, show = _BODIES.get(body, (body, lambda _: ""))
    text = show(getattr(entry, body)) if entry.WhichOneof("body") else ""
    return f"{clock(entry.time):8} {entry.sequence:>6}  {short(entry.run_id):<16}  {name:<9} {text}".rstrip()


def _change(states: _Enum, before: int, after: int) -> str:
    return f"{word(states, before)} -> {word(states, after)}" if before else word(states, after)


def _session_changed(body: event_pb2.SessionChanged) -> str:
    change = _change(session_pb2.SessionState, body.from_state, body.to_state)
    return f"{change} ({word(session_pb2.SessionCause, body.cause)})"


def _session_moved(body: event_pb2.SessionMoved) -> str:
    other = f", {'before' if body.holds else 'now'} {body.other_session_id}" if body.other_session_id else ""
    verb = "holds" if body.holds else "lost"
    return f"{verb} {quoted(body.key)} ({word(event_pb2.MoveReason, body.reason)}){other}"


def _input_recorded(body: event_pb2.InputRecorded) -> str:
    taken = body.stage == event_pb2.INPUT_STAGE_TAKEN  # it was shown as it was recorded, under this id
    what = short(body.input_id) if taken else payload(body.input)
    return f"{word(event_pb2.InputStage, body.stage)} {what}"


def _run_changed(body: event_pb2.RunChanged) -> str:
    change = _change(run_pb2.RunState, body.from_state, body.to_state)
    return f"{change}{f' by {quoted(body.runner_id)}' if body.runner_id else ''}"


def _interrupt_changed(body: event_pb2.InterruptChanged) -> str:
    stage, mode = word(run_pb2.InterruptStage, body.stage), word(run_pb2.InterruptMode, body.mode)
    return f"{stage} {mode} {quoted(body.reason) if body.reason else ''}".rstrip()


_BODIES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "session_changed": ("session", _session_changed),
    "session_moved": ("key", _session_moved),
    "run_changed": ("run", _run_changed),
    "input_recorded": ("input", _input_recorded),
    "output_delta": ("text", lambda body: quoted(body.text)),
    "interrupt_changed": ("interrupt", _interrupt_changed),
    "custom": ("custom", lambda body: f"{quoted(body.type)} {payload(body.data)}"),
    "late_result": (
        "late",
        lambda body: f"run {body.run_id} reported {word(run_pb2.RunOutcome, body.outcome)} after its end",
    ),
    "run_terminal": ("end", terminal),
}
