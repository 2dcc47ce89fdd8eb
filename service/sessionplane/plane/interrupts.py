"""Use cases of interrupts as callers see them: stop a run, and what waits behind it, and do something else instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessionplane.domain import routing
from sessionplane.domain.errors import InterruptNotFound, KeyNotBound
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Interaction, Session
from sessionplane.plane import admission, lane, runs, sessions, stopping
from sessionplane.plane.admission import RUN_ID, RunSpec
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import RunView, SessionRef, find, require
from sessionplane.plane.stopping import Wish
from sessionplane.store.contract import ReadTx, Request, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRequest:
    """Asks that a run stop: the active one of a session, or one by its id. `drop_queued` ends what waits as well, and
    `follow_up` is started instead.
    """

    call: Call
    session: SessionRef | None = None
    run_id: str = ""
    expected_run_id: str = ""
    wish: Wish
    drop_queued: bool = False
    follow_up: RunSpec | None = None

    @property
    def follow_up_id(self) -> str:
        """The id of the follow-up; empty if there is none, or it has none yet."""
        return self.follow_up.run_id if self.follow_up is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The interrupt at its present stage, with its session, and the run if there was one to stop; the run that follows,
    if one was asked for, and how many waiting runs and inputs were dropped.
    """

    interrupt: Interrupt
    session: Session
    run: RunView | None
    follow_up: RunView | None = None
    dropped: int = 0


def interrupt(tx: Tx, request: InterruptRequest, context: Context) -> Interrupted:
    """Record the wish and do what can be done at once.

    Raises RequestIdReused, SessionNotFound, RunNotFound and KeyNotBound; with a follow-up RunIdReused, SessionEnded and
    RunQueueFull, and not KeyNotBound: its session is created.
    """
    namespace = request.call.namespace
    repeated = recall(tx, request.call)
    if repeated is not None:
        return _repeated(tx, namespace, repeated)
    request = replace(request, follow_up=_with_id(request.follow_up, context))
    starts = request.follow_up is not None and runs.find_known(tx, namespace, request.follow_up) is None
    session, run = _target(tx, request, context, creates=starts)
    kept = {request.follow_up_id, run.run_id if run is not None else ""}
    dropped = lane.drop_waiting(tx, session, kept, context) if _drops(run, request) else 0
    made = _stop(tx, session, run, request, context, starts=starts)
    remember(
        tx,
        request.call,
        context,
        session_id=session.session_id,
        run_id=request.follow_up_id,
        interrupt_id=made.interrupt_id,
        detail=str(dropped),
    )
    return _shown(tx, namespace, made.interrupt_id, request.follow_up_id, dropped)


def get_interrupt(tx: ReadTx, namespace: str, interrupt_id: str) -> Interrupted:
    """Read an interrupt at its present stage. Raises InterruptNotFound."""
    found = tx.interrupt(namespace, interrupt_id)
    if found is None:
        raise InterruptNotFound(interrupt_id=interrupt_id)
    run = runs.get_run(tx, namespace, found.run_id) if found.run_id else None
    return Interrupted(interrupt=found, session=require(tx, namespace, found.session_id), run=run)


def _repeated(tx: ReadTx, namespace: str, known: Request) -> Interrupted:
    return _shown(tx, namespace, known.interrupt_id, known.run_id, int(known.detail))


def _shown(tx: ReadTx, namespace: str, interrupt_id: str, follow_up_id: str, dropped: int) -> Interrupted:
    """Show what a call led to, as it is now."""
    follow_up = runs.get_run(tx, namespace, follow_up_id) if follow_up_id else None
    return replace(get_interrupt(tx, namespace, interrupt_id), follow_up=follow_up, dropped=dropped)


def _with_id(spec: RunSpec | None, context: Context) -> RunSpec | None:
    """Return what to run under the id that it has or gets."""
    if spec is None or spec.run_id:
        return spec
    return replace(spec, run_id=context.new_id(RUN_ID))


def _target(
    tx: Tx, request: InterruptRequest, context: Context, *, creates: bool
) -> tuple[Session, Run | None]:
    """Return the session, and the run that would be stopped. `creates` makes the session of a new key."""
    namespace = request.call.namespace
    if request.session is None:
        run = runs.require_run(tx, namespace, request.run_id)
        return require(tx, namespace, run.session_id), run
    session = find(tx, namespace, request.session)
    if session is not None:
        return session, tx.run(namespace, session.active_run_id) if session.active_run_id else None
    if not creates:
        raise KeyNotBound(canonical_key=request.session.key)
    key = request.session.key
    return sessions.create(tx, context, namespace=namespace, key=key, interaction=Interaction.USER), None


def _stop(
    tx: Tx, session: Session, run: Run | None, request: InterruptRequest, context: Context, *, starts: bool
) -> Interrupt:
    """Stop the run, or record that there is nothing to stop; `starts` says that the follow-up is new.

    Where the lane is taken, the follow-up stands in line before the other run ends: so it is the next, and a session
    that was all of that run goes on. A session that must come back first ends the other one by that, at the latest.
    """
    in_line = routing.route(Verb.START_RUN, session) is Action.ADMIT
    if starts and in_line:
        _start_first(tx, session, request, context)
    if run is not None and _is_meant(run, request):
        made = stopping.stop(tx, run, request.wish, context)
    else:
        made = stopping.no_op(tx, session, request.wish, context)
    if starts and not in_line:
        _start_first(tx, session, request, context)
    return made


def _is_meant(run: Run, request: InterruptRequest) -> bool:
    """Say whether this run is to be stopped. A repeat of the call never stops what it was to start."""
    if run.state is RunState.FINISHED or run.run_id == request.follow_up_id:
        return False
    return request.expected_run_id in {"", run.run_id}


def _drops(run: Run | None, request: InterruptRequest) -> bool:
    """Say whether what waits ends as well. Behind another run than the one that was expected it came later than the
    wish, and the wish is not about it.
    """
    late = request.expected_run_id and not (run is not None and _is_meant(run, request))
    return request.drop_queued and not late


def _start_first(tx: Tx, session: Session, request: InterruptRequest, context: Context) -> None:
    """Start the follow-up in the session as it is by now, before everything that waits."""
    if request.follow_up is None:
        return
    session = require(tx, session.namespace, session.session_id)
    session = admission.ready(tx, session, context)
    admission.admit_first(tx, session, request.follow_up, Interaction.USER, context)
