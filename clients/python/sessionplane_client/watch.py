"""The sessions of a namespace, followed: for whoever keeps a copy of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from sessionplane.v1.session_pb2 import Session
from sessionplane.v1.session_service_pb2 import SessionRemoved, WatchSessionsRequest, WatchSessionsResponse

from .backoff import Backoff, Patience
from .errors import SessionPlaneError
from .following import Followed, OnReconnect

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall


class SessionWatch(Followed[WatchSessionsRequest, WatchSessionsResponse, Session | SessionRemoved]):
    """Each session as it is, and then whenever it changed or was deleted; iterate it inside `async with`.

    An item is a Session, to put into the copy under its `session_id`, or a SessionRemoved, to take out. A session that
    changed several times may come once. `caught_up` turns true when everything that existed at the beginning (or that
    changed since the token) was handed out, and `on_caught_up` is called then. It ends by itself never; it raises a
    SessionPlaneError when it cannot go on. After TokenCompacted begin again without a token, and drop what has not come
    again before `caught_up`.
    """

    def __init__(
        self,
        open_call: Callable[
            [WatchSessionsRequest], UnaryStreamCall[WatchSessionsRequest, WatchSessionsResponse]
        ],
        request: WatchSessionsRequest,
        *,
        backoff: Backoff,
        on_reconnect: OnReconnect | None = None,
        on_caught_up: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(open_call, on_reconnect=on_reconnect)
        self._asked = WatchSessionsRequest()
        self._asked.CopyFrom(request)
        self._patience = Patience(backoff, random.random)
        self._on_caught_up = on_caught_up
        self._handed_out = request.resume_token
        self.caught_up = False

    @property
    def token(self) -> str:
        """A resume token that covers nothing but what was handed out; empty before anything was."""
        return self._handed_out if self._waiting else self._asked.resume_token

    def _request(self) -> WatchSessionsRequest:
        return self._asked

    def _failed(self, error: SessionPlaneError) -> float:
        return self._patience.failed(error)

    def _receive(self, frame: WatchSessionsResponse) -> None:
        self._patience.succeeded()
        self._handed_out, self._asked.resume_token = self._asked.resume_token, frame.resume_token
        match frame.WhichOneof("frame"):
            case "session":
                self._waiting.append(frame.session)
            case "removed":
                self._waiting.append(frame.removed)
            case "caught_up" if not self.caught_up:
                self.caught_up = True
                if self._on_caught_up:
                    self._on_caught_up()
