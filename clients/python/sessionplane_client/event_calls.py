"""What a client follows: events, and the sessions themselves; and how it lists events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import Event, EventKind

from .backoff import Backoff
from .connection import Connection, only
from .following import OnReconnect
from .stream import EventStream, OnProgress
from .watch import SessionWatch
from .wire import duration, session_ref


class EventCalls(Connection):
    """The calls of a client that are about events, and the watch."""

    def stream(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        run_id: str | None = None,
        agent: str = "",
        create: bool = False,
        resume_token: str = "",
        start: service.StreamStart.ValueType = service.STREAM_START_UNSPECIFIED,
        until: service.StreamUntil.ValueType = service.STREAM_UNTIL_UNSPECIFIED,
        until_run_id: str = "",
        kinds: Sequence[EventKind.ValueType] = (),
        custom_types: Sequence[str] = (),
        filter_run_id: str = "",
        presence: session_pb2.Presence.ValueType = session_pb2.PRESENCE_UNSPECIFIED,
        pending_timeout_s: float | None = None,
        subscriber_name: str = "",
        backoff: Backoff | None = None,
        on_reconnect: OnReconnect | None = None,
        on_progress: OnProgress | None = None,
    ) -> EventStream:
        """Follows the events of a session, or of one run; see EventStream.

        With `create` the key is resolved as by `resolve`, otherwise its session must exist. `kinds` choose among
        events, `custom_types` among custom ones; a terminal always comes. Nothing is sent before the stream is
        entered or iterated. Raises TypeError unless exactly one of `key`, `session_id`
        and `run_id` is given.
        """
        request = service.StreamEventsRequest(
            resume_token=resume_token,
            start=start,
            until=until,
            until_run_id=until_run_id,
            presence=presence,
            pending_timeout=duration(pending_timeout_s),
            subscriber_name=subscriber_name,
        )
        if kinds or custom_types or filter_run_id:
            wanted = service.EventFilter(kinds=kinds, custom_types=custom_types, run_id=filter_run_id)
            request.filter.CopyFrom(wanted)
        if run_id is not None:
            only(run_id=run_id, key=key, session_id=session_id)
            request.run_id = run_id
        elif create:
            request.resolve.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        else:
            request.session.CopyFrom(session_ref(key=key, session_id=session_id, agent=agent))
        return EventStream(
            self._open(self.session_service.StreamEvents),
            request,
            backoff=backoff or self._backoff,
            on_reconnect=on_reconnect,
            on_progress=on_progress,
        )

    def watch_sessions(
        self,
        *,
        show_internal: bool = False,
        resume_token: str = "",
        subscriber_name: str = "",
        backoff: Backoff | None = None,
        on_reconnect: OnReconnect | None = None,
        on_caught_up: Callable[[], None] | None = None,
    ) -> SessionWatch:
        """Follows the sessions of the namespace; see SessionWatch. Hidden ones only with `show_internal`."""
        request = service.WatchSessionsRequest(
            show_internal=show_internal, resume_token=resume_token, subscriber_name=subscriber_name
        )
        return SessionWatch(
            self._open(self.session_service.WatchSessions),
            request,
            backoff=backoff or self._backoff,
            on_reconnect=on_reconnect,
            on_caught_up=on_caught_up,
        )

    async def list_events(
        self,
        *,
        key: str | None = None,
        session_id: str | None = None,
        agent: str = "",
        resume_token: str = "",
        kinds: Sequence[EventKind.ValueType] = (),
        custom_types: Sequence[str] = (),
        run_id: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[Event]:
        """Iterates over a session's log as it is now, oldest first, from the token or the oldest."""
        request = service.ListEventsRequest(
            session=session_ref(key=key, session_id=session_id, agent=agent),
            resume_token=resume_token,
            page_size=page_size,
            filter=service.EventFilter(kinds=kinds, custom_types=custom_types, run_id=run_id),
        )
        while True:
            page = await self._unary(self.session_service.ListEvents, request)
            for event in page.events:
                yield event
            request.page_token = page.next_page_token
            if not request.page_token:
                return
