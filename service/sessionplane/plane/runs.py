"""Use cases of runs as callers see them: start, read and list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sessionplane.domain.errors import PageTokenInvalid, RunIdReused, RunNotFound
from sessionplane.domain.runs import Run, RunDisposition, RunState
from sessionplane.domain.sessions import Interaction, MoveReason, Session
from sessionplane.plane import admission, inputs, pointers, sessions
from sessionplane.plane.admission import RunSpec
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import RunView, SessionRef, View
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Starts a run in a session; `session` None means a new one without a key."""

    call: Call
    session: SessionRef | None
    run: RunSpec
    interaction: Interaction = Interaction.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of the wish to run. `input_id` is the id of the run that the input started or would have started;
    `interrupt_id` is empty unless the run's policy interrupted another one.
    """

    shown: RunView
    disposition: RunDisposition
    view: View
    input_id: str
    interrupt_id: str = ""

    @property
    def run(self) -> Run:
        """The run's row."""
        return self.shown.run


def require_run(tx: ReadTx, namespace: str, run_id: str) -> Run:
    """Return the run of that very id. Raises RunNotFound."""
    run = tx.run(namespace, run_id)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return run


def get_run(tx: ReadTx, namespace: str, run_id: str) -> RunView:
    """Read a run; by an injected input's id, the one that it waits for or that took it. Raises RunNotFound."""
    run = inputs.run_named(tx, namespace, run_id)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return sessions.view_run(tx, run, sessions.require_row(tx, namespace, run.session_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some of a session's runs, newest first, and whether more follow."""

    session: Session
    runs: Sequence[RunView]
    more: bool


def list_runs(
    tx: ReadTx,
    namespace: str,
    ref: SessionRef,
    *,
    states: Collection[RunState],
    before: tuple[int, str] | None,
    limit: int,
) -> RunPage:
    """Read a page of a session's runs in some states, without inputs, texts and results: those that were recorded
    before the last one of the page before, a first_sequence and its session's id.

    Raises SessionNotFound, KeyNotBound, and PageTokenInvalid if the key has moved to another session since.
    """
    session = sessions.require_named(tx, namespace, ref)
    sequence, session_id = before or (None, session.session_id)
    if session_id != session.session_id:
        raise PageTokenInvalid
    found = tx.runs(session.session_id, states, before=sequence, limit=limit + 1)
    shown = [sessions.view_run(tx, run, session) for run in found[:limit]]
    return RunPage(session=session, runs=shown, more=len(found) > limit)


def start(tx: Tx, request: StartRequest, context: Context) -> Started:
    """Start a run: at once, in line, or not, as the session and the policy say.

    Raises RequestIdReused, RunIdReused, SessionNotFound, SessionEnded, RunInProgress, RunQueueFull.
    """
    namespace = request.call.namespace
    repeated = recall(tx, request.call)
    if repeated is not None:
        return show_started(
            tx,
            namespace,
            repeated.run_id,
            RunDisposition(repeated.detail),
            interrupt_id=repeated.interrupt_id,
        )
    known = find_known(tx, namespace, request.run)
    if known is not None:
        return known
    started = begin(tx, _find(tx, request, context), request.run, request.interaction, context)
    remember(
        tx,
        request.call,
        context,
        session_id=started.run.session_id,
        run_id=started.input_id,
        interrupt_id=started.interrupt_id,
        detail=started.disposition,
    )
    return started


def begin(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Started:
    """Start a run whose id is new in the session, which is brought back if it has ended.

    Raises SessionEnded, RunInProgress and RunQueueFull.
    """
    session = admission.ready(tx, session, context)
    admitted = admission.admit(tx, session, spec, interaction, context)
    return show_started(
        tx,
        session.namespace,
        admitted.run_id,
        admitted.disposition,
        interrupt_id=admitted.interrupt_id,
    )


def show_started(
    tx: ReadTx, namespace: str, run_id: str, disposition: RunDisposition, *, interrupt_id: str = ""
) -> Started:
    """Show what a start led to, as it is now."""
    found = get_run(tx, namespace, run_id)
    return Started(
        shown=found,
        disposition=disposition,
        view=sessions.view(tx, found.session),
        input_id=run_id,
        interrupt_id=interrupt_id,
    )


def find_known(tx: ReadTx, namespace: str, spec: RunSpec) -> Started | None:
    """Answer a known id: the run or the input wherever it is, if it is the same work. None if the id is new.

    Raises RunIdReused.
    """
    known = inputs.known_work(tx, namespace, spec.run_id) if spec.run_id else None
    if known is None:
        return None
    if known.fingerprint != spec.fingerprint:
        raise RunIdReused(run_id=spec.run_id, session_id=known.session_id)
    return show_started(tx, namespace, spec.run_id, RunDisposition.DUPLICATE)


def _find(tx: Tx, request: StartRequest, context: Context) -> Session:
    """Return the session that is meant: by key a new one if it is stale, created if there is none or nothing is
    named.
    """
    namespace = request.call.namespace
    session = sessions.find(tx, namespace, request.session) if request.session else None
    key = request.session.key if request.session else None
    if session is not None:
        by_user = key is not None and request.interaction is Interaction.USER
        if by_user and context.judge.is_stale(session, now_ms=context.now_ms):
            return pointers.hand_over(tx, session, MoveReason.ROLLED_OVER, context)
        return session
    return sessions.create(tx, context, namespace=namespace, key=key, interaction=request.interaction)
