"""Rows to domain values and back: nowhere else does anybody know a column's place.

Owns the order of columns together with `statements`; the rows of keys are `key_rows`'. It must never decide or repair:
a row that no value can be made of is an error, since only this module writes rows.

Reading is positional and unpacks a row whole, which is a third faster than names and fails at once when a
statement and this module disagree about the number of columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sessionplane.domain.events import Entry, EventKind, Fold, Place
from sessionplane.domain.inputs import Input, InputStage
from sessionplane.domain.interrupts import Interrupt, InterruptMode, InterruptStage
from sessionplane.domain.keys import from_stored
from sessionplane.domain.runs import Run, RunOutcome, RunState
from sessionplane.domain.sessions import Session, SessionCause, SessionState, Visibility
from sessionplane.store import damage
from sessionplane.store.contract import Floor, Request

Row = tuple[Any, ...]
"""What SQLite answers with. The tables are STRICT, so a column's type is the one that the schema names."""

_SESSION_STATE = {state.value: state for state in SessionState}
_VISIBILITY = {each.value: each for each in Visibility}
_SESSION_CAUSE = {cause.value: cause for cause in SessionCause}
_RUN_STATE = {state.value: state for state in RunState}
_RUN_OUTCOME = {outcome.value: outcome for outcome in RunOutcome}
_STAGE = {stage.value: stage for stage in InterruptStage}
_MODE = {mode.value: mode for mode in InterruptMode}
_INPUT_STAGE = {stage.value: stage for stage in InputStage}
_KIND = {kind.value: kind for kind in EventKind}
# Looked up rather than called: a call of an enum class costs more than the whole rest of a small row.

_NO_LABELS = "{}"
_NO_SPEC = ""
_SPEC = ("pool", "start_timeout_ms", "run_timeout_ms", "labels")
"""The fields of an injected input that are kept as one text: nothing asks for them before it becomes a run."""


@damage.reads("session", named_by=0)
def session_of(row: Row) -> Session:
    """Return the session of a row of `statements.SESSION`."""
    (
        session_id, namespace, key, state, final, generation, active_run_id, queued_run_count, labels,
        display_name, visibility, created_at_ms, started_at_ms, last_interaction_at_ms, updated_at_ms,
        ended_at_ms, end_reason, quiet_since_ms, deadline_at_ms, due_at_ms, deleted_at_ms,
        previous_session_id, superseded_by, change_number, head_sequence, head_hash, log_bytes,
        floor_sequence, floor_hash, floor_log_bytes, compact_at_ms,
    ) = row  # fmt: skip
    return Session(
        session_id=session_id,
        namespace=namespace,
        key=None if key is None else from_stored(key),
        state=_SESSION_STATE[state],
        final=final == 1,
        generation=generation,
        active_run_id=active_run_id,
        queued_run_count=queued_run_count,
        labels=_labels_of(labels),
        display_name=display_name,
        visibility=_VISIBILITY[visibility],
        created_at_ms=created_at_ms,
        started_at_ms=started_at_ms,
        last_interaction_at_ms=last_interaction_at_ms,
        updated_at_ms=updated_at_ms,
        ended_at_ms=ended_at_ms,
        end_reason=None if end_reason is None else _SESSION_CAUSE[end_reason],
        quiet_since_ms=quiet_since_ms,
        deadline_at_ms=deadline_at_ms,
        due_at_ms=due_at_ms,
        deleted_at_ms=deleted_at_ms,
        previous_session_id=previous_session_id,
        superseded_by=superseded_by,
        change_number=change_number,
        head_sequence=head_sequence,
        head_hash=head_hash,
        log_bytes=log_bytes,
        floor_sequence=floor_sequence,
        floor_hash=floor_hash,
        floor_log_bytes=floor_log_bytes,
        compact_at_ms=compact_at_ms,
    )


def session_row(session: Session, change_number: int) -> Row:
    """Return what `statements.ADD_SESSION` and `SAVE_SESSION` bind: all but the head and the floor."""
    return (
        None if session.key is None else session.key.text,
        "" if session.key is None else session.key.kind.value,
        session.state.value,
        int(session.final),
        session.generation,
        session.active_run_id,
        session.queued_run_count,
        _labels_text(session.labels),
        session.display_name,
        session.visibility.value,
        session.created_at_ms,
        session.started_at_ms,
        session.last_interaction_at_ms,
        session.updated_at_ms,
        session.ended_at_ms,
        None if session.end_reason is None else session.end_reason.value,
        session.quiet_since_ms,
        session.deadline_at_ms,
        session.due_at_ms,
        session.deleted_at_ms,
        session.previous_session_id,
        session.superseded_by,
        session.compact_at_ms,
        change_number,
        session.session_id,
        session.namespace,
    )


