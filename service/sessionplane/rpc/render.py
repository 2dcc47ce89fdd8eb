"""To the wire: values as answers show them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessionplane.domain.events import Place
from sessionplane.domain.inputs import Input
from sessionplane.domain.interrupts import Interrupt, InterruptMode, InterruptStage
from sessionplane.domain.merging import ImportOutcome
from sessionplane.domain.routing import Action
from sessionplane.domain.runs import FinishResult, RunDisposition, RunState
from sessionplane.domain.sessions import Resolution, Session, SessionCause, SessionState, Visibility
from sessionplane.domain.streams import ClosingReason, Presence
from sessionplane.domain.tokens import TokenWriter
from sessionplane.plane.claims import LeaseView
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.runners import Heard
from sessionplane.plane.sessions import RunView
from sessionplane.store import codec
from sessionplane.v1 import admin_service_pb2, run_pb2, session_pb2, session_service_pb2


def _numbers(kind: type[StrEnum], wire: Any) -> Mapping[Any, Any]:
    """Return the members' numbers on the wire; a name that is missing there fails the import.

    One mapping for each kind, since members of two kinds with the same name are equal as text.
    """
    prefix = wire.Name(0).removesuffix("UNSPECIFIED")
    return {member: wire.Value(prefix + member.value) for member in kind}


SESSION_STATES = _numbers(SessionState, session_pb2.SessionState)
SESSION_CAUSES = _numbers(SessionCause, session_pb2.SessionCause)
VISIBILITIES = _numbers(Visibility, session_pb2.Visibility)
RESOLUTIONS = _numbers(Resolution, session_pb2.Resolution)
RUN_STATES = _numbers(RunState, run_pb2.RunState)
DISPOSITIONS = _numbers(RunDisposition, run_pb2.RunDisposition)
FINISH_RESULTS = _numbers(FinishResult, run_pb2.FinishResult)
IMPORT_OUTCOMES = _numbers(ImportOutcome, admin_service_pb2.ImportOutcome)
MODES = _numbers(InterruptMode, run_pb2.InterruptMode)
STAGES = _numbers(InterruptStage, run_pb2.InterruptStage)
CLOSINGS = _numbers(ClosingReason, session_service_pb2.ClosingReason)
PRESENCES = _numbers(Presence, session_pb2.Presence)

ROUTES = {
    Action.CREATE: session_pb2.ROUTE_CREATE,
    Action.ADMIT: session_pb2.ROUTE_ADMIT,
    Action.END_THEN_RESUME: session_pb2.ROUTE_END_THEN_RESUME,
    Action.RESUME: session_pb2.ROUTE_RESUME,
    Action.REFUSE_FINAL: session_pb2.ROUTE_REFUSED,
}
"""What the row start_run of the routing table says, on the wire."""


def timestamp(at_ms: int | None) -> Timestamp | None:
    """Show a moment; None stays absent."""
    if at_ms is None:
        return None
    seconds, rest_ms = divmod(at_ms, 1000)
    return Timestamp(seconds=seconds, nanos=rest_ms * 1_000_000)


def token(plane: ControlPlane, session_id: str, place: Place) -> str:
    """Show a place in a session's log as a resume token."""
    return TokenWriter(store_id=plane.store.store_id, session_id=session_id).at(*place)


def head_token(plane: ControlPlane, session: Session) -> str:
    """Show the head of a session's log as a resume token."""
    return token(plane, session.session_id, Place(session.head_sequence, session.head_hash))


def session(plane: ControlPlane, row: Session) -> session_pb2.Session:
    """Show a session."""
    return session_pb2.Session(
        session_id=row.session_id,
        key=row.key.text if row.key else "",
        kind=row.key.kind.value if row.key else "",
        state=SESSION_STATES[row.state],
        generation=row.generation,
        running=row.running,
        attached_count=plane.attached_count(row.session_id),
        active_run_id=row.active_run_id,
        queued_run_count=row.queued_run_count,
        head_sequence=row.head_sequence,
        floor_sequence=row.floor_sequence,
        labels=row.labels,
        display_name=row.display_name,
        visibility=VISIBILITIES[row.visibility],
        create_time=timestamp(row.created_at_ms),
        start_time=timestamp(row.started_at_ms),
        last_interaction_time=timestamp(row.last_interaction_at_ms),
        update_time=timestamp(row.updated_at_ms),
        end_time=timestamp(row.ended_at_ms),
        end_reason=SESSION_CAUSES.get(row.end_reason, session_pb2.SESSION_CAUSE_UNSPECIFIED),
        previous_session_id=row.previous_session_id,
        superseded_by=row.superseded_by,
        final=row.final,
        etag=row.etag,
    )


