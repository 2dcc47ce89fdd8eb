"""A followed stream of events. The state lives in `resume`, the calls in `following`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import Run
from sessionplane.v1.session_pb2 import Session
from sessionplane.v1.session_service_pb2 import (
    StreamClosing,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOpened,
    StreamProgress,
)

from .backoff import Backoff
from .errors import SessionPlaneError
from .following import Followed, OnReconnect
from .resume import Resume

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

OnProgress: TypeAlias = Callable[[StreamProgress], None]


class EventStream(Followed[StreamEventsRequest, StreamEventsResponse, Event]):
    """The events of a session or run, each once and in order; iterate it inside `async with`.

    Entering waits for the server's first frame, so that what is started afterwards cannot be missed; with
    `pending_timeout_s` that is when the run exists. Iteration ends when what `until` names was delivered, and
    never otherwise; it raises a SessionPlaneError when the stream cannot go on. Every wait may be cancelled.

    `on_reconnect(error, delay_s)` is called before each wait for the next call, `on_progress(frame)` for each
    sign of life.
    """

    def __init__(
        self,
        open_call: Callable[
            [StreamEventsRequest], UnaryStreamCall[StreamEventsRequest, StreamEventsResponse]
        ],
        request: StreamEventsRequest,
        *,
        backoff: Backoff,
        on_reconnect: OnReconnect | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        super().__init__(open_call, on_reconnect=on_reconnect)
        self._resume = Resume(request, backoff=backoff, random=random.random)
        self._on_progress = on_progress
        self._handed_out = request.resume_token
        self.opened: StreamOpened | None = None
        self.closing: StreamClosing | None = None

    @property
    def token(self) -> str:
        """A resume token that covers nothing but what was handed out.

        While events of a frame are still waiting it is the token of the frame before: starting again from it
        repeats at most the events of one frame.
        """
        return self._handed_out if self._waiting else self._resume.token

    @property
    def session(self) -> Session | None:
        """The session as it was when the present call was opened."""
        return self.opened.session if self.opened else None

    @property
    def run(self) -> Run | None:
        """The run that is meant, as it was when the present call was opened."""
        return self.opened.run if self.opened and self.opened.HasField("run") else None

    @property
    def until_run_id(self) -> str:
        """With RUN_END: the run whose end is waited for, once it is known."""
        return self._resume.until_run_id

    def _request(self) -> StreamEventsRequest:
        return self._resume.request()

    def _failed(self, error: SessionPlaneError) -> float:
        return self._resume.failed(error)

    def _receive(self, frame: StreamEventsResponse) -> None:
        self._handed_out = self._resume.token
        self._waiting.extend(self._resume.receive(frame))
        match frame.WhichOneof("frame"):
            case "opened":
                self.opened = frame.opened
            case "closing":
                self.closing = frame.closing
            case "progress" if self._on_progress:
                self._on_progress(frame.progress)
