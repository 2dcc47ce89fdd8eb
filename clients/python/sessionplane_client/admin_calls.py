"""What a client asks as an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sessionplane.v1 import admin_service_pb2 as admin

from . import wire
from .connection import Connection


class AdminCalls(Connection):
    """The calls of a client that operators make."""

    async def explain_key(self, key: str, *, agent: str = "") -> admin.ExplainKeyResponse:
        """Shows the canonical form of a key and the rules that led to it. Raises KeyInvalid."""
        return await self._unary(self.admin_service.ExplainKey, admin.ExplainKeyRequest(key=key, agent=agent))

    async def server_info(self) -> admin.GetServerInfoResponse:
        """Says what the server is and which bounds it keeps."""
        return await self._unary(self.admin_service.GetServerInfo, admin.GetServerInfoRequest())

    async def subscribers(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[admin.Subscriber]:
        """Iterates over the open streams, oldest first: of one session if it is named, else all."""
        request = admin.ListSubscribersRequest(page_size=page_size)
        if key is not None or session_id is not None:
            request.session.CopyFrom(wire.session_ref(key=key, session_id=session_id, agent=agent))
        while True:
            page = await self._unary(self.admin_service.ListSubscribers, request)
            for subscriber in page.subscribers:
                yield subscriber
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def disconnect(self, subscriber_id: str) -> None:
        """Ends one open stream; its subscriber may come back. Raises SubscriberNotFound."""
        request = admin.DisconnectSubscriberRequest(subscriber_id=subscriber_id)
        await self._unary(self.admin_service.DisconnectSubscriber, request)

    async def check_invariants(
        self, names: Sequence[str] = (), *, timeout_s: float = 3_600
    ) -> Sequence[admin.InvariantResult]:
        """Has the server check what must always hold: these invariants, or all. It takes as long as the
        database is large.
        """
        request = admin.CheckInvariantsRequest(names=names)
        answer = await self._unary(self.admin_service.CheckInvariants, request, timeout_s=timeout_s)
        return answer.results

    async def compact_events(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        older_than_s: float | None = None,
        timeout_s: float = 600,
    ) -> admin.CompactEventsResponse:
        """Removes now the beginning of a session's log: the runs that ended at least `older_than_s` ago, and what lies
        before them. 0 stands for every finished run, None for as long as the server keeps them by itself.
        """
        request = admin.CompactEventsRequest(
            session=wire.session_ref(key=key, session_id=session_id, agent=agent),
            older_than=wire.duration(older_than_s),
        )
        return await self._unary(self.admin_service.CompactEvents, request, timeout_s=timeout_s)

    async def import_sessions(
        self, entries: Sequence[admin.ImportEntry], *, dry_run: bool = True
    ) -> Sequence[admin.ImportResult]:
        """Creates sessions from another system's, at most 500 at a time, or says what that would do. Entries that
        mean one key belong into one call, so that the dry run knows of all of them. Repeating it is safe.
        """
        request = admin.ImportSessionsRequest(entries=entries, dry_run=dry_run)
        answer = await self._unary(self.admin_service.ImportSessions, request)
        return answer.results
