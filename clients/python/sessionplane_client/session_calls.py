"""Sessions: what a client asks about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as service

from .connection import Connection
from .wire import Content, duration, new_request_id, run_spec, session_ref


class SessionCalls(Connection):
    """The calls of a client that are about sessions."""

    async def resolve(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        missing: session_pb2.MissingPolicy.ValueType = session_pb2.MISSING_POLICY_UNSPECIFIED,
        conflict: session_pb2.ConflictPolicy.ValueType = session_pb2.CONFLICT_POLICY_UNSPECIFIED,
        ended: session_pb2.EndedPolicy.ValueType = session_pb2.ENDED_POLICY_UNSPECIFIED,
        expected_session_id: str = "",
        bind_session_id: str = "",
        visibility: session_pb2.Visibility.ValueType = session_pb2.VISIBILITY_UNSPECIFIED,
        interaction: session_pb2.Interaction.ValueType = session_pb2.INTERACTION_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        display_name: str = "",
        run: Content | run_pb2.RunSpec | None = None,
        request_id: str | None = None,
    ) -> service.ResolveSessionResponse:
        """Returns the one session of a key, which is created if there is none.

        The policies say what to do about a key without a session, with a live one and with an ended one; the
        answer's resolution says what was done. `expected_session_id` lets REPLACE replace only that session.
        `labels` and `display_name` are used on creation only. With `bind_session_id` the key is given to that
        session. `run` is an input, or a whole RunSpec, that is started in the session in the same commit.
        Raises KeyInvalid, SessionNotFound, by policy KeyNotBound, SessionExists, SessionEnded and
        SessionReplaced, and with a run what `start_run` raises.
        """
        request = service.ResolveSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            missing_policy=missing,
            conflict_policy=conflict,
            ended_policy=ended,
            expected_session_id=expected_session_id,
            bind_session_id=bind_session_id,
            visibility=visibility,
            interaction=interaction,
            labels=labels or {},
            display_name=display_name,
            run=run_spec(run),
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.ResolveSession, request)

    async def get_session(
        self, *, key: str | None = None, session_id: str | None = None, agent: str = ""
    ) -> service.GetSessionResponse:
        """Reads a session and creates nothing. Raises KeyNotBound and SessionNotFound."""
        named = session_ref(key=key, session_id=session_id, agent=agent)
        return await self._unary(self.session_service.GetSession, service.GetSessionRequest(session=named))

    async def update_session(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        labels: Mapping[str, str] | None = None,
        display_name: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> session_pb2.Session:
        """Changes a session's labels, all of them, and its name; what is None stays. Returns the session.

        With the `etag` of a session only if it has not changed since. Raises EtagMismatch, KeyNotBound and
        SessionNotFound.
        """
        given = {"labels": labels, "display_name": display_name}
        request = service.UpdateSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            labels=labels or {},
            display_name=display_name or "",
            update_mask=FieldMask(paths=[name for name, value in given.items() if value is not None]),
            etag=etag,
            request_id=request_id or new_request_id(),
        )
        return (await self._unary(self.session_service.UpdateSession, request)).session

    async def reset_session(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        expected_session_id: str = "",
        request_id: str | None = None,
    ) -> service.ResetSessionResponse:
        """Moves a session's key to a new session, which is created also if nobody holds the key.

        The old session's runs end, and it is final: it can be read and never runs again. With
        `expected_session_id` only if that one holds the key. Raises SessionReplaced, SessionEnded (it was final),
        KeyNotBound (it never had a key) and SessionNotFound.
        """
        request = service.ResetSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            expected_session_id=expected_session_id,
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.ResetSession, request)

    async def delete_session(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        request_id: str | None = None,
    ) -> service.DeleteSessionResponse:
        """Deletes a session: its runs end, its key is free, its id is SessionNotFound. Nothing to delete is no error:
        the answer says whether there was something.
        """
        request = service.DeleteSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.DeleteSession, request)

    async def suspend_session(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        grace_period_s: float | None = None,
        request_id: str | None = None,
    ) -> service.SuspendSessionResponse:
        """Says that nobody will follow the session for a while, for the server's two minutes if not told otherwise.

        Its runs go on. A session that is suspended stays as it is. Raises InvalidTransition from a state in which it
        cannot be suspended, KeyNotBound and SessionNotFound.
        """
        request = service.SuspendSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            grace_period=duration(grace_period_s),
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.SuspendSession, request)

    async def close_session(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        close_timeout_s: float | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> service.CloseSessionResponse:
        """Ends a session: at once, or when its claimed run has had `close_timeout_s` (the server's two minutes).

        The answer has an `active_run` while one may finish; `wait_run` waits for its end. A session that closes or has
        ended stays as it is. Raises KeyNotBound and SessionNotFound.
        """
        request = service.CloseSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            close_timeout=duration(close_timeout_s),
            reason=reason,
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.CloseSession, request)

    async def sessions(
        self,
        *,
        filter: str = "",  # noqa: A002  the word of the wire
        show_internal: bool = False,
        page_size: int = 0,
    ) -> AsyncIterator[session_pb2.Session]:
        """Iterates over the sessions that the filter wants, last changed first; a page is fetched as it is needed.

        The filter is text, such as `state = ACTIVE AND labels.team = billing`. Raises
        SessionPlaneError `FILTER_INVALID`, whose message says where.
        """
        page_token = ""
        while True:
            request = service.ListSessionsRequest(
                filter=filter, show_internal=show_internal, page_size=page_size, page_token=page_token
            )
            page = await self._unary(self.session_service.ListSessions, request)
            for session in page.sessions:
                yield session
            page_token = page.next_page_token
            if not page_token:
                return
