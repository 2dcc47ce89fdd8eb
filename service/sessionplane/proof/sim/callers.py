"""Callers: they resolve, start, look, wait and interrupt, many at once and in many spellings."""

from __future__ import annotations

from sessionplane.proof.sim.clients import POOL, Actor, World
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef

_RUN_POLICIES = (
    run_pb2.RUN_POLICY_ENQUEUE,
    run_pb2.RUN_POLICY_REJECT,
    run_pb2.RUN_POLICY_INTERRUPT,
    run_pb2.RUN_POLICY_INJECT,
)
_RUN_POLICY_WEIGHTS = (8, 1, 3, 4)
_MISSING = (
    session_pb2.MISSING_POLICY_UNSPECIFIED,
    session_pb2.MISSING_POLICY_CREATE,
    session_pb2.MISSING_POLICY_FAIL,
)
_CONFLICT = (
    session_pb2.CONFLICT_POLICY_UNSPECIFIED,
    session_pb2.CONFLICT_POLICY_USE_EXISTING,
    session_pb2.CONFLICT_POLICY_FAIL,
    session_pb2.CONFLICT_POLICY_REPLACE,
)
_ENDED = (
    session_pb2.ENDED_POLICY_UNSPECIFIED,
    session_pb2.ENDED_POLICY_CREATE_NEW,
    session_pb2.ENDED_POLICY_FAIL,
)
_INTERACTIONS = (session_pb2.INTERACTION_USER, session_pb2.INTERACTION_SYSTEM)
_VISIBILITIES = (
    session_pb2.VISIBILITY_UNSPECIFIED,
    session_pb2.VISIBILITY_VISIBLE,
    session_pb2.VISIBILITY_INTERNAL,
)
_MODES = (
    run_pb2.INTERRUPT_MODE_GRACEFUL,
    run_pb2.INTERRUPT_MODE_GRACEFUL,
    run_pb2.INTERRUPT_MODE_FORCE,
)


class Caller(Actor):
    """One caller."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        # What it started under ids of its own.
        self._started: list[pb.StartRunRequest] = []

    async def live(self) -> None:
        """Do a number of things, one after the other."""
        for _ in range(self.world.plan.steps):
            await self.chance.choices(self._acts, self._weights)[0](self)
            await self.think()

    def _request_id(self) -> str:
        return self.fresh() if self.happens(0.8) else ""

    def _spec(self) -> run_pb2.RunSpec:
        return run_pb2.RunSpec(
            run_id=self.fresh(".run") if self.happens(0.6) else "",
            input=run_pb2.Payload(text=self.fresh(".input")),
            policy=self.chance.choices(_RUN_POLICIES, _RUN_POLICY_WEIGHTS)[0],
            pool=POOL if self.happens(0.6) else "",
        )

    def _hear_of_coming(self, spec: run_pb2.RunSpec) -> None:
        """A run id of one's own is known before the answer comes, and may become a run though none does."""
        if spec.run_id:
            self.world.runs.setdefault(spec.run_id, spec.pool)

    async def resolve(self) -> None:
        await self.ask(
            "ResolveSession", pb.ResolveSessionRequest(session=self.ref(), request_id=self._request_id())
        )

    async def resolve_otherwise(self) -> None:
        """Resolve with policies, sometimes with a run."""
        request = pb.ResolveSessionRequest(
            session=self.ref(),
            missing_policy=self.chance.choice(_MISSING),
            conflict_policy=self.chance.choice(_CONFLICT),
            ended_policy=self.chance.choice(_ENDED),
            interaction=self.chance.choice(_INTERACTIONS),
            visibility=self.chance.choice(_VISIBILITIES),
            request_id=self._request_id(),
        )
        if (
            request.conflict_policy == session_pb2.CONFLICT_POLICY_REPLACE
            and self.happens(0.3)
            and self.world.sessions
        ):
            request.expected_session_id = self.chance.choice(list(self.world.sessions))
        if self.happens(0.3):
            request.run.CopyFrom(self._spec())
            self._hear_of_coming(request.run)
        await self.ask("ResolveSession", request)

    async def start(self) -> None:
        request = pb.StartRunRequest(session=self.ref(), run=self._spec(), request_id=self._request_id())
        self._hear_of_coming(request.run)
        if request.run.run_id:
            self._started.append(request)
        await self.ask("StartRun", request)

    async def start_again(self) -> None:
        """Start a run that was started before, under its own id alone: whoever lost all else still has that."""
        if self._started:
            again = pb.StartRunRequest()
            again.CopyFrom(self.chance.choice(self._started))
            again.request_id = ""
            await self.ask("StartRun", again)

    async def start_keyless(self) -> None:
        """Start a run in a session without a key, and bind one to it later."""
        request = pb.StartRunRequest(run=self._spec(), request_id=self.fresh())
        self._hear_of_coming(request.run)
        started = await self.ask("StartRun", request)
        if started is not None and self.happens(0.7):
            await self.think()
            # A key that nobody has yet, or one that somebody may have.
            key = SessionRef(key=self.fresh(".Bound")) if self.happens(0.5) else self.ref()
            bind = pb.ResolveSessionRequest(
                session=key, bind_session_id=started.session.session_id, request_id=self._request_id()
            )
            await self.ask("ResolveSession", bind)

    async def look(self) -> None:
        await self.ask("GetSession", pb.GetSessionRequest(session=self.ref()))

    async def look_at_run(self) -> None:
        run_id = self.some_run()
        if run_id:
            await self.ask("GetRun", pb.GetRunRequest(run_id=run_id))

    async def wait(self) -> None:
        run_id = self.some_run()
        if run_id:
            await self.ask("WaitRun", pb.WaitRunRequest(run_id=run_id), timeout_s=1.0, times=1)

    async def interrupt(self) -> None:
        request = pb.InterruptRequest(
            mode=self.chance.choice(_MODES), reason=self.fresh(".why"), request_id=self._request_id()
        )
        run_id = self.some_run()
        if run_id and self.happens(0.5):
            request.run_id = run_id
        else:
            request.session.CopyFrom(self.ref())
            if run_id and self.happens(0.3):
                request.expected_run_id = run_id
        if self.happens(0.2):
            request.drop_queued = True
        if self.happens(0.2):
            request.follow_up.CopyFrom(self._spec())
            self._hear_of_coming(request.follow_up)
        made = await self.ask("Interrupt", request)
        if made is not None and self.happens(0.4):
            await self.think()
            await self.ask("GetInterrupt", pb.GetInterruptRequest(interrupt_id=made.interrupt.interrupt_id))

    async def list_events(self) -> None:
        await self.ask("ListEvents", pb.ListEventsRequest(session=self.ref()))

    _acts = (
        resolve,
        resolve_otherwise,
        start,
        start_again,
        start_keyless,
        look,
        look_at_run,
        wait,
        interrupt,
        list_events,
    )
    _weights = (4, 2, 7, 1.5, 1, 1, 1, 2, 4, 0.5)
