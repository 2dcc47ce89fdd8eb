"""From the wire: sessions of another system. One that cannot be read is refused by itself; the others are read.

Raises LimitExceeded for too many entries: never anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

from sessionplane.domain import keys
from sessionplane.domain.errors import FieldInvalid, LimitExceeded, SessionPlaneError
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.legacy_keys import modern
from sessionplane.plane.importing import ImportEntry
from sessionplane.rpc.fields import Fields
from sessionplane.v1 import admin_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    """An entry that cannot be imported, and why. The canonical key is "" if it is the key that cannot be used."""

    raw_key: str
    canonical_key: str
    reason: str
    problem: str


class ImportRequests(Fields):
    """Reads what an import brings."""

    def imported(self, request: admin_service_pb2.ImportSessionsRequest) -> list[ImportEntry | RefusedEntry]:
        """Read an ImportSessions."""
        if len(request.entries) > self._limits.import_entries_max:
            limit = self._limits.import_entries_max
            raise LimitExceeded(field="entries", actual=len(request.entries), limit=limit)
        return [self._entry(entry) for entry in request.entries]

    def _entry(self, entry: admin_service_pb2.ImportEntry) -> ImportEntry | RefusedEntry:
        key = None
        try:
            key = self._imported_key(entry)
            return self._usable(entry, key)
        except SessionPlaneError as refused:
            return RefusedEntry(
                raw_key=entry.raw_key,
                canonical_key=key.text if key is not None else "",
                reason=refused.reason,
                problem=str(refused),
            )

    def _imported_key(self, entry: admin_service_pb2.ImportEntry) -> SessionKey:
        """Read a key as another system spells it. The agent is for bare keys: a full one names its own."""
        raw = entry.raw_key
        within = len(raw) <= self._limits.raw_key_bytes_max
        spelling = modern(raw, field="raw_key") if within else raw
        return keys.canonical(
            spelling,
            settings=self._keys,
            agent="" if keys.is_full(spelling) else entry.agent,
            field="raw_key",
            limits=self._limits,
        )

    def _usable(self, entry: admin_service_pb2.ImportEntry, key: SessionKey) -> ImportEntry:
        if not entry.source_id:
            raise FieldInvalid(
                field="source_id", problem="it is empty; without it nobody knows a repeated import"
            )
        return ImportEntry(
            raw_key=entry.raw_key,
            key=key,
            source_id=self.name(entry.source_id, "source_id"),
            updated_at_ms=_moment_ms(entry, "update_time") or 0,
            started_at_ms=_moment_ms(entry, "start_time"),
            last_interaction_at_ms=_moment_ms(entry, "last_interaction_time"),
            display_name=self.name(entry.display_name, "display_name"),
            labels=self.labels(entry.labels, "labels"),
        )


def _moment_ms(
    entry: admin_service_pb2.ImportEntry, field: Literal["update_time", "start_time", "last_interaction_time"]
) -> int | None:
    if not entry.HasField(field):
        return None
    moment: Timestamp = getattr(entry, field)
    return moment.seconds * 1000 + moment.nanos // 1_000_000
