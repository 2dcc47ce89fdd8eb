"""How a run is let into a session: at once, in line, or not, as its policy says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sessionplane.domain import routing
from sessionplane.domain.errors import RunInProgress, RunQueueFull, SessionEnded
from sessionplane.domain.events import InputRecorded, InputStage, RunChanged
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import Run, RunPolicy, RunState
from sessionplane.domain.sessions import Interaction, Session, SessionCause
from sessionplane.plane import lane, sessions
from sessionplane.plane.context import Context, run_topic
from sessionplane.store.contract import Tx

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


def ready(tx: Tx, session: Session, context: Context) -> Session:
    """Return the session as one that takes runs: as it is, or brought back, as the routing table says.

    Raises SessionEnded with the successor for a final one.
    """
    action = routing.route(Verb.START_RUN, session)
    if action is Action.REFUSE_FINAL:
        raise SessionEnded(session_id=session.session_id, successor=session.superseded_by)
    if action is Action.END_THEN_RESUME:
        session = lane.end_all(tx, session, SessionCause.CLOSED, context)
    if action is not Action.ADMIT:
        session = sessions.move(tx, session, SessionCause.RESUMED, context)
    return session


def admit(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Run:
    """Let the run in: into the lane if it is free, else as its policy says.

    Raises RunInProgress and RunQueueFull; nothing was changed then.
    """
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
        run = lane.enter_lane(tx, run, None, context)
    else:
        changed = RunChanged(from_state=None, to_state=RunState.QUEUED)
        tx.append(session.session_id, changed, run_id=run_id, at_ms=context.now_ms)
    tx.add_run(run)
    held = replace(
        session,
        active_run_id=session.active_run_id or run_id,
        queued_run_count=session.queued_run_count + waits,
    )
    sessions.save(tx, sessions.touched(held, interaction, context), context)
    tx.wake(run_topic(run.namespace, run_id))
    return run
