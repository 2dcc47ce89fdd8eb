"""The use case of what people gave a session: its labels and its name. Row data, in whatever state: no event tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sessionplane.domain.errors import EtagMismatch, KeyNotBound
from sessionplane.plane import sessions
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import SessionRef, View, find, require, view, view_after
from sessionplane.store.contract import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRequest:
    """Changes a session's labels, all of them, and its name; None leaves them. With an etag only the session that it
    was read with.
    """

    call: Call
    session: SessionRef
    labels: Mapping[str, str] | None = None
    display_name: str | None = None
    etag: str = ""


def update(tx: Tx, request: UpdateRequest, context: Context) -> View:
    """Change what is given; nothing is written if that is so already.

    Raises RequestIdReused, SessionNotFound, KeyNotBound and EtagMismatch.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return view(tx, require(tx, namespace, known.session_id))
    session = find(tx, namespace, request.session)
    if session is None:
        raise KeyNotBound(canonical_key=request.session.key)
    if request.etag and request.etag != session.etag:
        raise EtagMismatch(current=session.etag)
    labels = session.labels if request.labels is None else request.labels
    name = session.display_name if request.display_name is None else request.display_name
    if (labels, name) == (session.labels, session.display_name):
        return view(tx, session)
    sessions.save(tx, replace(session, labels=labels, display_name=name), context)
    remember(tx, request.call, context, session_id=session.session_id)
    return view_after(tx, session)
