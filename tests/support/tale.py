"""A tale: a history made by hand, of clients and a server that keeps every promise.

Each verb is one call that is answered as it should be, and leaves in the log what it should. Whoever wants a broken
history tells a good one and spoils it: calls, frames and logs may be changed after the fact. Time goes on by a tenth of
a second with everything that is recorded.
"""

from __future__ import annotations

from typing import Any

from sessionplane.proof.history.judge import judge
from sessionplane.proof.history.records import Happening, Stream
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale_runs import Runs


class Tale(Runs):
    """Clients, a server, and what becomes of it all: `told` is the history."""

    @property
    def broken(self) -> set[str]:
        """The promises that it breaks."""
        return {each.promise for each in judge(self.told)}

    def follow(self, session_id: str, by: str = "sam", token: str = "", **asked: Any) -> Stream:
        """Open a stream of a session, from its first event on or from a token."""
        asked = {"start": pb.STREAM_START_OLDEST} | asked
        request = pb.StreamEventsRequest(
            session=SessionRef(session_id=session_id), resume_token=token, **asked
        )
        stream = self.recorder.opened(by, request)
        at = int(token.rpartition("@")[2]) if token else 0
        frame = self.frame(session_id, at, at)
        frame.opened.session.CopyFrom(self.shown(self.chats[session_id]))
        self.recorder.framed(stream, frame, prompt=True)
        return stream

    def frame(self, session_id: str, after: int, through: int) -> pb.StreamEventsResponse:
        """A frame over a part of the log."""
        return pb.StreamEventsResponse(
            resume_token=f"{session_id}@{through}", after_sequence=after, through_sequence=through
        )

    def deliver(self, stream: Stream, *, through: int | None = None, closing: str = "") -> None:
        """Send a stream what the log has behind its place, or a part of it; with a reason, close it."""
        last = stream.frames[-1].message
        session_id, after = stream.frames[0].message.opened.session.session_id, last.through_sequence
        rest = self.logs[session_id][after:through]
        if rest:
            frame = self.frame(session_id, after, after + len(rest))
            frame.batch.events.extend(rest)
            self.recorder.framed(stream, frame, prompt=True)
        end = after + len(rest)
        frame = self.frame(session_id, end, end)
        if closing:
            frame.closing.reason = pb.ClosingReason.Value(f"CLOSING_REASON_{closing}")
        else:
            frame.progress.caught_up = end == len(self.logs[session_id])
        self.recorder.framed(stream, frame, prompt=True)
        if closing:
            self.recorder.closed(stream, None)

    def over(self) -> None:
        """Say that the world is calm, that everything came to its end, and that this is it."""
        self.recorder.history.alive = True
        self.happened(Happening.CALM)
        self.happened(Happening.OVER)
