"""Inputs that are injected into a run under way: handed to its runner, taken by it, or given back to the line.

What waits hangs on a run, so only whoever ends that run, or ends what waits behind it, may give it back: `lane`. An id
that a caller was ever given as an input's is one thing from then on: the run that it waits for or that took it, until
it is a run of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sessionplane.domain.errors import InputNotFound
from sessionplane.domain.events import InputRecorded, RunChanged
from sessionplane.domain.inputs import Input, InputStage, check_stage
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Session
from sessionplane.plane import sessions
from sessionplane.plane.context import Context, run_topic
from sessionplane.store.contract import ReadTx, Tx


def run_named(tx: ReadTx, namespace: str, run_id: str) -> Run | None:
    """Return the run of that id; by the id of an injected input, the run that it waits for or that took it."""
    run = tx.run(namespace, run_id)
    if run is not None:
        return run
    injected = tx.input(namespace, run_id)
    return tx.run(namespace, injected.run_id) if injected is not None else None


def known_work(tx: ReadTx, namespace: str, run_id: str) -> Run | Input | None:
    """Return what was recorded under an id: a run, or an input that is none."""
    return tx.run(namespace, run_id) or tx.input(namespace, run_id)


def waiting_count(tx: ReadTx, run: Run, *, most: int) -> int:
    """Return how many inputs wait for the run; counts up to `most`."""
    return len(tx.input_ids(run, InputStage.RECORDED, limit=most)) if run.injected else 0


def to_hand_out(tx: ReadTx, run: Run, context: Context) -> Sequence[Input]:
    """Return what the run's runner is given in one answer: oldest first, as much as fits, at least one."""
    if not run.injected:
        return ()
    return tx.waiting_inputs(run, bytes_max=context.limits.command_inputs_bytes_max)


def next_to_hand_out(tx: ReadTx, run: Run, *, after: int | None) -> Input | None:
    """Return the oldest input that waits for the run behind a place; None if none does."""
    waiting = tx.waiting_inputs(run, after=after, bytes_max=0) if run.injected else ()
    return waiting[0] if waiting else None


def acknowledge(tx: Tx, run: Run, input_ids: Sequence[str], context: Context) -> None:
    """Note that the run's runner took inputs. One that it took before is skipped, and so is one that was given back
    meanwhile: its runner could not know.

    Raises InputNotFound for an id that is no input of this run.
    """
    for input_id in input_ids:
        injected = tx.input(run.namespace, input_id)
        ours = injected is not None and injected.session_id == run.session_id
        if injected is None or not ours or injected.run_id not in {run.run_id, input_id}:
            raise InputNotFound(run_id=run.run_id, input_id=input_id)
        if injected.stage is InputStage.RECORDED:
            _take(tx, injected, context)


def _take(tx: Tx, injected: Input, context: Context) -> None:
    check_stage(injected.stage, InputStage.TAKEN)
    taken = InputRecorded(input_id=injected.input_id, stage=InputStage.TAKEN)
    sequence = tx.append(injected.session_id, taken, run_id=injected.run_id, at_ms=context.now_ms)
    tx.save_input(replace(injected, stage=InputStage.TAKEN, place=sequence))


def any_taken(tx: ReadTx, run: Run) -> bool:
    """Say whether the run's runners took an input."""
    return bool(run.injected) and bool(tx.input_ids(run, InputStage.TAKEN, limit=1))


def give_back(tx: Tx, run: Run, context: Context, *, keep: Collection[str] = ()) -> int:
    """Turn the inputs that still wait for the run, but those to keep, into runs in line; return how many. The session
    is told by the caller.
    """
    if not run.injected:
        return 0
    session = sessions.require_row(tx, run.namespace, run.session_id)
    back = [each for each in tx.waiting_inputs(run) if each.input_id not in keep]
    for each in back:
        _queue(tx, each, session, context)
    return len(back)


def _queue(tx: Tx, injected: Input, session: Session, context: Context) -> None:
    """Make an input the run that it would have started."""
    check_stage(injected.stage, InputStage.QUEUED)
    recorded = InputRecorded(input_id=injected.input_id, stage=InputStage.QUEUED, input=injected.input)
    sequence = tx.append(injected.session_id, recorded, run_id=injected.input_id, at_ms=context.now_ms)
    run = Run(
        run_id=injected.input_id,
        namespace=injected.namespace,
        session_id=injected.session_id,
        generation=session.generation,
        state=RunState.QUEUED,
        pool=injected.pool,
        place=injected.place,
        input=injected.input,
        fingerprint=injected.fingerprint,
        labels=injected.labels,
        created_at_ms=injected.created_at_ms,
        start_timeout_ms=injected.start_timeout_ms,
        run_timeout_ms=injected.run_timeout_ms,
        first_sequence=sequence,
    )
    changed = RunChanged(from_state=None, to_state=run.state)
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    tx.add_run(run, injected=True)
    tx.save_input(replace(injected, stage=InputStage.QUEUED, run_id=run.run_id))
    # Whoever waits for the input waits at the run that it meant until now, which may go on.
    for waiting_at in (injected.run_id, run.run_id):
        tx.wake(run_topic(run.namespace, waiting_at))
