"""Watchers: they keep a copy of all sessions, through as many watches as it takes, and in the end it must be right."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionplane.proof.history.records import Call
from sessionplane.proof.sim.clients import Actor, World
from sessionplane.proof.sim.flow import Flow
from sessionplane.proof.sim.open_call import Outcome
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import Session

SILENCE_S = 0.5
TRIES = 8
"""So many signs of life may come in the end until the copy is right: what was under way takes its time."""


class Watcher(Actor):
    """One watcher, which sees hidden sessions too."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._token = ""
        self._copy: dict[str, Session] = {}
        self._wrong: list[str] = []
        self._tries = TRIES

    async def live(self) -> None:
        """Watch until the world is at its end and the copy is right."""
        self._wrong = ["nothing was seen"]
        while self._wrong and self._tries:
            await self._watch(patience=self.chance.choice((2, 6, 50)))
            await asyncio.sleep(self.chance.random() * 0.3)
        if self._wrong:
            self.world.broken.append(f"{self.name} watched, and its copy stays wrong: {self._wrong}")

    async def _watch(self, *, patience: int) -> None:
        """Read one watch, for so many frames at the most. One that is open in the end stays so: it must tell."""
        request = pb.WatchSessionsRequest(resume_token=self._token, show_internal=True)
        recorder = self.world.net.recorder
        call = recorder.called(self.name, "WatchSessions", request)
        flow = Flow(self.world.net, "WatchSessions", request, window=self.chance.choice((1, 2, 8)))
        last = pb.WatchSessionsResponse()
        while patience > 0 and self._wrong and self._tries:
            try:
                thing = await flow.next(timeout_s=SILENCE_S)
            except TimeoutError:
                continue
            if not isinstance(thing, bytes):
                self._ended(call, thing)
                return
            last = pb.WatchSessionsResponse.FromString(thing)
            self._take_in(last)
            patience -= not self.world.ending
            if self.world.over and last.HasField("caught_up"):
                self._tries -= 1
                self._wrong = await self._differences()
        flow.leave()
        recorder.answered(call, last)

    def _ended(self, call: Call, how: Outcome | str) -> None:
        """The server ended the watch, or it was cut."""
        recorder = self.world.net.recorder
        if isinstance(how, str) or how.refusal is None:
            recorder.lost(call, str(how))
            return
        recorder.refused(call, how.refusal)
        if how.refusal.reason == "TOKEN_COMPACTED":
            self._token, self._copy = "", {}

    def _take_in(self, frame: pb.WatchSessionsResponse) -> None:
        self._token = frame.resume_token
        if frame.HasField("removed"):
            self._copy.pop(frame.removed.session_id, None)
        elif frame.HasField("session"):
            now = frame.session
            before = self._copy.get(now.session_id, now)
            if (now.generation, now.final) < (before.generation, before.final):
                self.world.broken.append(f"{self.name} saw {now.session_id} go back to {_shown(now)}")
            self._copy[now.session_id] = now

    async def _differences(self) -> list[str]:
        """Return the sessions of which the copy and the list say different things."""
        request = pb.ListSessionsRequest(page_size=100, show_internal=True)
        listed = await self.ask("ListSessions", request)
        if listed is None:
            return ["nobody lists sessions"]
        truth = {session.session_id: _shown(session) for session in listed.sessions}
        copy = {session_id: _shown(session) for session_id, session in self._copy.items()}
        names = sorted(truth.keys() | copy.keys())
        return [
            f"{name}: {truth.get(name)} is {copy.get(name)}"
            for name in names
            if truth.get(name) != copy.get(name)
        ]


def _shown(session: Session) -> tuple[Any, ...]:
    """Return what a copy must be right about."""
    return (
        session.state,
        session.generation,
        session.key,
        session.final,
        session.visibility,
        session.display_name,
    )
