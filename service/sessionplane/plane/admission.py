"""How a run is let into a session: at once, in line, or not, as its policy says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sessionplane.domain import routing
from sessionplane.domain.errors import RunInProgress, RunQueueFull, SessionEnded
from sessionplane.domain.events import InputRecorded, RunChanged
from sessionplane.domain.inputs import Input, InputStage
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import (
    PLACE_AT_END,
    Run,
    RunDisposition,
    RunPolicy,
    RunState,
    place_at_end,
    place_first,
    place_returned,
)
from sessionplane.domain.sessions import Interaction, Session, SessionCause
from sessionplane.plane import inputs, lane, logs, sessions, stopping
from sessionplane.plane.context import Context, run_topic
from sessionplane.plane.stopping import Wish
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What became of a run that was let in: its id (an input's, if it was injected), what was done, and what interrupts
    the one before it, if so.
    """

    run_id: str
    disposition: RunDisposition
    interrupt_id: str = ""


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


def admit(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Admitted:
    """Let the run in: into the lane if it is free, else as its policy says.

    Raises RunInProgress, RunQueueFull and LogFull; nothing was changed then.
    """
    if not session.active_run_id:
        return _enter(tx, session, spec, interaction, context)
    return _WHEN_TAKEN[spec.policy](tx, session, spec, interaction, context)


def admit_first(
    tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context
) -> Admitted:
    """Let the run in before all others, whatever its policy: into the lane if it is free, else first in line.

    Raises RunQueueFull; nothing was changed then.
    """
    if not session.active_run_id:
        return _enter(tx, session, spec, interaction, context)
    _check_room_first(tx, session, context)
    return _queue(tx, session, spec, interaction, context, place=place_first)


def _check_room_first(tx: Tx, session: Session, context: Context) -> None:
    """Raise RunQueueFull if as much goes first in line as may, waiting inputs included."""
    most = context.limits.run_first_max
    waiting = tx.queued_before(session.session_id, PLACE_AT_END)
    waiting += inputs.waiting_count(tx, _active(tx, session), most=most)
    if waiting >= most:
        raise RunQueueFull(limit=most, what="runs and inputs that go first", bound="run_first_max")


def _enter(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Admitted:
    """Put the run into the free lane."""
    run = _record(tx, session, spec, context, place=place_at_end)
    tx.add_run(lane.enter_lane(tx, run, None, context))
    taken = replace(session, active_run_id=run.run_id)
    sessions.save(tx, sessions.touched(taken, interaction, context), context)
    logs.keep_bounds(tx, session, context, reserve=True)
    return Admitted(run_id=run.run_id, disposition=RunDisposition.PENDING)


def _enqueue(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Admitted:
    most = context.limits.run_queue_max
    first = tx.queued_before(session.session_id, PLACE_AT_END)
    if session.queued_run_count - first >= most:
        raise RunQueueFull(limit=most, what="runs", bound="run_queue_max")
    return _queue(tx, session, spec, interaction, context, place=place_at_end)


def _reject(
    _tx: Tx, session: Session, _spec: RunSpec, _interaction: Interaction, _context: Context
) -> Admitted:
    raise RunInProgress(active_run_id=session.active_run_id)


def _interrupt(
    tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context
) -> Admitted:
    """Ask that the active run stop. The new one stands in line before: an active run without a runner ends at once,
    and the new one is the next.
    """
    admitted = admit_first(tx, session, spec, interaction, context)
    wish = Wish(grace_ms=context.limits.interrupt_grace_ms_default)
    made = stopping.stop(tx, _active(tx, session), wish, context)
    return replace(admitted, disposition=RunDisposition.INTERRUPTING, interrupt_id=made.interrupt_id)


def _inject(tx: Tx, session: Session, spec: RunSpec, interaction: Interaction, context: Context) -> Admitted:
    """Let the input wait for the active run's runner."""
    _check_room_first(tx, session, context)
    active = _active(tx, session)
    input_id = spec.run_id or context.new_id(RUN_ID)
    recorded = InputRecorded(input_id=input_id, stage=InputStage.RECORDED, input=spec.input)
    sequence = tx.append(session.session_id, recorded, run_id=active.run_id, at_ms=context.now_ms)
    injected = Input(
        input_id=input_id,
        namespace=session.namespace,
        session_id=session.session_id,
        run_id=active.run_id,
        place=place_returned(sequence),
        created_at_ms=context.now_ms,
        fingerprint=spec.fingerprint,
        input=spec.input,
        pool=spec.pool,
        start_timeout_ms=spec.start_timeout_ms,
        run_timeout_ms=spec.run_timeout_ms,
        labels=spec.labels,
    )
    tx.add_input(injected)
    tx.save_run(replace(active, injected=active.injected + 1))
    sessions.save(tx, sessions.touched(session, interaction, context), context)
    logs.keep_bounds(tx, session, context, reserve=True)
    for waiting_for in (active.run_id, input_id):
        tx.wake(run_topic(session.namespace, waiting_for))
    return Admitted(run_id=input_id, disposition=RunDisposition.INJECTED)


_WHEN_TAKEN: Mapping[RunPolicy, Callable[[Tx, Session, RunSpec, Interaction, Context], Admitted]] = (
    MappingProxyType(
        {
            RunPolicy.ENQUEUE: _enqueue,
            RunPolicy.REJECT: _reject,
            RunPolicy.INTERRUPT: _interrupt,
            RunPolicy.INJECT: _inject,
        }
    )
)
"""policy -> what is done with a run while another one has the lane."""


def _active(tx: Tx, session: Session) -> Run:
    """Return the run that has the lane."""
    active = tx.run(session.namespace, session.active_run_id)
    if active is None:
        raise KeyError(session.active_run_id)
    return active


def _queue(
    tx: Tx,
    session: Session,
    spec: RunSpec,
    interaction: Interaction,
    context: Context,
    *,
    place: Callable[[int], int],
) -> Admitted:
    """Put the run into the line behind the active one."""
    run = _record(tx, session, spec, context, place=place)
    changed = RunChanged(from_state=None, to_state=run.state)
    tx.append(session.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    tx.add_run(run)
    longer = replace(session, queued_run_count=session.queued_run_count + 1)
    sessions.save(tx, sessions.touched(longer, interaction, context), context)
    logs.keep_bounds(tx, session, context, reserve=True)
    tx.wake(run_topic(run.namespace, run.run_id))
    return Admitted(run_id=run.run_id, disposition=RunDisposition.QUEUED)


def _record(tx: Tx, session: Session, spec: RunSpec, context: Context, *, place: Callable[[int], int]) -> Run:
    """Record the input; return the run, not yet written."""
    run_id = spec.run_id or context.new_id(RUN_ID)
    recorded = InputRecorded(input_id=run_id, stage=InputStage.RECORDED, input=spec.input)
    sequence = tx.append(session.session_id, recorded, run_id=run_id, at_ms=context.now_ms)
    return Run(
        run_id=run_id,
        namespace=session.namespace,
        session_id=session.session_id,
        generation=session.generation,
        state=RunState.QUEUED,
        pool=spec.pool,
        place=place(sequence),
        input=spec.input,
        fingerprint=spec.fingerprint,
        labels=spec.labels,
        created_at_ms=context.now_ms,
        start_timeout_ms=spec.start_timeout_ms,
        run_timeout_ms=spec.run_timeout_ms,
        first_sequence=sequence,
    )
