"""StreamEvents on the wire: frames out of a feed, and the status at the end.

A frame of events is the same bytes for every follower at the same place, so it is put together once, by hand: fields of
a message are length-delimited, and the entries are an encoded `EventBatch` already. That is why the method is
registered without a serializer.
"""

from __future__ import annotations

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.events import Entry, Place
from sessionplane.domain.sessions import Session
from sessionplane.domain.streams import RESUMABLE, ClosingReason
from sessionplane.domain.tokens import TokenWriter
from sessionplane.live.feed import Bookmark, End, Feed, SessionMark
from sessionplane.live.tail import Slice
from sessionplane.plane import sessions
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.rpc import pacing, render
from sessionplane.rpc.guard import Context
from sessionplane.rpc.status import CLOSINGS
from sessionplane.store import codec
from sessionplane.v1 import event_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb

BATCH_TAG = bytes([pb.StreamEventsResponse.BATCH_FIELD_NUMBER << 3 | 2])


class StreamWriter:
    """Serves streams of one plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def serve(self, request: StreamRequest, pending_s: float, context: Context) -> None:
        """Write the stream until it is over, and end it with its status."""
        opened = self._plane.stream(request, peer=context.peer(), pending_s=pending_s)
        async with opened as (opening, feed):
            frames = _Frames(self._plane, opening, feed)
            reason = await pacing.until_stuck(feed, self._write(frames, feed, context))
            session = opening.view.session
        error = self._error(reason, session.namespace, session.session_id)
        if error is not None:
            await pacing.refuse(error, context, self._plane.limits)

    async def _write(self, frames: _Frames, feed: Feed, context: Context) -> ClosingReason:
        """Write frames until the feed ends; returns why it did."""
        await pacing.write(feed, context, frames.opened())
        while not isinstance(piece := await feed.next(), End):
            frame = frames.batch(piece) if isinstance(piece, Slice) else frames.progress(piece)
            await pacing.write(feed, context, frame)
        await pacing.write(feed, context, frames.closing(piece))
        return piece.reason

    def _error(self, reason: ClosingReason, namespace: str, session_id: str) -> SessionPlaneError | None:
        """Return the error that an end stands for; None if what the stream waited for was delivered."""
        kind = CLOSINGS[reason]
        if kind is None:
            return None
        session = self._plane.read(lambda tx: tx.session(namespace, session_id))
        if reason is ClosingReason.SESSION_DELETED and session is not None:
            return sessions.gone(session)
        details: dict[str, object] = {"session_id": session_id}
        if reason is ClosingReason.SLOW_CONSUMER:
            details["seconds"] = self._plane.limits.slow_subscriber_ms // 1000
        elif session is not None and session.superseded_by:
            details["successor"] = session.superseded_by
        return kind(**details)


class _Frames:
    """Puts the frames of one stream together; each accounts for what lies behind the one before."""

    def __init__(self, plane: ControlPlane, opening: Opening, feed: Feed) -> None:
        session = opening.view.session
        self._plane = plane
        self._opening = opening
        self._feed = feed
        self._tokens = TokenWriter(store_id=plane.store.store_id, session_id=session.session_id)
        self._accounted = opening.plan.begin
        # The last sign of life that accounts for nothing, and what it says: an idle stream sends it again and again.
        self._idle: tuple[Bookmark, str] | None = None
        self._idle_frame = b""

    def opened(self) -> bytes:
        """Show what the stream follows, as it is."""
        opening = self._opening
        session = opening.view.session
        resumed = pb.RESUME_RESULT_RESUMED if opening.resumed else pb.RESUME_RESULT_FRESH
        frame = pb.StreamOpened(
            session=render.session(self._plane, session),
            run=render.run_or_none(self._plane, opening.run),
            resume_result=resumed,
            resolution=render.RESOLUTIONS.get(opening.resolution, session_pb2.RESOLUTION_UNSPECIFIED),
            until_run_id=opening.plan.until_run_id,
        )
        return self._frame(opening.plan.begin, opened=frame)

    def batch(self, piece: Slice) -> bytes:
        """Show events. The frame is shared if it begins where everybody's does."""
        if self._accounted.sequence != piece.after.sequence:
            return self._batch(self._move(piece.through), piece)
        self._accounted = piece.through
        if piece.frame is None:
            piece.frame = self._batch(piece.after, piece)
        return piece.frame

    def _batch(self, after: Place, piece: Slice) -> bytes:
        head = self._head(after, piece.through).SerializeToString()
        return b"".join((head, BATCH_TAG, codec.varint(len(piece.data)), piece.data))

    def progress(self, piece: Bookmark) -> bytes:
        """Show a sign of life, with the session's state now: while nothing is committed that is the state of before."""
        idle = (piece, self._feed.until_run_id)
        if idle == self._idle:
            return self._idle_frame
        still = piece.caught_up and piece.through == self._accounted
        frame = self._progress(piece)
        self._idle, self._idle_frame = (idle, frame) if still else (None, b"")
        return frame

    def _progress(self, piece: Bookmark) -> bytes:
        frame = pb.StreamProgress(
            caught_up=piece.caught_up,
            lag=piece.lag,
            state=render.SESSION_STATES[self._session().state],
            until_run_id=self._feed.until_run_id,
        )
        return self._frame(piece.through, progress=frame)

    def closing(self, piece: End) -> bytes:
        """Show why the stream ends, and who has the key by now."""
        frame = pb.StreamClosing(
            reason=render.CLOSINGS[piece.reason],
            resumable=piece.reason in RESUMABLE,
            successor_session_id=self._session().superseded_by,
        )
        return self._frame(piece.through, closing=frame)

    def _session(self) -> Session:
        """Return the session as it is now, deleted or not; as it was at the opening once its row is gone."""
        opened = self._opening.view.session
        return self._plane.read(lambda tx: tx.session(opened.namespace, opened.session_id)) or opened

    def _frame(
        self,
        through: Place,
        *,
        opened: pb.StreamOpened | None = None,
        progress: pb.StreamProgress | None = None,
        closing: pb.StreamClosing | None = None,
    ) -> bytes:
        head = self._head(self._move(through), through)
        head.MergeFrom(pb.StreamEventsResponse(opened=opened, progress=progress, closing=closing))
        return head.SerializeToString()

    def _head(self, after: Place, through: Place) -> pb.StreamEventsResponse:
        return pb.StreamEventsResponse(
            resume_token=self._tokens.at(*through),
            after_sequence=after.sequence,
            through_sequence=through.sequence,
        )

    def _move(self, through: Place) -> Place:
        before, self._accounted = self._accounted, through
        return before


def read_mark(entry: Entry) -> SessionMark:
    """Say what a session event means to a stream that reads it."""
    event = codec.decode(entry.data)
    changed = event.session_changed
    ended = changed.to_state == session_pb2.SESSION_STATE_ENDED
    last = None
    if event.WhichOneof("body") == "session_moved" and not event.session_moved.holds:
        deleted = event.session_moved.reason == event_pb2.MOVE_REASON_DELETED
        last = ClosingReason.SESSION_DELETED if deleted else ClosingReason.SESSION_FINAL
    return SessionMark(ended_generation=changed.generation if ended else 0, last=last)
