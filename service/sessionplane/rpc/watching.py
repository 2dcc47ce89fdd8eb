"""WatchSessions on the wire: a frame for each session that is told of, and a sign of life.

A frame is the same bytes for all who watch a namespace, so it is encoded once for each reading that they share. How
many subscribers a session has is live memory: the number is that of the moment in which the frame was made.
"""

from __future__ import annotations

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.sessions import Session
from sessionplane.domain.streams import ClosingReason
from sessionplane.domain.tokens import WatchTokenWriter
from sessionplane.live.watch import CaughtUp, Changes, Ended, Watch
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.watching import WatchRequest
from sessionplane.rpc import pacing, render
from sessionplane.rpc.guard import Context
from sessionplane.rpc.status import CLOSINGS
from sessionplane.v1 import session_service_pb2 as pb


class WatchWriter:
    """Serves the watches of one plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def serve(self, request: WatchRequest, context: Context) -> None:
        """Write the watch until it is over, and end it with its status, which is never OK."""
        tokens = WatchTokenWriter(store_id=self._plane.store.store_id, namespace=request.namespace)
        async with self._plane.watch(request, peer=context.peer()) as watch:
            reason = await pacing.until_stuck(watch, self._write(watch, tokens, context))
        await pacing.refuse(self._error(reason), context, self._plane.limits)

    async def _write(self, watch: Watch, tokens: WatchTokenWriter, context: Context) -> ClosingReason:
        """Write frames until the watch ends; returns why it did."""
        while not isinstance(piece := await watch.next(), Ended):
            if isinstance(piece, CaughtUp):
                sign = pb.WatchSessionsResponse(
                    resume_token=tokens.at(piece.through), caught_up=pb.WatchCaughtUp()
                )
                await pacing.write(watch, context, sign.SerializeToString())
                continue
            for session, frame in zip(piece.sessions, self._frames(piece, tokens), strict=True):
                if watch.tells(session):
                    await pacing.write(watch, context, frame)
        return piece.reason

    def _frames(self, changes: Changes, tokens: WatchTokenWriter) -> list[bytes]:
        if changes.frames is None:
            changes.frames = [self._frame(session, tokens) for session in changes.sessions]
        return changes.frames

    def _frame(self, session: Session, tokens: WatchTokenWriter) -> bytes:
        token = tokens.at(session.change_number)
        if session.deleted_at_ms is None:
            shown = render.session(self._plane, session)
            return pb.WatchSessionsResponse(resume_token=token, session=shown).SerializeToString()
        gone = pb.SessionRemoved(session_id=session.session_id, key=session.key.text if session.key else "")
        return pb.WatchSessionsResponse(resume_token=token, removed=gone).SerializeToString()

    def _error(self, reason: ClosingReason) -> SessionPlaneError:
        kind = CLOSINGS[reason]
        assert kind is not None, reason  # noqa: S101 - a watch waits for nothing, so nothing that it waits for comes
        slow = reason is ClosingReason.SLOW_CONSUMER
        return kind(seconds=self._plane.limits.slow_subscriber_ms // 1000) if slow else kind()
