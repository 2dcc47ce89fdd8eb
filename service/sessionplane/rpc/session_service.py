"""SessionService: what callers and subscribers do."""

from __future__ import annotations

from sessionplane.domain.runs import RunState
from sessionplane.domain.tokens import PageToken, parse_page_token, parse_resume_token
from sessionplane.plane import (
    closing,
    editing,
    interrupts,
    lifecycle,
    runs,
    sessions,
    streams,
    succession,
)
from sessionplane.plane.context import with_request
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.sessions import View
from sessionplane.rpc import listing, render
from sessionplane.rpc.exchange import Exchange
from sessionplane.rpc.fields import NAMESPACE, digest, page_size
from sessionplane.rpc.guard import Context
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.streams import StreamWriter
from sessionplane.rpc.waits import wait_s
from sessionplane.rpc.watching import WatchWriter
from sessionplane.v1 import session_service_pb2 as pb

EVENTS_PAGE = 256


class SessionService:
    """Each method: read the request, run the use case, show its answer."""

    raw_methods = frozenset({"StreamEvents", "WatchSessions", "Exchange"})
    large_methods = frozenset({"Exchange"})

    def __init__(self, plane: ControlPlane, parser: Parser, exchange: Exchange) -> None:
        self._plane = plane
        self._parser = parser
        self._streams = StreamWriter(plane)
        self._watches = WatchWriter(plane)
        self._exchange = exchange

    async def resolve_session(
        self, request: pb.ResolveSessionRequest, _context: Context
    ) -> pb.ResolveSessionResponse:
        """Find or create the one session of a key."""
        resolved = await self._plane.resolve(self._parser.resolve(request))
        view = resolved.view
        answer = pb.ResolveSessionResponse(
            session=render.session(self._plane, view.session),
            resolution=render.RESOLUTIONS[resolved.resolution],
            route=render.ROUTES[view.route],
            active_run=render.run_or_none(self._plane, view.active_run),
            previous_session_id=resolved.previous_session_id,
            resume_token=render.head_token(self._plane, view.session),
        )
        if resolved.started is not None:
            answer.run.CopyFrom(render.run(self._plane, resolved.started.shown))
            answer.run_disposition = render.DISPOSITIONS[resolved.started.disposition]
            answer.input_id = resolved.started.input_id
        return answer

    async def get_session(self, request: pb.GetSessionRequest, _context: Context) -> pb.GetSessionResponse:
        """Read a session."""
        ref = self._parser.ref(request.session)
        view: View = self._plane.read(lambda tx: sessions.get_session(tx, NAMESPACE, ref))
        return pb.GetSessionResponse(
            session=render.session(self._plane, view.session),
            route=render.ROUTES[view.route],
            active_run=render.run_or_none(self._plane, view.active_run),
            resume_token=render.head_token(self._plane, view.session),
        )

    async def list_sessions(
        self, request: pb.ListSessionsRequest, _context: Context
    ) -> pb.ListSessionsResponse:
        """Read a page of sessions, last changed first."""
        return await listing.list_sessions(self._plane, self._parser, request)

    async def suspend_session(
        self, request: pb.SuspendSessionRequest, _context: Context
    ) -> pb.SuspendSessionResponse:
        """Let a session's client go to the background."""
        view = await self._plane.execute(with_request(lifecycle.suspend, self._parser.suspend(request)))
        return pb.SuspendSessionResponse(
            session=render.session(self._plane, view.session),
            resume_token=render.head_token(self._plane, view.session),
        )

    async def close_session(
        self, request: pb.CloseSessionRequest, _context: Context
    ) -> pb.CloseSessionResponse:
        """End a session."""
        view = await self._plane.execute(with_request(closing.close, self._parser.close(request)))
        return pb.CloseSessionResponse(
            session=render.session(self._plane, view.session),
            active_run=render.run_or_none(self._plane, view.active_run),
            resume_token=render.head_token(self._plane, view.session),
        )

    async def update_session(
        self, request: pb.UpdateSessionRequest, _context: Context
    ) -> pb.UpdateSessionResponse:
        """Change a session's labels and name."""
        view = await self._plane.execute(with_request(editing.update, self._parser.update(request)))
        return pb.UpdateSessionResponse(
            session=render.session(self._plane, view.session),
            resume_token=render.head_token(self._plane, view.session),
        )

    async def reset_session(
        self, request: pb.ResetSessionRequest, _context: Context
    ) -> pb.ResetSessionResponse:
        """Move a key to a new session."""
        view = await self._plane.execute(with_request(succession.reset, self._parser.reset(request)))
        return pb.ResetSessionResponse(
            session=render.session(self._plane, view.session),
            previous_session_id=view.session.previous_session_id,
            route=render.ROUTES[view.route],
            resume_token=render.head_token(self._plane, view.session),
        )

    async def delete_session(
        self, request: pb.DeleteSessionRequest, _context: Context
    ) -> pb.DeleteSessionResponse:
        """Delete a session."""
        gone = await self._plane.execute(with_request(succession.delete, self._parser.delete(request)))
        return pb.DeleteSessionResponse(
            deleted=gone.deleted,
            session_id=gone.session_id,
            delete_time=render.timestamp(gone.deleted_at_ms),
        )

    async def start_run(self, request: pb.StartRunRequest, _context: Context) -> pb.StartRunResponse:
        """Start a run."""
        asked = self._parser.start(request)
        started = await self._plane.execute(
            lambda tx, use: runs.start(tx, asked, use), size=len(asked.run.input)
        )
        owner = started.view.session
        return pb.StartRunResponse(
            run=render.run(self._plane, started.shown),
            disposition=render.DISPOSITIONS[started.disposition],
            session=render.session(self._plane, owner),
            input_id=started.input_id,
            interrupt_id=started.interrupt_id,
            resume_token=render.head_token(self._plane, owner),
        )

    async def get_run(self, request: pb.GetRunRequest, _context: Context) -> pb.GetRunResponse:
        """Read a run."""
        run_id = self._parser.run_id(request.run_id, "run_id")
        view = self._plane.read(lambda tx: runs.get_run(tx, NAMESPACE, run_id))
        return pb.GetRunResponse(
            run=render.run(self._plane, view, whole=True),
            resume_token=render.head_token(self._plane, view.session),
        )

    async def list_runs(self, request: pb.ListRunsRequest, _context: Context) -> pb.ListRunsResponse:
        """Read a page of a session's runs, newest first."""
        return await listing.list_runs(self._plane, self._parser, request)

    async def wait_run(self, request: pb.WaitRunRequest, context: Context) -> pb.WaitRunResponse:
        """Wait for a run's end."""
        run_id = self._parser.run_id(request.run_id, "run_id")
        view = await self._plane.wait_run(NAMESPACE, run_id, wait_s=wait_s(context, self._plane.limits))
        return pb.WaitRunResponse(
            run=render.run(self._plane, view, whole=True),
            finished=view.run.state is RunState.FINISHED,
            resume_token=render.head_token(self._plane, view.session),
        )

    async def interrupt(self, request: pb.InterruptRequest, _context: Context) -> pb.InterruptResponse:
        """Ask that a run stop."""
        asked = self._parser.interrupt(request)
        made = await self._plane.execute(
            lambda tx, use: interrupts.interrupt(tx, asked, use), size=request.ByteSize()
        )
        return pb.InterruptResponse(
            interrupt=render.interrupt(made.interrupt),
            run=render.run_or_none(self._plane, made.run),
            follow_up_run=render.run_or_none(self._plane, made.follow_up),
            dropped_run_count=made.dropped,
            resume_token=render.head_token(self._plane, made.session),
        )

    async def get_interrupt(
        self, request: pb.GetInterruptRequest, _context: Context
    ) -> pb.GetInterruptResponse:
        """Read an interrupt."""
        wanted = self._parser.required(request.interrupt_id, "interrupt_id")
        made = self._plane.read(lambda tx: interrupts.get_interrupt(tx, NAMESPACE, wanted))
        return pb.GetInterruptResponse(
            interrupt=render.interrupt(made.interrupt),
            resume_token=render.head_token(self._plane, made.session),
        )

    async def stream_events(self, request: pb.StreamEventsRequest, context: Context) -> None:
        """Follow events."""
        asked, pending_s = self._parser.stream(request)
        await self._streams.serve(asked, pending_s, context)

    async def watch_sessions(self, request: pb.WatchSessionsRequest, context: Context) -> None:
        """Follow the sessions of a namespace."""
        await self._watches.serve(self._parser.watch(request), context)

    async def exchange(self, context: Context) -> None:
        """Answer unary requests over one stream."""
        await self._exchange.serve(context)

    async def list_events(self, request: pb.ListEventsRequest, _context: Context) -> pb.ListEventsResponse:
        """Read a page of a session's log."""
        limits = self._plane.limits
        ref = self._parser.ref(request.session)
        wanted = self._parser.filter(request.filter)
        limit = page_size(request.page_size, EVENTS_PAGE, limits.page_events_max)
        arguments = digest(
            b"ListEvents",
            str(ref.key or ref.session_id).encode(),
            request.resume_token.encode(),
            request.filter.SerializeToString(deterministic=True),
        )
        begin = parse_page_token(request.page_token, arguments=arguments) if request.page_token else None
        resumed = parse_resume_token(request.resume_token) if request.resume_token else None
        page = await self._plane.store.scan(
            lambda tx: streams.list_events(
                tx,
                NAMESPACE,
                ref,
                resumed=resumed,
                after=(begin.number, begin.row_id) if begin else None,
                wanted=wanted,
                limit=limit,
                bytes_max=limits.page_bytes_max,
            )
        )
        response = pb.ListEventsResponse(
            events=pb.EventBatch.FromString(b"".join(entry.data for entry in page.entries)).events,
            resume_token=render.token(self._plane, page.session_id, page.through),
        )
        if page.more:
            response.next_page_token = PageToken(
                arguments=arguments, number=page.through.sequence, row_id=page.session_id
            ).encode()
        return response
