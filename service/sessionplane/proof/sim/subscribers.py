"""Subscribers: they follow a session or a run, lose their stream, come back with a token, and some are slow."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionplane.proof.sim.clients import Actor
from sessionplane.proof.sim.flow import Reading
from sessionplane.proof.sim.network import Lost, Refused
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb

RESUMABLE = frozenset({"DRAINING", "SLOW_CONSUMER", "MAX_AGE"})
SLOW_S = 1.6
SHORT_S = 0.5
CALM_FRAMES = 2
"""One frame may have waited in the server since before the end; what comes behind it is news."""

_STARTS = (
    pb.STREAM_START_UNSPECIFIED,
    pb.STREAM_START_OLDEST,
    pb.STREAM_START_OLDEST,
    pb.STREAM_START_LATEST,
    pb.STREAM_START_ACTIVE_RUN,
)
_UNTIL = (
    pb.STREAM_UNTIL_UNSPECIFIED,
    pb.STREAM_UNTIL_UNSPECIFIED,
    pb.STREAM_UNTIL_RUN_END,
    pb.STREAM_UNTIL_SESSION_END,
    pb.STREAM_UNTIL_CAUGHT_UP,
)
_UNTIL_OF_A_RUN = (pb.STREAM_UNTIL_UNSPECIFIED, pb.STREAM_UNTIL_RUN_END)
_PRESENCES = (session_pb2.PRESENCE_ATTACHED, session_pb2.PRESENCE_ATTACHED, session_pb2.PRESENCE_OBSERVER)


class Subscriber(Actor):
    """One subscriber: follows one thing to its end, through as many streams as it takes, then the next."""

    async def live(self) -> None:
        """Follow one thing after another until the world is at its end."""
        while not self.world.ending:
            await self._follow(self._wish())
            await asyncio.sleep(0.05 + self.chance.random() * 0.5)

    def _wish(self) -> pb.StreamEventsRequest:
        """Choose what to follow, and until when."""
        request = pb.StreamEventsRequest(
            start=self.chance.choice(_STARTS),
            until=self.chance.choice(_UNTIL),
            presence=self.chance.choice(_PRESENCES),
        )
        run_id = self.some_run()
        if run_id and self.happens(0.25):
            request.run_id = run_id
            request.until = self.chance.choice(_UNTIL_OF_A_RUN)
        elif self.happens(0.7):
            request.resolve.session.CopyFrom(self.ref())
        else:
            request.session.CopyFrom(self.ref())
        return request

    async def _follow(self, request: pb.StreamEventsRequest) -> None:
        """Follow until what is waited for was delivered, or the server says that there is nothing to come back for."""
        for _ in range(12):
            reading = Reading(self.world.net, self.name, request, window=self.chance.choice((1, 2, 8)))
            try:
                again = await self._read(reading, request)
            except Refused as refused:
                again = refused.refusal.reason in RESUMABLE
            except Lost:
                again = True
            except TimeoutError:
                reading.leave()
                again = False
            if not again:
                return
            await asyncio.sleep(0.02 + self.chance.random() * 0.3)

    async def _read(self, reading: Reading, request: pb.StreamEventsRequest) -> bool:
        """Read frames and keep the place in `request`; True: come back. Raises Refused, Lost and TimeoutError."""
        slow = self.happens(self.world.plan.slowness)
        patience = self.chance.choice((2, 5, 50, 50))
        calm = 0
        while True:
            frame = await self._next(reading)
            if frame is None:
                return False
            _keep_place(request, frame)
            calm = calm + 1 if self.world.over and frame.progress.caught_up and reading.waited else 0
            if calm == CALM_FRAMES:
                reading.leave()
                return False
            if slow and not self.world.ending and self.happens(0.3):
                await asyncio.sleep(self.chance.random() * 2 * SLOW_S)
            patience -= 1
            if not patience and not self.world.ending:
                reading.leave()
                return True

    async def _next(self, reading: Reading) -> Any:
        """Read a frame; a subscriber waits as long as the world goes on, and then for what is due."""
        while True:
            try:
                return await reading.read(timeout_s=SHORT_S)
            except TimeoutError:
                if self.world.over:
                    raise


def _keep_place(request: pb.StreamEventsRequest, frame: Any) -> None:
    request.resume_token = frame.resume_token
    kind = frame.WhichOneof("frame")
    if kind in {"opened", "progress"}:
        named = getattr(frame, kind).until_run_id
        if named and request.until == pb.STREAM_UNTIL_RUN_END:
            request.until_run_id = named
