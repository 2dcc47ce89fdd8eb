"""The sessions of a tale (see `tests.support.tale`): keys, states, logs, and the calls about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sessionplane.proof.history.records import Call, Happening, History, Recorder, Refusal
from sessionplane.proof.history.spelling import canonical
from sessionplane.proof.history.tables import ROUTES
from sessionplane.v1 import event_pb2
from sessionplane.v1 import session_pb2 as S  # noqa: N812 - states and causes are what this is full of
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.session_pb2 import SessionRef

STEP_S = 0.1


@dataclass
class Chat:
    """A session as the tale's server knows it."""

    session_id: str
    key: str
    state: Any = S.SESSION_STATE_CREATED
    generation: int = 1
    final: bool = False
    previous: str = ""
    line: list[str] = field(default_factory=list)


class Sessions:
    """Callers, and what a server says to them about sessions."""

    def __init__(self) -> None:
        self.now = 0.0
        self.recorder = Recorder(self._tick)
        self.chats: dict[str, Chat] = {}
        self.keys: dict[str, str] = {}
        self.logs: dict[str, list[Event]] = {}
        self.happened(Happening.READY)

    def _tick(self) -> float:
        self.now += STEP_S
        return self.now

    @property
    def told(self) -> History:
        """The history as it is so far."""
        self.recorder.history.logs = {session_id: list(log) for session_id, log in self.logs.items() if log}
        return self.recorder.history

    def happened(self, what: Happening, detail: str = "") -> None:
        """Something happened that no client did."""
        self.recorder.happened(what, detail)

    def log(self, chat: Chat, *, run_id: str = "", run_sequence: int = 0, **body: Any) -> Event:
        """Append an event."""
        log = self.logs.setdefault(chat.session_id, [])
        event = Event(
            session_id=chat.session_id,
            sequence=len(log) + 1,
            run_id=run_id,
            run_sequence=run_sequence,
            **body,
        )
        log.append(event)
        return event

    def asked(self, method: str, request: Any, by: str) -> Call:
        """Record a call that is not answered yet."""
        return self.recorder.called(by, method, request)

    def answer(self, call: Call, answer: Any) -> Call:
        """Answer a call."""
        self.recorder.answered(call, answer)
        return call

    def refuse(self, call: Call, code: str, reason: str, **details: str) -> Call:
        """Refuse a call."""
        self.recorder.refused(call, Refusal(code, reason, details))
        return call

    def move(self, chat: Chat, cause: str, state: Any) -> None:
        """Let a session change its state."""
        first = not self.logs.get(chat.session_id)
        changed = event_pb2.SessionChanged(
            from_state=S.SESSION_STATE_UNSPECIFIED if first else chat.state,
            to_state=state,
            cause=S.SessionCause.Value(f"SESSION_CAUSE_{cause}"),
            generation=chat.generation,
        )
        chat.state = state
        self.log(chat, session_changed=changed)

    def new_chat(self, key: str, reason: str = "CREATED", previous: str = "") -> Chat:
        """Make a session for a key."""
        chat = Chat(f"ses_{len(self.chats) + 1}", key, previous=previous)
        self.chats[chat.session_id] = chat
        self.keys[key] = chat.session_id
        self.move(chat, "CREATED", S.SESSION_STATE_CREATED)
        self.moved(chat, reason, other=previous, holds=True)
        return chat

    def moved(self, chat: Chat, reason: str, *, other: str = "", holds: bool = False) -> None:
        """Let a session get or lose its key."""
        number = event_pb2.MoveReason.Value(f"MOVE_REASON_{reason}")
        moved = event_pb2.SessionMoved(key=chat.key, reason=number, other_session_id=other, holds=holds)
        self.log(chat, session_moved=moved)
        chat.final = not holds

    def shown(self, chat: Chat) -> S.Session:
        """A session as an answer shows it."""
        return S.Session(
            session_id=chat.session_id,
            key=chat.key,
            state=chat.state,
            generation=chat.generation,
            head_sequence=len(self.logs[chat.session_id]),
            previous_session_id=chat.previous,
            final=chat.final,
            visibility=S.VISIBILITY_VISIBLE,
        )

    def route(self, chat: Chat) -> Any:
        """What StartRun would do."""
        state = "FINAL" if chat.final else S.SessionState.Name(chat.state).removeprefix("SESSION_STATE_")
        return S.Route.Value(f"ROUTE_{ROUTES[state]}")

    def token(self, chat: Chat) -> str:
        """The token of a log's head."""
        return f"{chat.session_id}@{len(self.logs[chat.session_id])}"

    def held(self, key: str) -> Chat:
        """The session that has a key."""
        return self.chats[self.keys[canonical(key)]]

    def resolve(self, key: str, by: str = "anna", **asked: Any) -> Call:
        """Resolve a key; make its session if there is none."""
        request = pb.ResolveSessionRequest(session=SessionRef(key=key), **asked)
        call = self.asked("ResolveSession", request, by)
        made = canonical(key) not in self.keys
        chat = self.new_chat(canonical(key)) if made else self.held(key)
        return self.answer(call, self.resolved(chat, "CREATED" if made else "EXISTING"))

    def resolved(self, chat: Chat, resolution: str) -> pb.ResolveSessionResponse:
        """The answer to a resolve."""
        return pb.ResolveSessionResponse(
            session=self.shown(chat),
            resolution=S.Resolution.Value(f"RESOLUTION_{resolution}"),
            route=self.route(chat),
            previous_session_id=chat.previous if resolution == "REPLACED" else "",
            resume_token=self.token(chat),
        )

    def get(self, key: str, by: str = "anna") -> Call:
        """Look at a session by its key."""
        call = self.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key=key)), by)
        chat = self.held(key)
        answer = pb.GetSessionResponse(
            session=self.shown(chat), route=self.route(chat), resume_token=self.token(chat)
        )
        return self.answer(call, answer)

    def reset(self, key: str, by: str = "otto") -> Call:
        """Give a key a new session."""
        call = self.asked("ResetSession", pb.ResetSessionRequest(session=SessionRef(key=key)), by)
        old = self.held(key)
        self.move(old, "SUPERSEDED", S.SESSION_STATE_ENDED)
        new = self.new_chat(old.key, "RESET", old.session_id)
        self.moved(old, "RESET", other=new.session_id)
        answer = pb.ResetSessionResponse(
            session=self.shown(new), previous_session_id=old.session_id, route=self.route(new)
        )
        return self.answer(call, answer)

    def delete(self, key: str, by: str = "otto") -> Call:
        """Delete a session."""
        call = self.asked("DeleteSession", pb.DeleteSessionRequest(session=SessionRef(key=key)), by)
        chat = self.held(key)
        self.move(chat, "DELETED", S.SESSION_STATE_ENDED)
        self.moved(chat, "DELETED")
        del self.keys[chat.key]
        return self.answer(call, pb.DeleteSessionResponse(deleted=True, session_id=chat.session_id))
