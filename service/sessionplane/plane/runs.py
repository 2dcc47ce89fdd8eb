"""Use cases that begin and end runs: start, read, and the one place where a run gets its terminal.

A session has a lane for one run, its active one; the others wait in line. Whoever ends a run goes through `end`,
which writes the terminal, frees the lane, lets the next one in and ends the session where the table says so, all
in the transaction of whatever ended the run. So a terminal can neither be forgotten nor come twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sessionplane.domain import routing
from sessionplane.domain.errors import (
    RunIdReused,
    RunInProgress,
    RunNotFound,
    RunQueueFull,
    SessionEnded,
)
from sessionplane.domain.events import InputRecorded, InputStage, InterruptChanged, RunChanged
from sessionplane.domain.interrupts import InterruptStage, check_stage
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import (
    Run,
    RunCause,
    RunDisposition,
    RunOutcome,
    RunPolicy,
    RunReport,
    RunState,
    RunTerminal,
    check_move,
)
from sessionplane.domain.sessions import Interaction, Session, SessionCause, allows
from sessionplane.plane import sessions
from sessionplane.plane.context import Call, Context, pool_topic, recall, remember, run_topic
from sessionplane.plane.leases import RunRef
from sessionplane.plane.sessions import SessionRef, View, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionplane.store.contract import ReadTx, Tx

RUN_ID = "run_"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What to run. `fingerprint` is the hash of what makes a known run id the same work again: the session as
    it was named, the input and the policy.
    """

    run_id: str = ""
    input: bytes = b""
    policy: RunPolicy = RunPolicy.ENQUEUE
    pool: str = ""
    start_timeout_ms: int
    run_timeout_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Starts a run in a session; `session` None means a new one without a key."""

    call: Call
    session: SessionRef | None
    run: RunSpec
    interaction: Interaction = Interaction.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of the wish to run."""

    run: Run
    disposition: RunDisposition
    view: View
    queue_position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as an answer shows it, with its session and its place in line (0 unless it is queued)."""

    run: Run
    session: Session
    queue_position: int


def require_run(tx: ReadTx, namespace: str, run_id: str) -> Run:
    """Return the run of that id. Raises RunNotFound."""
    run = tx.run(namespace, run_id)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return run


def get_run(tx: ReadTx, namespace: str, run_id: str) -> RunView:
    """Read a run. Raises RunNotFound."""
    run = require_run(tx, namespace, run_id)
    position = tx.queue_position(run) if run.state is RunState.QUEUED else 0
    return RunView(run=run, session=require(tx, namespace, run.session_id), queue_position=position)


def start(tx: Tx, request: StartRequest, context: Context) -> Started:
    """Start a run: at once, in line, or not, as the session and the policy say.

    Raises RequestIdReused, RunIdReused, SessionNotFound, SessionEnded, RunInProgress, RunQueueFull.
    """
    namespace = request.call.namespace
    repeated = recall(tx, request.call)
    if repeated is not None:
        return _started(tx, namespace, repeated.run_id, RunDisposition(repeated.detail))
    if request.run.run_id and tx.run(namespace, request.run.run_id) is not None:
        return _duplicate(tx, namespace, request.run)
    session = _ready(tx, request, context)
    run = _admit(tx, session, request, context)
    disposition = RunDisposition(run.state.value)
    remember(tx, request.call, context, session_id=session.session_id, run_id=run.run_id, detail=disposition)
    return _started(tx, namespace, run.run_id, disposition)


def _started(tx: ReadTx, namespace: str, run_id: str, disposition: RunDisposition) -> Started:
    found = get_run(tx, namespace, run_id)
    return Started(
        run=found.run,
        disposition=disposition,
        view=sessions.view(tx, found.session),
        queue_position=found.queue_position,
    )


def _duplicate(tx: ReadTx, namespace: str, spec: RunSpec) -> Started:
    """Answer a known run id: the run wherever it is, if it is the same work."""
    known = require_run(tx, namespace, spec.run_id)
    if known.fingerprint != spec.fingerprint:
        raise RunIdReused(run_id=spec.run_id, session_id=known.session_id)
    return _started(tx, namespace, known.run_id, RunDisposition.DUPLICATE)


def _ready(tx: Tx, request: StartRequest, context: Context) -> Session:
    """Return a session that takes runs: found, created or brought back, as the routing table says."""
    namespace = request.call.namespace
    session = sessions.find(tx, namespace, request.session) if request.session else None
    action = routing.route(Verb.START_RUN, session)
    if session is None:
        key = request.session.key if request.session else None
        return sessions.create(tx, context, namespace=namespace, key=key, interaction=request.interaction)
    if action is Action.REFUSE_FINAL:
        raise SessionEnded(session_id=session.session_id, successor=session.superseded_by)
    if action is Action.END_THEN_RESUME:
        # The end of its last run ends a closing session, too.
        session = end_all(tx, session, context)
    if action is not Action.ADMIT:
        session = sessions.move(tx, session, SessionCause.RESUMED, context)
    return session


def _admit(tx: Tx, session: Session, request: StartRequest, context: Context) -> Run:
    """Let the run in: into the lane if it is free, else as its policy says."""
    spec = request.run
    waits = bool(session.active_run_id)
    if waits and spec.policy is RunPolicy.REJECT:
        raise RunInProgress(active_run_id=session.active_run_id)
    if waits and session.queued_run_count >= context.limits.run_queue_max:
        raise RunQueueFull(limit=context.limits.run_queue_max)
    run_id = spec.run_id or context.new_id(RUN_ID)
    recorded = InputRecorded(input_id=run_id, stage=InputStage.RECORDED, input=spec.input)
    sequence = tx.append(session.session_id, recorded, run_id=run_id, at_ms=context.now_ms)
    run = Run(
        run_id=run_id,
        namespace=session.namespace,
        session_id=session.session_id,
        generation=session.generation,
        state=RunState.QUEUED,
        pool=spec.pool,
        place=sequence,
        input=spec.input,
        fingerprint=spec.fingerprint,
        labels=spec.labels,
        created_at_ms=context.now_ms,
        start_timeout_ms=spec.start_timeout_ms,
        run_timeout_ms=spec.run_timeout_ms,
        first_sequence=sequence,
        first_log_bytes=session.log_bytes,
    )
    if not waits:
        run = _into_lane(tx, run, None, context)
    else:
        changed = RunChanged(from_state=None, to_state=RunState.QUEUED)
        tx.append(session.session_id, changed, run_id=run_id, at_ms=context.now_ms)
    tx.add_run(run)
    user = request.interaction is Interaction.USER
    tx.save_session(
        replace(
            session,
            active_run_id=session.active_run_id or run_id,
            queued_run_count=session.queued_run_count + waits,
            last_interaction_at_ms=context.now_ms if user else session.last_interaction_at_ms,
            updated_at_ms=context.now_ms,
        )
    )
    tx.wake(run_topic(run.namespace, run_id))
    return run


def _into_lane(tx: Tx, run: Run, from_state: RunState | None, context: Context) -> Run:
    """Make the run the one that may be claimed, and wake those who wait to claim it."""
    changed = RunChanged(from_state=from_state, to_state=RunState.PENDING)
    sequence = tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    run = replace(run, lane_sequence=run.lane_sequence or sequence)
    return wait_for_runner(tx, run, context)


def wait_for_runner(tx: Tx, run: Run, context: Context) -> Run:
    """Return the run as PENDING, with its deadline, and wake the runners of its pool."""
    pending = replace(run, state=RunState.PENDING, pending_since_ms=context.judged_ms)
    if run.pool:
        tx.wake(pool_topic(run.namespace, run.pool))
    tx.wake(run_topic(run.namespace, run.run_id))
    return replace(pending, due_at_ms=pending.deadline_ms)


def end(
    tx: Tx,
    run: Run,
    *,
    outcome: RunOutcome,
    cause: RunCause,
    context: Context,
    report: RunReport | None = None,
    report_fingerprint: bytes = b"",
) -> Run:
    """Give an unfinished run its one terminal, free its place and see to the session. Returns the run as written."""
    check_move(run.state, RunState.FINISHED)
    _complete_interrupt(tx, run, context)
    changed = RunChanged(
        from_state=run.state, to_state=RunState.FINISHED, lease_epoch=run.lease_epoch, runner_id=run.runner_id
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    finished = replace(
        run,
        state=RunState.FINISHED,
        outcome=outcome,
        finished_at_ms=context.now_ms,
        pending_since_ms=None,
        due_at_ms=None,
        report_fingerprint=report_fingerprint,
    )
    terminal = _terminal(tx, run, outcome, cause, report, context)
    finished = tx.finish_run(finished, terminal, at_ms=context.now_ms)
    drop_lease(tx, run, context)
    tx.wake(run_topic(run.namespace, run.run_id))
    _free_place(tx, run, context)
    return finished


def end_all(tx: Tx, session: Session, context: Context) -> Session:
    """End every unfinished run of a session that ends: the waiting ones as rejected, a claimed one interrupted."""
    while (run := tx.next_queued(session.session_id)) is not None:
        end(tx, run, outcome=RunOutcome.REJECTED, cause=RunCause.SESSION_ENDED, context=context)
    active = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    if active is not None:
        claimed = active.state is not RunState.PENDING
        outcome = RunOutcome.INTERRUPTED if claimed else RunOutcome.REJECTED
        end(tx, active, outcome=outcome, cause=RunCause.SESSION_ENDED, context=context)
    return require(tx, session.namespace, session.session_id)


def drop_lease(tx: Tx, run: Run, context: Context) -> None:
    """Forget when the run's lease runs out; it has none any more."""
    ref = RunRef(run.namespace, run.run_id)
    term = context.leases.term(ref)
    context.leases.drop(ref)
    tx.on_undo(lambda: context.leases.restore(ref, term))