def terminal(encoded: bytes, *, whole: bool) -> run_pb2.RunTerminal | None:
    """Show a terminal as it was written; without text and result unless `whole`. None if there is none."""
    if not encoded:
        return None
    return codec.decode_terminal(encoded if whole else codec.brief_terminal(encoded))


def run(plane: ControlPlane, view: RunView, *, whole: bool = False) -> run_pb2.Run:
    """Show a run; with its input, text and result only if `whole`, so that lists stay small."""
    row, owner = view.run, view.session
    return run_pb2.Run(
        run_id=row.run_id,
        session_id=row.session_id,
        session_key=owner.key.text if owner.key else "",
        generation=row.generation,
        state=RUN_STATES[row.state],
        pool=row.pool,
        queue_position=view.queue_position,
        input=run_pb2.Payload.FromString(row.input) if whole else None,
        labels=row.labels,
        create_time=timestamp(row.created_at_ms),
        start_time=timestamp(row.claimed_at_ms),
        end_time=timestamp(row.finished_at_ms),
        deadline=timestamp(row.deadline_ms),
        runner_id=row.runner_id,
        lease_epoch=row.lease_epoch,
        lease_expire_time=timestamp(plane.lease_expires_at_ms(row)),
        last_run_sequence=row.last_run_sequence,
        interrupt_id=row.interrupt_id,
        waiting_input_ids=view.waiting_input_ids,
        taken_input_ids=view.taken_input_ids,
        terminal=terminal(row.terminal, whole=whole),
    )


def run_or_none(plane: ControlPlane, view: RunView | None) -> run_pb2.Run | None:
    """Show a run as lists do, if there is one."""
    return run(plane, view) if view is not None else None


def lease(view: LeaseView) -> run_pb2.Lease:
    """Show a lease to its holder."""
    return run_pb2.Lease(
        token=view.token,
        epoch=view.epoch,
        expire_time=timestamp(view.expires_at_ms),
        next_heartbeat_time=timestamp(view.next_heartbeat_at_ms),
        duration=Duration(seconds=view.lease_ms // 1000, nanos=view.lease_ms % 1000 * 1_000_000),
    )


def interrupt(row: Interrupt) -> run_pb2.Interrupt:
    """Show an interrupt."""
    return run_pb2.Interrupt(
        interrupt_id=row.interrupt_id,
        run_id=row.run_id,
        stage=STAGES[row.stage],
        mode=MODES[row.mode],
        reason=row.reason,
        escalate_time=timestamp(row.escalate_at_ms),
        session_id=row.session_id,
        create_time=timestamp(row.created_at_ms),
    )


def stop_command(row: Interrupt) -> run_pb2.Command:
    """Show an interrupt as what its run's runner should do."""
    stop = run_pb2.InterruptCommand(
        interrupt_id=row.interrupt_id,
        mode=MODES[row.mode],
        reason=row.reason,
        deadline=timestamp(row.escalate_at_ms),
    )
    return run_pb2.Command(interrupt=stop)


def input_command(row: Input) -> run_pb2.Command:
    """Show an injected input as what its run's runner should do."""
    taken = run_pb2.InputCommand(input_id=row.input_id, input=run_pb2.Payload.FromString(row.input))
    return run_pb2.Command(input=taken)


def commands(heard: Heard) -> list[run_pb2.Command]:
    """Show what a runner should do: stop, or take something in."""
    stop = [stop_command(heard.interrupt)] if heard.interrupt is not None else []
    return stop + [input_command(each) for each in heard.inputs]