@damage.reads("run", named_by=0)
def run_of(row: Row) -> Run:
    """Return the run of a row of `statements.RUN`."""
    (
        run_id, namespace, session_id, generation, state, pool, place, input_, fingerprint, labels,
        created_at_ms, start_timeout_ms, run_timeout_ms, pending_ms, pending_since_ms, claimed_at_ms,
        finished_at_ms, kept_from_ms, due_at_ms, runner_id, lease_epoch, lease_token, lease_ms, lease_confirmed,
        last_run_sequence, output_bytes, first_sequence, lane_sequence, first_output_sequence, injected, interrupt_id,
        outcome, terminal, terminal_sequence, report_fingerprint, late_fingerprint,
    ) = row  # fmt: skip
    return Run(
        run_id=run_id,
        namespace=namespace,
        session_id=session_id,
        generation=generation,
        state=_RUN_STATE[state],
        pool=pool,
        place=place,
        input=input_,
        fingerprint=fingerprint,
        labels=_labels_of(labels),
        created_at_ms=created_at_ms,
        start_timeout_ms=start_timeout_ms,
        run_timeout_ms=run_timeout_ms,
        pending_ms=pending_ms,
        pending_since_ms=pending_since_ms,
        claimed_at_ms=claimed_at_ms,
        finished_at_ms=finished_at_ms,
        kept_from_ms=kept_from_ms,
        due_at_ms=due_at_ms,
        runner_id=runner_id,
        lease_epoch=lease_epoch,
        lease_token=lease_token,
        lease_ms=lease_ms,
        lease_confirmed=lease_confirmed == 1,
        last_run_sequence=last_run_sequence,
        output_bytes=output_bytes,
        first_sequence=first_sequence,
        lane_sequence=lane_sequence,
        first_output_sequence=first_output_sequence,
        injected=injected,
        interrupt_id=interrupt_id,
        outcome=None if outcome is None else _RUN_OUTCOME[outcome],
        terminal=terminal,
        terminal_sequence=terminal_sequence,
        report_fingerprint=report_fingerprint,
        late_fingerprint=late_fingerprint,
    )


def run_row(run: Run) -> Row:
    """Return what `statements.ADD_RUN` and `SAVE_RUN` bind: all but the input."""
    return (
        run.session_id,
        run.generation,
        run.state.value,
        run.pool,
        run.place,
        run.fingerprint,
        _labels_text(run.labels),
        run.created_at_ms,
        run.start_timeout_ms,
        run.run_timeout_ms,
        run.pending_ms,
        run.pending_since_ms,
        run.claimed_at_ms,
        run.finished_at_ms,
        run.kept_from_ms,
        run.due_at_ms,
        run.runner_id,
        run.lease_epoch,
        run.lease_token,
        run.lease_ms,
        int(run.lease_confirmed),
        run.last_run_sequence,
        run.output_bytes,
        run.first_sequence,
        run.lane_sequence,
        run.first_output_sequence,
        run.injected,
        run.interrupt_id,
        None if run.outcome is None else run.outcome.value,
        run.terminal,
        run.terminal_sequence,
        run.report_fingerprint,
        run.late_fingerprint,
        run.namespace,
        run.run_id,
    )


def input_row(run: Run) -> Row:
    """Return what `statements.ADD_INPUT` binds for the input that a run starts with."""
    return (
        run.namespace,
        run.run_id,
        run.session_id,
        run.run_id,
        InputStage.RECORDED.value,
        0,
        run.created_at_ms,
        run.fingerprint,
        _NO_SPEC,
        run.input,
    )


@damage.reads("input", named_by=1)
def injected_of(row: Row) -> Input:
    """Return the injected input of a row of `statements.INPUT`."""
    (
        namespace, input_id, session_id, run_id, stage, place, created_at_ms, fingerprint, spec, input_,
    ) = row  # fmt: skip
    return Input(
        input_id=input_id,
        namespace=namespace,
        session_id=session_id,
        run_id=run_id,
        stage=_INPUT_STAGE[stage],
        place=place,
        created_at_ms=created_at_ms,
        fingerprint=fingerprint,
        input=input_,
        **json.loads(spec),
    )


