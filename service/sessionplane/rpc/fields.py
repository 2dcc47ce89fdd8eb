"""The fields that requests are made of: names, keys, payloads, spans, enums, and what makes a call repeatable.

Raises FieldInvalid, LimitExceeded, KeyInvalid and AgentMismatch: never anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sessionplane.domain import keys
from sessionplane.domain.errors import FieldInvalid, LimitExceeded
from sessionplane.domain.events import EventKind
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.keys import KeySettings, SessionKey
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import RunOutcome, RunPolicy, RunState
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Visibility,
    check_labels,
)
from sessionplane.domain.streams import Presence, Start, Until
from sessionplane.plane.context import Call
from sessionplane.plane.sessions import SessionRef
from sessionplane.v1 import event_pb2, run_pb2, session_pb2, session_service_pb2

NAMESPACE = "default"
"""The one tenant of a server without authentication."""

_RUN_ID = re.compile(r"[A-Za-z0-9._:-]+")

E = TypeVar("E", bound=StrEnum)


class Fields:
    """Reads fields by the bounds and key settings of one server."""

    def __init__(self, limits: Limits, key_settings: KeySettings) -> None:
        self._limits = limits
        self._keys = key_settings
        # The canonical form of each spelling that was good: the same few come again and again.
        self._canonical = lru_cache(limits.key_cache_max)(self._canonical_of)

    def _canonical_of(self, raw: str, agent: str, field: str) -> SessionKey:
        return keys.canonical(raw, settings=self._keys, agent=agent, field=field, limits=self._limits)

    def ref(self, ref: session_pb2.SessionRef, field: str = "session") -> SessionRef:
        """Read a reference that must name a session."""
        kind = ref.WhichOneof("ref")
        if kind == "key":
            return SessionRef(key=self._canonical(ref.key, ref.agent, f"{field}.key"))
        if kind is None or not ref.session_id:
            raise FieldInvalid(field=field, problem="name a session by session_id or by key")
        return SessionRef(session_id=self.name(ref.session_id, f"{field}.session_id"))

    def call(self, rpc: str, request: Message, key: SessionKey | None) -> Call:
        """Say who calls what; the content is hashed only if the call can be repeated by its id."""
        request_id: str = request.request_id  # type: ignore[attr-defined]
        if not request_id:
            return Call(namespace=NAMESPACE, rpc=rpc)
        return Call(
            namespace=NAMESPACE,
            rpc=rpc,
            request_id=self.name(request_id, "request_id"),
            fingerprint=_content(request, key),
        )

    def run_id(self, text: str, field: str) -> str:
        """Read a run id, which must be there."""
        if not _RUN_ID.fullmatch(self.name(text, field)):
            raise FieldInvalid(field=field, problem="use 1 to 128 of A-Z a-z 0-9 . _ : -")
        return text

    def name(self, text: str, field: str) -> str:
        """Read a short text: an id or a name."""
        return within(text, self._limits.id_bytes_max, field)

    def required(self, text: str, field: str) -> str:
        """Read an id that must be there: without this an empty one would be looked for, and not found."""
        if not text:
            raise FieldInvalid(field=field, problem="it is empty; say which one is meant")
        return self.name(text, field)

    def labels(self, labels: Mapping[str, str], field: str) -> Mapping[str, str]:
        """Read labels. NUL is refused: databases end a text there when they look into one, as filters do."""
        if not labels:
            return {}
        if any("\0" in name or "\0" in value for name, value in labels.items()):
            raise FieldInvalid(field=field, problem="a name or a value holds the character NUL; leave it out")
        check_labels(labels, self._limits, field=field)
        return dict(labels)

    def payload(self, payload: run_pb2.Payload, field: str) -> bytes:
        """Read content: encoded as it will be kept, and never looked into."""
        data = payload.SerializeToString(deterministic=True)
        if len(data) > self._limits.payload_bytes_max:
            limit = f"{self._limits.payload_bytes_max} bytes"
            raise LimitExceeded(field=field, actual=f"{len(data)} bytes", limit=limit)
        self.name(payload.content_type, f"{field}.content_type")
        return data

    def span_ms(
        self, request: Message, field: str, *, default: int, least: int, most: int, prefix: str = ""
    ) -> int:
        """Read a span of time in milliseconds, within its bounds; `prefix` is where `request` stands in the whole."""
        if not request.HasField(field):
            return default
        span: Duration = getattr(request, field)
        span_ms = span.seconds * 1000 + span.nanos // 1_000_000
        if not least <= span_ms <= most:
            problem = f"it must be from {least / 1000:.15g} s to {most / 1000:.15g} s"
            raise FieldInvalid(field=f"{prefix}{field}", problem=problem)
        return span_ms


def page_size(asked: int, default: int, most: int) -> int:
    """Read a page size: 0 is the default, what is too large becomes the most (AIP-158)."""
    if asked < 0:
        raise FieldInvalid(field="page_size", problem="it is negative")
    return min(asked or default, most)


def digest(*parts: bytes) -> bytes:
    """Hash parts so that no two lists of parts look the same."""
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def _content(request: Message, key: SessionKey | None) -> bytes:
    """Hash a request without its id, and with its key in canonical form: another spelling is the same request."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    if key is not None:
        copy.session.CopyFrom(session_pb2.SessionRef(key=key.text))  # type: ignore[attr-defined]
    return digest(copy.SerializeToString(deterministic=True))


def within(text: str, bytes_max: int, field: str) -> str:
    if len(text) * 4 > bytes_max and len(text.encode()) > bytes_max:
        raise LimitExceeded(field=field, actual=f"{len(text.encode())} bytes", limit=f"{bytes_max} bytes")
    return text


def _members(kind: type[StrEnum], wire: Any) -> Mapping[int, StrEnum]:
    """Return an enum's members by their number on the wire; an unknown name there fails the import."""
    prefix = wire.Name(0).removesuffix("UNSPECIFIED")
    return {number: kind(name.removeprefix(prefix)) for name, number in wire.items() if number}


_MEMBERS: dict[type[StrEnum], Mapping[int, StrEnum]] = {
    kind: _members(kind, wire)
    for kind, wire in (
        (Interaction, session_pb2.Interaction),
        (Visibility, session_pb2.Visibility),
        (MissingPolicy, session_pb2.MissingPolicy),
        (ConflictPolicy, session_pb2.ConflictPolicy),
        (EndedPolicy, session_pb2.EndedPolicy),
        (RunPolicy, run_pb2.RunPolicy),
        (RunState, run_pb2.RunState),
        (RunOutcome, run_pb2.RunOutcome),
        (InterruptMode, run_pb2.InterruptMode),
        (EventKind, event_pb2.EventKind),
        (Start, session_service_pb2.StreamStart),
        (Until, session_service_pb2.StreamUntil),
        (Presence, session_pb2.Presence),
    )
}


def enum(kind: type[E], number: int, field: str) -> E | None:
    """Read an enum value; None for 0, the documented default. A number that is none of its values is refused."""
    if number == 0:
        return None
    member = _MEMBERS[kind].get(number)
    if member is None:
        raise FieldInvalid(field=field, problem=f"{number} is not one of its values")
    return kind(member)
