"""The one who looks in the end: whether every run has ended, also those that no caller was told of."""

from __future__ import annotations

from sessionplane.proof.sim.clients import Actor, World
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import RUN_STATE_FINISHED, RUN_STATE_PENDING, RUN_STATE_QUEUED
from sessionplane.v1.session_pb2 import SessionRef


class Witness(Actor):
    """Looks, and changes nothing."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.ended: set[str] = set()

    async def look(self, run_id: str) -> None:
        """Look at a run, and at the whole line of one that waits in it. One that does not exist has ended as well."""
        answer = await self.ask("GetRun", pb.GetRunRequest(run_id=run_id))
        state = answer.run.state if answer is not None else 0
        self.world.waiting.pop(run_id, None)
        if self.refusal or state == RUN_STATE_FINISHED:
            self.ended.add(run_id)
        elif state == RUN_STATE_PENDING:
            self.world.waiting[run_id] = None
        elif state == RUN_STATE_QUEUED:
            await self._look_at(answer.run.session_id)

    async def look_around(self) -> None:
        """Find every session and every run that there is, and how far each log goes."""
        listed = await self.ask("ListSessions", pb.ListSessionsRequest(page_size=100, show_internal=True))
        for session in listed.sessions if listed is not None else ():
            await self._look_at(session.session_id)

    async def _look_at(self, session_id: str) -> None:
        """Find all runs of a session."""
        request = pb.ListRunsRequest(session=SessionRef(session_id=session_id), page_size=100)
        listed = await self.ask("ListRuns", request)
        for run in listed.runs if listed is not None else ():
            self.world.runs.setdefault(run.run_id, run.pool)
            if run.state == RUN_STATE_FINISHED:
                self.ended.add(run.run_id)
            else:
                # It was on its way when it was looked for.
                self.ended.discard(run.run_id)