def injected_row(injected: Input) -> Row:
    """Return what `statements.ADD_INPUT` binds for an input that is injected into a run."""
    spec = {name: getattr(injected, name) for name in _SPEC}
    return (
        injected.namespace,
        injected.input_id,
        injected.session_id,
        injected.run_id,
        injected.stage.value,
        injected.place,
        injected.created_at_ms,
        injected.fingerprint,
        json.dumps(spec, ensure_ascii=False, separators=(",", ":")),
        injected.input,
    )


def input_change(injected: Input) -> Row:
    """Return what `statements.SAVE_INPUT` binds."""
    return (
        injected.run_id,
        injected.stage.value,
        injected.place,
        injected.namespace,
        injected.input_id,
    )


@damage.reads("interrupt", named_by=0)
def interrupt_of(row: Row) -> Interrupt:
    """Return the interrupt of a row of `statements.INTERRUPT`."""
    (
        interrupt_id, namespace, session_id, run_id, stage, mode, reason, created_at_ms, escalate_at_ms,
    ) = row  # fmt: skip
    return Interrupt(
        interrupt_id=interrupt_id,
        namespace=namespace,
        session_id=session_id,
        run_id=run_id,
        stage=_STAGE[stage],
        mode=_MODE[mode],
        reason=reason,
        created_at_ms=created_at_ms,
        escalate_at_ms=escalate_at_ms,
    )


def interrupt_row(interrupt: Interrupt) -> Row:
    """Return what `statements.ADD_INTERRUPT` binds."""
    return (
        interrupt.interrupt_id,
        interrupt.namespace,
        interrupt.session_id,
        interrupt.run_id,
        interrupt.stage.value,
        interrupt.mode.value,
        interrupt.reason,
        interrupt.created_at_ms,
        interrupt.escalate_at_ms,
    )


def interrupt_change(interrupt: Interrupt) -> Row:
    """Return what `statements.SAVE_INTERRUPT` binds."""
    return (
        interrupt.stage.value,
        interrupt.mode.value,
        interrupt.created_at_ms,
        interrupt.escalate_at_ms,
        interrupt.namespace,
        interrupt.interrupt_id,
    )


def request_of(row: Row) -> Request:
    """Return what a row of `statements.REQUEST` remembers."""
    namespace, rpc, request_id, fingerprint, at_ms, session_id, run_id, interrupt_id, detail = row
    return Request(
        namespace=namespace,
        rpc=rpc,
        request_id=request_id,
        fingerprint=fingerprint,
        at_ms=at_ms,
        session_id=session_id,
        run_id=run_id,
        interrupt_id=interrupt_id,
        detail=detail,
    )


def request_row(request: Request) -> Row:
    """Return what `statements.REMEMBER` binds."""
    return (
        request.namespace,
        request.rpc,
        request.request_id,
        request.fingerprint,
        request.at_ms,
        request.session_id,
        request.run_id,
        request.interrupt_id,
        request.detail,
    )


@damage.reads("event", named_by=0)
def entry_of(row: Row) -> Entry:
    """Return the entry of a row of `statements.ENTRIES`."""
    sequence, run_id, kind, data, chain = row
    return Entry(sequence, run_id, _KIND[kind], data, chain)


def entry_row(session_id: str, entry: Entry) -> Row:
    """Return what `statements.APPEND` binds."""
    sequence, run_id, kind, data, chain = entry
    return (session_id, sequence, run_id, kind.value, data, chain)


@damage.reads("floor at", named_by=0)
def floor_of(row: Row) -> Floor:
    """Return the floor of a row of `statements.FLOOR`."""
    sequence, chain, log_bytes, fold = row
    return Floor(Place(sequence, chain), log_bytes, Fold(**json.loads(fold)) if fold else Fold())


def floor_row(session_id: str, floor: Floor) -> Row:
    """Return what `statements.RAISE_FLOOR` binds."""
    fold = json.dumps(floor.fold._asdict(), ensure_ascii=False, separators=(",", ":"))
    return (*floor.place, floor.log_bytes, fold, session_id)


def _labels_of(text: str) -> dict[str, str]:
    if text == _NO_LABELS:
        return {}
    labels: dict[str, str] = json.loads(text)
    return labels


def _labels_text(labels: Mapping[str, str]) -> str:
    if not labels:
        return _NO_LABELS
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))
