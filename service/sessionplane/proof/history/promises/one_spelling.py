"""One spelling: whatever a caller writes, the session has the canonical key, and so has every log; and what machinery
makes for itself is in no list.
"""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.proof.history.facts import Facts, shows_known_run, told
from sessionplane.proof.history.spelling import canonical
from sessionplane.v1.session_pb2 import VISIBILITY_INTERNAL

NAMED = (
    "ResolveSession",
    "GetSession",
    "StartRun",
    "ResetSession",
    "UpdateSession",
    "SuspendSession",
    "CloseSession",
)
"""What answers with the session that a key named."""


def one_spelling(facts: Facts) -> Iterator[str]:
    """Say which answer or log bears a key in another spelling than its own, and what was listed that is hidden."""
    for shown in facts.sessions_shown:
        if shown.what.key and canonical(shown.what.key) != shown.what.key:
            yield f"{shown.where} was shown {shown.what.session_id} with the key {shown.what.key!r}"
    for call in facts.calls(*NAMED):
        asked, found = call.request.session, call.answer.session.key
        if asked.key and found != canonical(asked.key, asked.agent) and not shows_known_run(call.answer):
            yield f"{told(call)} asked for {asked.key!r} and got {found!r}"
    for event in facts.events():
        key = event.session_moved.key
        if key and canonical(key) != key:
            yield f"{event.session_id} got the key {key!r}"
    for call in facts.calls("ListSessions"):
        for session in call.answer.sessions:
            if session.visibility == VISIBILITY_INTERNAL and not call.request.show_internal:
                yield f"{told(call)} lists {session.session_id}, which is hidden"
