"""OpenClaw's sessions.json, read as entries of an import.

The file is one JSON object: raw key -> what is known of its session. It is judged entry by entry: what one of them
lacks or has wrong never stops the others, and what cannot be sent at all is told. Of an entry only the few fields are
kept that a session here has; the rest may be long and is dropped while the file is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sessionplane.v1.admin_service_pb2 import ImportEntry

FILE_BYTES_MAX: Final = 256 * 1024 * 1024
_ID_BYTES_MAX: Final = 128  # of a source id and of a display name, as the server has it
_LABEL_BYTES_MAX: Final = 1_024
_KEY_MAX: Final = (
    10_000  # characters, far above what a server takes: it is the one to say how long a key may be
)
_LABEL: Final = "imported.session_id"
_LATEST_MS: Final = 253_402_300_799_999  # the last moment that a Timestamp can say, in the year 9999
_NAMES: Final = ("label", "displayName")
_KEPT: Final = frozenset({"sessionId", "updatedAt", "sessionStartedAt", "lastInteractionAt", *_NAMES})


class BadFile(Exception):
    """The file is no such store; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of the file; without `entry` it cannot be sent, and `problem` says why."""

    raw_key: str
    entry: ImportEntry | None
    problem: str = ""


class _Fields(dict[str, Any]):
    """What is kept of an object inside the outermost one."""


class _Object(list[tuple[str, Any]]):
    """The names and values of an object, as they stand there: a name that comes twice is two entries."""


def read_store(file: Path, *, agent: str = "", bytes_max: int = FILE_BYTES_MAX) -> list[Found]:
    """Read a file. `agent` owns the keys that name none. Raises BadFile."""
    try:
        size = file.stat().st_size
        if size > bytes_max:
            raise BadFile(f"{file} has {size:,} bytes; at most {bytes_max:,} can be read. Split the object.")
        text = file.read_bytes().decode("utf-8-sig")
        store = json.loads(text, object_pairs_hook=_object)
    except OSError as error:
        raise BadFile(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{file} is not UTF-8 text (byte {error.start:,}).") from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{file} is not JSON: {error}.") from error
    if not isinstance(store, _Object):
        raise BadFile(f"{file} holds no JSON object. A sessions.json is one: raw key -> entry.")
    return [_found(raw_key, value, agent) for raw_key, value in store]


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    return _Object((name, _fields(value) if isinstance(value, _Object) else value) for name, value in pairs)


def _fields(value: _Object) -> _Fields:
    return _Fields((name, each) for name, each in value if name in _KEPT)


def _found(raw_key: str, value: object, agent: str) -> Found:
    if not isinstance(value, _Fields):
        return Found(raw_key, None, "the value of this key is not an object")
    if not _is_text(raw_key):
        return Found(raw_key, None, "the key holds half of a surrogate pair, which is no text")
    if len(raw_key) > _KEY_MAX:
        return Found(raw_key, None, f"the key has {len(raw_key):,} characters; no key is that long")
    entry = ImportEntry(raw_key=raw_key, agent=agent, display_name=_name(value))
    source_id = value.get("sessionId")
    if isinstance(source_id, str) and source_id and _is_text(source_id):
        entry.source_id = _short_id(source_id)
        entry.labels[_LABEL] = _cut(source_id, _LABEL_BYTES_MAX)
    else:
        entry.source_id = _short_id(raw_key)
    for moment, field in (
        (entry.update_time, "updatedAt"),
        (entry.start_time, "sessionStartedAt"),
        (entry.last_interaction_time, "lastInteractionAt"),
    ):
        at_ms = _milliseconds(value.get(field))
        if at_ms is not None:
            moment.FromMilliseconds(at_ms)
    return Found(raw_key, entry)


def _name(value: _Fields) -> str:
    """The name that people gave the session, else the one that was made for it; cut to what fits."""
    for field in _NAMES:
        name = value.get(field)
        if isinstance(name, str) and name.strip() and _is_text(name):
            return _cut(name.strip(), _ID_BYTES_MAX)
    return ""


def _milliseconds(value: object) -> int | None:
    """A moment in Unix milliseconds. What is no number, or no finite one, is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(int(value), 0), _LATEST_MS)


def _short_id(text: str) -> str:
    """An id as it is, or a digest of one that is too long."""
    encoded = text.encode()
    return text if len(encoded) <= _ID_BYTES_MAX else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)
