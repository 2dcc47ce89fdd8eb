"""Sessions: what a client asks about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as service

from .connection import Connection
from .wire import duration, new_request_id, session_ref


class SessionCalls(Connection):
    """The calls of a client that are about sessions."""

    async def resolve(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        bind_session_id: str = "",
        interaction: session_pb2.Interaction.ValueType = session_pb2.INTERACTION_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        display_name: str = "",
        request_id: str | None = None,
    ) -> service.ResolveSessionResponse:
        """Returns the one session of a key, which is created if there is none.

        `labels` and `display_name` are used on creation only. With `bind_session_id` the key is given to that
        session. Raises KeyInvalid and SessionNotFound, among others.
        """
        request = service.ResolveSessionRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            bind_session_id=bind_session_id,
            interaction=interaction,
            labels=labels or {},
            display_name=display_name,
            request_id=request_id or new_request_id(),
        )
        return await self._unary(self.session_service.ResolveSession, request)

    async def get_session(
        self, *, key: str | None = None, session_id: str | None = None, agent: str = ""
    ) -> service.GetSessionResponse:
        """Reads a session and creates nothing. Raises KeyNotBound and SessionNotFound."""
        named = session_ref(key=key, session_id=session_id, agent=agent)
        return await self._unary(self.session_service.GetSession, service.GetSessionRequest(session=named))

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
