"""How a stream of events goes on across any number of calls: each event once, in order, or a named error.

Pure: no channel, no clock, no task. Whoever does the calls (`stream`) asks `request()` what to send, feeds
each frame to `receive()` and each failure to `failed()`, and does what they return.

Theory of operation. Every frame accounts for a range (after, through] of the session's log. `position` is the
end of what was accounted for so far. A frame that begins behind it has a hole in front of it: StreamGap.
What lies at or before it was delivered already and is dropped, so a server may repeat but never skip. Without
a filter every number of a range must be there, and that is checked as well. Position and token move together
and only here; a call that is lost between two frames therefore costs nothing but the next call.

One event may stand outside every range: the terminal of a run whose events were removed by retention comes in
a frame with an empty range. It is delivered once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grpc import StatusCode

from sessionplane.v1 import event_pb2
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.session_service_pb2 import (
    EventFilter,
    ResumeResult,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOpened,
    StreamUntil,
)

from .backoff import Backoff, Patience
from .errors import SessionPlaneError, StreamGap


class Resume:
    """The state of one followed stream. `random` gives numbers in [0, 1) for the jitter."""

    def __init__(
        self, request: StreamEventsRequest, *, backoff: Backoff, random: Callable[[], float]
    ) -> None:
        self._request = StreamEventsRequest()
        self._request.CopyFrom(request)
        self._patience = Patience(backoff, random)
        self._begin: int | None = None
        self._position = 0
        self._session_id = ""
        self._compacted_terminal = 0
        self._whole = request.WhichOneof("target") != "run_id" and request.filter == EventFilter()

    @property
    def token(self) -> str:
        """The newest resume token; empty before the first frame of a stream that began without one."""
        return self._request.resume_token

    @property
    def until_run_id(self) -> str:
        """The run whose end is waited for, once it is known; empty before, or if none is meant."""
        return self._request.until_run_id

    def request(self) -> StreamEventsRequest:
        """What the next call sends: the caller's request, with the newest token and the run that is meant.

        Keys and resolve targets stay as they are; beside a token they only name the session.
        """
        request = StreamEventsRequest()
        request.CopyFrom(self._request)
        if request.resume_token:
            request.ClearField("start")
        return request

    def receive(self, frame: StreamEventsResponse) -> Sequence[Event]:
        """Takes a frame and returns the events in it that were not delivered yet, oldest first.

        Raises StreamGap if events are missing before the frame or in it, or if it is of another session.
        """
        if frame.HasField("opened"):
            self._opened(frame.opened)
        elif not frame.HasField("closing"):
            # Only a stream that moves shows that the server is well; opening and closing in turn does not.
            self._patience.succeeded()
        self._learn_run(frame.opened.until_run_id or frame.progress.until_run_id)
        if self._begin is None:
            self._begin = self._position = frame.after_sequence
        if frame.through_sequence < frame.after_sequence or frame.after_sequence > self._position:
            raise self._gap(f"a frame covers ({frame.after_sequence}, {frame.through_sequence}]")
        events = self._fresh(frame)
        if frame.through_sequence >= self._position:
            self._position = frame.through_sequence
            self._request.resume_token = frame.resume_token or self._request.resume_token
        return events

    def failed(self, error: SessionPlaneError) -> float:
        """Takes the end of a call that was not OK; after OK there is nothing to decide, the stream is over.

        Returns the seconds to wait before the next call. Raises the error itself if it is final, or came too
        often in a row without a frame that moved the stream.
        """
        return self._patience.failed(error)

    def _opened(self, opened: StreamOpened) -> None:
        if self._request.resume_token and opened.resume_result == ResumeResult.RESUME_RESULT_FRESH:
            raise self._gap("the server began afresh in spite of a resume token")
        if self._session_id and opened.session.session_id != self._session_id:
            raise self._gap(f"the stream came back with session {opened.session.session_id}")
        self._session_id = opened.session.session_id

    def _learn_run(self, run_id: str) -> None:
        if run_id and self._request.until == StreamUntil.STREAM_UNTIL_RUN_END:
            self._request.until_run_id = run_id

    def _fresh(self, frame: StreamEventsResponse) -> Sequence[Event]:
        events = frame.batch.events
        if frame.after_sequence == frame.through_sequence:
            return self._outside_any_range(events)
        last = frame.after_sequence
        for event in events:
            if not last < event.sequence <= frame.through_sequence:
                raise self._gap(f"event {event.sequence} is out of order in its frame")
            last = event.sequence
        if self._whole and len(events) != frame.through_sequence - frame.after_sequence:
            raise self._gap(f"a frame that ends at {frame.through_sequence} has {len(events)} events")
        if frame.after_sequence == self._position:
            return events
        return [event for event in events if event.sequence > self._position]

    def _outside_any_range(self, events: Sequence[Event]) -> Sequence[Event]:
        fresh = [event for event in events if self._is_new_terminal(event)]
        for event in fresh:
            self._compacted_terminal = event.sequence
        return fresh

    def _is_new_terminal(self, event: Event) -> bool:
        if event.kind != event_pb2.EVENT_KIND_RUN_TERMINAL or event.sequence > self._position:
            raise self._gap(f"event {event.sequence} came in a frame that covers nothing")
        return event.sequence <= (self._begin or 0) and event.sequence != self._compacted_terminal

    def _gap(self, found: str) -> StreamGap:
        return StreamGap(
            StatusCode.DATA_LOSS,
            "STREAM_GAP",
            f"The stream does not go on after sequence {self._position}, where it was: {found}.",
            {"session_id": self._session_id, "last_sequence": str(self._position)},
        )
