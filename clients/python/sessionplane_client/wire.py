"""Small builders of messages, so that callers write Python values. Knows the wire and nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from google.protobuf.duration_pb2 import Duration

from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef

# What is accepted wherever the wire has a Payload.
Content: TypeAlias = str | bytes | Mapping[str, Any] | Payload

# A piece of text goes out in one event only up to this size; the server takes 256 KiB, this leaves room.
TEXT_BYTES_MAX = 128 * 1024

_CONTINUES = (0x80, 0xBF)  # UTF-8: a byte that does not begin a character


def session_ref(*, key: str | None = None, session_id: str | None = None, agent: str = "") -> SessionRef:
    """Names one session. Raises TypeError unless exactly one of `key` and `session_id` is given."""
    if (key is None) == (session_id is None):
        raise TypeError("name the session by exactly one of key= and session_id=")
    if key is not None:
        return SessionRef(key=key, agent=agent)
    return SessionRef(session_id=session_id or "", agent=agent)


def run_spec(run: Content | RunSpec | None) -> RunSpec | None:
    """Makes an input a run of it; a RunSpec stays as it is, None stays None."""
    if run is None or isinstance(run, RunSpec):
        return run
    return RunSpec(input=payload(run))


def payload(content: Content | None) -> Payload | None:
    """Wraps text, bytes or a JSON-like mapping; a Payload stays as it is, None stays None."""
    match content:
        case None | Payload():
            return content
        case str():
            return Payload(text=content)
        case bytes():
            return Payload(data=content)
    wrapped = Payload()
    wrapped.structured.update(content)
    return wrapped


def duration(seconds: float | None) -> Duration | None:
    """A span in seconds as the wire has it; None stays None, which asks for the server's default."""
    if seconds is None:
        return None
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span


def new_request_id() -> str:
    """A fresh id that makes one call safe to repeat. It names the call, never a session."""
    return str(uuid.uuid4())


def pieces(text: str, bytes_max: int = TEXT_BYTES_MAX) -> Iterator[str]:
    """Cuts text into pieces that each fit into one event, between two characters. Empty text has none."""
    if len(text) * 4 <= bytes_max:
        yield from (text,) if text else ()
        return
    data = text.encode()
    start = 0
    while start < len(data):
        stop = min(start + bytes_max, len(data))
        while stop < len(data) and _CONTINUES[0] <= data[stop] <= _CONTINUES[1]:
            stop -= 1
        yield data[start:stop].decode()
        start = stop
