"""A control plane on a real file, driven use case by use case, with time and ids that a test decides about.

`Bench` says each use case in a few words; what it returns is what the use case returned. What it reads and checks
is `PlaneReader`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sessionplane.domain.errors import StorageFull
from sessionplane.domain.events import Custom, OutputDelta, Published
from sessionplane.domain.freshness import FreshnessSettings
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import Run, RunOutcome, RunPolicy, RunReport
from sessionplane.domain.sessions import Interaction, Session
from sessionplane.plane import (
    claims,
    closing,
    editing,
    interrupts,
    lifecycle,
    runners,
    runs,
    sessions,
    succession,
)
from sessionplane.plane.admission import RunSpec
from sessionplane.plane.claims import Claimed, ClaimRequest, Holder
from sessionplane.plane.closing import CloseRequest
from sessionplane.plane.context import Call, Context
from sessionplane.plane.editing import UpdateRequest
from sessionplane.plane.interrupts import Interrupted, InterruptRequest
from sessionplane.plane.lifecycle import SuspendRequest
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.resolving import Resolved, ResolveRequest
from sessionplane.plane.runners import Finished, FinishRequest, Heard, PublishRequest
from sessionplane.plane.runs import Started, StartRequest
from sessionplane.plane.sessions import RunView, View
from sessionplane.plane.stopping import Wish
from sessionplane.plane.succession import Deleted, DeleteRequest, ResetRequest
from sessionplane.rpc.streams import read_mark
from sessionplane.store import codec
from sessionplane.store.contract import Tx
from sessionplane.store.sqlite import SqliteStore, open_store
from tests.support.clock import Counting, FakeClock
from tests.support.reading import KEY, NAMESPACE, PlaneReader, ref
from tests.support.rows import broken
from tests.support.stores import lay_out

T = TypeVar("T")

LEASE_MS = 15_000
START_MS = 60_000
RUN_MS = 600_000
GRACE_MS = 10_000
FRESH = FreshnessSettings()
"""No session is ever stale."""
CLOSE_MS = 12_000


def call(rpc: str, request_id: str = "", content: str = "") -> Call:
    """Say who calls what; calls with the same content are the same request."""
    return Call(namespace=NAMESPACE, rpc=rpc, request_id=request_id, fingerprint=content.encode())


def spec(where: str = KEY, text: str = "", **given: Any) -> RunSpec:
    """Say what to run; the same text and policy for the same session are the same work."""
    policy = given.get("policy", RunPolicy.ENQUEUE)
    values: dict[str, Any] = {"start_timeout_ms": START_MS, "run_timeout_ms": RUN_MS}
    values["input"] = codec.run_pb2.Payload(text=text).SerializeToString() if text else b""
    values["fingerprint"] = f"{where} {text} {policy}".encode()
    return RunSpec(**values | given)


class Bench(PlaneReader):
    """One plane. `reopen` is a restart of the process."""

    def __init__(self, database: Path, limits: Limits, freshness: FreshnessSettings = FRESH) -> None:
        self.database = database
        self.limits = limits
        self.freshness = freshness
        self.clock = FakeClock()
        self.ids = Counting()
        self.forged = False
        """Whether rows were written past the use cases."""
        self.tokens: dict[str, str] = {}
        """The lease token that a run was last claimed with."""

    def open(self) -> None:
        """Open the file; `ControlPlane.start` is up to the test."""
        lay_out(self.database)
        self.store: SqliteStore = open_store(self.database, limits=self.limits)
        self.plane = ControlPlane(
            self.store,
            clock=self.clock,
            new_id=self.ids.new_id,
            new_secret=self.ids.new_secret,
            read_mark=read_mark,
            limits=self.limits,
            keys=KeySettings(),
            freshness=self.freshness,
        )

    async def reopen(self, *, after_ms: int = 0) -> None:
        """Stop, be away for a while, and start again."""
        await self.store.close()
        self.clock.advance(after_ms)
        self.open()
        await self.plane.start()

    async def do(self, use_case: Callable[..., T], *given: Any, **named: Any) -> T:
        """Run a use case in a transaction of its own."""
        return await self.plane.execute(lambda tx, context: use_case(tx, *given, context, **named))

    async def write(self, change: Callable[[Tx, Context], T]) -> T:
        """Change rows past the use cases, to reach what none of them leads to."""
        self.forged = True
        return await self.plane.execute(change)

    async def remove(self, through: int, name: str = KEY) -> None:
        """Remove the beginning of a log, as retention does it, whatever its runs say."""
        session_id = self.session(name).session_id
        await self.plane.execute(
            lambda tx, _: tx.remove_events(session_id, through=through, bytes_max=1 << 30)
        )

    async def settled(self) -> None:
        """Wait until everything that was submitted is committed."""
        await self.plane.execute(lambda _, __: None)

    async def resolve(
        self,
        name: str = KEY,
        *,
        bind: str = "",
        request_id: str = "",
        content: str = "",
        interaction: Interaction = Interaction.USER,
        **more: Any,
    ) -> Resolved:
        """Resolve, as the plane does it."""
        return await self.plane.resolve(
            ResolveRequest(
                call=call("ResolveSession", request_id, content or name),
                session=ref(name),
                bind_session_id=bind,
                interaction=interaction,
                **more,
            )
        )

    async def start(
        self,
        name: str | None = KEY,
        text: str = "",
        *,
        request_id: str = "",
        content: str = "",
        interaction: Interaction = Interaction.USER,
        **given: Any,
    ) -> Started:
        """Start a run; in a new session if none is named."""
        request = StartRequest(
            call=call("StartRun", request_id, content or f"{name} {text}"),
            session=None if name is None else ref(name),
            run=spec(name or "", text, **given),
            interaction=interaction,
        )
        return await self.do(runs.start, request)

    async def reset(
        self, name: str = KEY, *, expected: str = "", request_id: str = "", content: str = ""
    ) -> Session:
        """Move a key to a new session."""
        request = ResetRequest(
            call=call("ResetSession", request_id, content or name),
            session=ref(name),
            expected_session_id=expected,
        )
        return (await self.do(succession.reset, request)).session

    async def delete(self, name: str = KEY, *, request_id: str = "", content: str = "") -> Deleted:
        """Delete a session."""
        request = DeleteRequest(call=call("DeleteSession", request_id, content or name), session=ref(name))
        return await self.do(succession.delete, request)

    async def update(
        self, name: str = KEY, *, request_id: str = "", content: str = "", **given: Any
    ) -> Session:
        """Change labels and name."""
        request = UpdateRequest(
            call=call("UpdateSession", request_id, content or f"{name} {given}"), session=ref(name), **given
        )
        return (await self.do(editing.update, request)).session

    async def inject(self, text: str = "", run_id: str = "", *, name: str = KEY, **given: Any) -> Started:
        """Send an input to the active run."""
        return await self.start(name, text, run_id=run_id, policy=RunPolicy.INJECT, **given)

    async def claim(
        self, run_id: str = "", *, pool: str = "", request_id: str = "", lease_ms: int = LEASE_MS
    ) -> Claimed | None:
        """Ask for a run once, without waiting; remember its lease token."""
        request = ClaimRequest(
            call=call("ClaimRun", request_id, f"{run_id} {pool}"),
            run_id=run_id,
            pool=pool,
            runner_id="runner",
            lease_ms=lease_ms,
        )
        claimed = await self.do(claims.claim, request)
        if claimed is not None and claimed.lease is not None:
            self.tokens[claimed.run.run.run_id] = claimed.lease.token
        return claimed

    def holder(self, run_id: str, token: str = "") -> Holder:
        """Show the lease that a run was last claimed with, or another."""
        return Holder(
            namespace=NAMESPACE, run_id=run_id, lease_token=token or self.tokens.get(run_id, "none")
        )

    async def running(self, name: str = KEY, text: str = "", **given: Any) -> Run:
        """Start a run and claim it."""
        run_id = (await self.start(name, text, **given)).run.run_id
        claimed = await self.claim(run_id)
        assert claimed is not None
        return claimed.run.run

    async def active(self, name: str = KEY) -> str:
        """Have a run under way that a subscriber follows; returns the session's id."""
        run = await self.running(name)
        await self.attach(run.session_id)
        await self.publish(run.run_id, "a")
        return run.session_id

    async def publish(
        self,
        run_id: str,
        *events: str | Published,
        first: int = 0,
        token: str = "",
        taken: Sequence[str] = (),
    ) -> Heard:
        """Publish text, or whatever else, and say which inputs were taken."""
        bodies = [OutputDelta(text=each) if isinstance(each, str) else each for each in events]
        request = PublishRequest(
            holder=self.holder(run_id, token),
            events=bodies,
            first_run_sequence=first,
            acknowledged_input_ids=taken,
        )
        return await self.do(runners.publish, request)

    async def heartbeat(
        self, run_id: str, *, acknowledged: str = "", taken: Sequence[str] = (), token: str = ""
    ) -> Heard:
        """Say that the runner lives."""
        return await self.do(
            runners.heartbeat,
            self.holder(run_id, token),
            acknowledged_interrupt_id=acknowledged,
            acknowledged_input_ids=taken,
        )

    async def finish(
        self,
        run_id: str,
        text: str | None = None,
        *,
        outcome: RunOutcome = RunOutcome.SUCCEEDED,
        token: str = "",
        **report: Any,
    ) -> Finished:
        """Report how the run ended."""
        given = RunReport(outcome=outcome, output_text=text, **report)
        request = FinishRequest(
            holder=self.holder(run_id, token), report=given, fingerprint=repr(given).encode()
        )
        return await self.do(runners.finish, request)

    async def release(self, run_id: str, *, request_id: str = "", token: str = "") -> RunView:
        """Give the run back."""
        return await self.do(claims.release, call("ReleaseRun", request_id), self.holder(run_id, token))

    async def interrupt(
        self,
        name: str = "",
        *,
        run_id: str = "",
        request_id: str = "",
        content: str = "",
        mode: InterruptMode = InterruptMode.GRACEFUL,
        grace_ms: int = GRACE_MS,
        reason: str = "",
        then: str | None = None,
        then_id: str = "",
        **more: Any,
    ) -> Interrupted:
        """Ask that a run stop: the named one, or the active one of a session; `then` do something else instead."""
        if then is not None:
            more["follow_up"] = spec(name or run_id, then, run_id=then_id)
        request = InterruptRequest(
            call=call("Interrupt", request_id, content or f"{name} {run_id} {mode} {then}"),
            session=ref(name) if name else None,
            run_id=run_id,
            wish=Wish(mode=mode, grace_ms=grace_ms, reason=reason),
            **more,
        )
        return await self.do(interrupts.interrupt, request)

    async def suspend(
        self, name: str = KEY, *, grace_ms: int = GRACE_MS, request_id: str = "", content: str = ""
    ) -> View:
        """Say that the client goes to the background."""
        request = SuspendRequest(
            call=call("SuspendSession", request_id, content or name), session=ref(name), grace_ms=grace_ms
        )
        return await self.do(lifecycle.suspend, request)

    async def close(
        self,
        name: str = KEY,
        *,
        timeout_ms: int = CLOSE_MS,
        reason: str = "",
        request_id: str = "",
        content: str = "",
    ) -> View:
        """Ask that a session end."""
        request = CloseRequest(
            call=call("CloseSession", request_id, content or name),
            session=ref(name),
            timeout_ms=timeout_ms,
            reason=reason,
        )
        return await self.do(closing.close, request)

    async def attach(self, session_id: str) -> Session:
        """Count one more attached stream."""

        def use_case(tx: Tx, context: Context) -> Session:
            return lifecycle.attach(tx, sessions.require(tx, NAMESPACE, session_id), context)

        return await self.plane.execute(use_case)

    async def detach(self, session_id: str) -> None:
        """Count one less."""
        await self.do(lifecycle.detach, NAMESPACE, session_id)

    async def pass_time(self, ms: int) -> None:
        """Let time pass at the pace of the sweep, so that no sweep comes late."""
        step = self.limits.sweep_ms
        while ms > 0:
            self.clock.advance(min(step, ms))
            ms -= step
            await self.plane.sweeper.sweep()
            await self.plane.compactor.retain()


def custom(kind: str) -> Custom:
    """An event of the runner's own."""
    return Custom(type=kind)


def lose_the_commit(tx: Any, _context: object) -> None:
    """A use case that ends the transaction of its whole group, as a full disk does."""
    tx._connection.execute("ROLLBACK")
    raise StorageFull


@asynccontextmanager
async def open_bench(
    database: Path, *, freshness: FreshnessSettings = FRESH, **bounds: int
) -> AsyncIterator[Bench]:
    """Open a plane, and close its file in the end, in which nothing may be broken then."""
    made = Bench(database, Limits(**bounds), freshness)
    made.open()
    await made.plane.start()
    try:
        yield made
    finally:
        await made.store.close()
    assert made.forged or broken(database) == {}