def _complete_interrupt(tx: Tx, run: Run, context: Context) -> None:
    """Bring the run's interrupt to its outcome, before the terminal: that is the run's last event."""
    interrupt = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    if interrupt is None:
        return
    check_stage(interrupt.stage, InterruptStage.COMPLETED)
    tx.save_interrupt(replace(interrupt, stage=InterruptStage.COMPLETED, escalate_at_ms=None))
    changed = InterruptChanged(
        interrupt_id=interrupt.interrupt_id,
        stage=InterruptStage.COMPLETED,
        mode=interrupt.mode,
        reason=interrupt.reason,
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)


def _terminal(
    tx: Tx, run: Run, outcome: RunOutcome, cause: RunCause, report: RunReport | None, context: Context
) -> RunTerminal:
    """Build the terminal: the text as the runner gave it, else what its deltas say."""
    bytes_max = context.limits.terminal_text_bytes_max
    given = report.output_text if report is not None else None
    if given is not None:
        text, whole = cut_text(given, bytes_max)
    else:
        text, whole = tx.output_text(run, bytes_max=bytes_max)
    return RunTerminal(
        outcome=outcome,
        cause=cause,
        output_text=text,
        output_complete=whole and (given is not None or outcome is RunOutcome.SUCCEEDED),
        result=report.result if report is not None else b"",
        failure=report.failure if report is not None else None,
        interrupt_id=run.interrupt_id,
        finished_at_ms=context.now_ms,
    )


