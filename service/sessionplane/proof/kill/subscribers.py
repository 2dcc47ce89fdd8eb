"""Subscribers: they follow sessions and runs, lose their stream with the server, and go on by its token."""

from __future__ import annotations

from contextlib import aclosing

from sessionplane.proof.history.line import Lost, Refused
from sessionplane.proof.kill.world import Actor, Busy
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb


class Subscriber(Actor):
    """Follows one thing through as many streams as it takes, then the next."""

    async def live(self) -> None:
        """Follow until everything is over, and has come."""
        while not self.world.over.is_set():
            await self._follow(self._wish())

    def _wish(self) -> pb.StreamEventsRequest:
        """Choose what to follow: a busy key's session from its first event on, or a run to its end."""
        request = pb.StreamEventsRequest(
            start=pb.STREAM_START_OLDEST,
            presence=self.chance.choice(session_pb2.Presence.values()),
            subscriber_name=self.name,
        )
        run_id = self.some_run()
        if run_id and self.happens(0.3):
            request.run_id = run_id
            request.until = pb.STREAM_UNTIL_RUN_END
        else:
            request.resolve.session.CopyFrom(self.ref(self.chance.choice(Busy)))
        return request

    async def _follow(self, request: pb.StreamEventsRequest) -> None:
        """Follow until it ends, or the subscriber has had enough."""
        while True:
            try:
                if not await self._read(request):
                    return
            except Lost:
                await self.think(0.1)
            except Refused as refused:
                if refused.refusal.code != "UNAVAILABLE":
                    return

    async def _read(self, request: pb.StreamEventsRequest) -> bool:
        """Read for a while and keep the place in `request`; returns whether to come back. Raises Lost and Refused."""
        patience = self.chance.choice((5, 50, 500))
        calm = 0
        async with aclosing(self.line.follow(request)) as frames:
            async for frame in frames:
                request.resume_token = frame.resume_token
                patience -= 1
                calm = calm + 1 if self.world.over.is_set() and frame.progress.caught_up else 0
                if calm > 1:  # What came first may have been on its way before; what comes behind it is news.
                    return False
                if patience <= 0 and not self.world.ending:
                    return self.happens(0.8)
        return False
