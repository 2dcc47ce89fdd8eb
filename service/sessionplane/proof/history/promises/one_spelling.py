"""One spelling: whatever a caller writes, the session has the canonical key, and so has every log."""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.keys import KeySettings, canonical
from sessionplane.proof.history.facts import Facts, told

SETTINGS = KeySettings()


def canon(key: str, agent: str = "") -> str:
    """Return the canonical form of a key; empty if it has none."""
    try:
        return canonical(key, agent=agent, settings=SETTINGS).text
    except SessionPlaneError:
        return ""


def one_spelling(facts: Facts) -> Iterator[str]:
    """Say which answer or log bears a key in another spelling than its own."""
    for shown in facts.sessions_shown:
        if shown.what.key and canon(shown.what.key) != shown.what.key:
            yield f"{shown.where} showed {shown.what.session_id} with the key {shown.what.key!r}"
    for call in facts.calls("GetSession", "ResolveSession", "SuspendSession", "CloseSession"):
        asked, found = call.request.session, call.answer.session.key
        if asked.key and found != canon(asked.key, asked.agent):
            yield f"{told(call)} asked for {asked.key!r} and got {found!r}"
    for session_id, log in sorted(facts.logs.items()):
        for event in log:
            key = event.session_moved.key
            if key and canon(key) != key:
                yield f"{session_id} got the key {key!r}"