def cut_text(text: str, bytes_max: int) -> tuple[str, bool]:
    """Return the text's first `bytes_max` bytes of UTF-8, cut between two characters, and whether that is all."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text, True
    return encoded[:bytes_max].decode(errors="ignore"), False


def _free_place(tx: Tx, run: Run, context: Context) -> None:
    """Take the run out of its session: let the next one into the lane, or end a session that this was all of."""
    session = require(tx, run.namespace, run.session_id)
    if run.state is RunState.QUEUED:
        session = replace(session, queued_run_count=session.queued_run_count - 1)
    else:
        session = _promote(tx, replace(session, active_run_id=""), context)
    session = replace(session, updated_at_ms=context.now_ms)
    if not session.running and allows(session.state, SessionCause.RUN_ENDED):
        sessions.move(tx, session, SessionCause.RUN_ENDED, context)
    else:
        tx.save_session(session)


def _promote(tx: Tx, session: Session, context: Context) -> Session:
    """Let the first run in line into the free lane. Returns the session, not yet written."""
    run = tx.next_queued(session.session_id) if session.queued_run_count else None
    if run is None:
        return session
    check_move(run.state, RunState.PENDING)
    tx.save_run(_into_lane(tx, run, run.state, context))
    return replace(session, active_run_id=run.run_id, queued_run_count=session.queued_run_count - 1)
