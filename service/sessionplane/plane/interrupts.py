"""Use cases of interrupts as callers see them: ask that a run stop, and look how far that has come."""

from __future__ import annotations

from dataclasses import dataclass

from sessionplane.domain.errors import InterruptNotFound, KeyNotBound
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Session
from sessionplane.plane import runs, stopping
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import RunView, SessionRef, find, require
from sessionplane.plane.stopping import Wish
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRequest:
    """Asks that a run stop: the active one of a session, or one by its id."""

    call: Call
    session: SessionRef | None = None
    run_id: str = ""
    expected_run_id: str = ""
    wish: Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The interrupt at its present stage, with its session, and the run if there was one to stop."""

    interrupt: Interrupt
    session: Session
    run: RunView | None


def interrupt(tx: Tx, request: InterruptRequest, context: Context) -> Interrupted:
    """Record the wish and do what can be done at once.

    Raises RequestIdReused, SessionNotFound, KeyNotBound and RunNotFound.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return get_interrupt(tx, namespace, known.interrupt_id)
    session, run = _target(tx, request)
    wanted = request.expected_run_id
    if run is None or run.state is RunState.FINISHED or (wanted and wanted != run.run_id):
        made = stopping.no_op(tx, session, request.wish, context)
    else:
        made = stopping.stop(tx, run, request.wish, context)
    remember(tx, request.call, context, session_id=session.session_id, interrupt_id=made.interrupt_id)
    return get_interrupt(tx, namespace, made.interrupt_id)


def get_interrupt(tx: ReadTx, namespace: str, interrupt_id: str) -> Interrupted:
    """Read an interrupt at its present stage. Raises InterruptNotFound."""
    found = tx.interrupt(namespace, interrupt_id)
    if found is None:
        raise InterruptNotFound(interrupt_id=interrupt_id)
    run = runs.get_run(tx, namespace, found.run_id) if found.run_id else None
    return Interrupted(interrupt=found, session=require(tx, namespace, found.session_id), run=run)


def _target(tx: ReadTx, request: InterruptRequest) -> tuple[Session, Run | None]:
    """Return the session, and the run that would be stopped."""
    namespace = request.call.namespace
    if request.session is None:
        run = runs.require_run(tx, namespace, request.run_id)
        return require(tx, namespace, run.session_id), run
    session = find(tx, namespace, request.session)
    if session is None:
        raise KeyNotBound(canonical_key=request.session.key)
    return session, tx.run(namespace, session.active_run_id) if session.active_run_id else None
