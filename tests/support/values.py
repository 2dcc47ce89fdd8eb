"""Domain values for tests: valid ones, of which a test names only what it is about."""

from __future__ import annotations

from typing import Any

from sessionplane.domain.events import OutputDelta, SessionChanged, SessionMoved
from sessionplane.domain.inputs import Input
from sessionplane.domain.interrupts import Interrupt, InterruptMode, InterruptStage
from sessionplane.domain.keys import SessionKey, from_stored
from sessionplane.domain.runs import Run, RunCause, RunOutcome, RunState, RunTerminal
from sessionplane.domain.sessions import MoveReason, Session, SessionCause, SessionState

NOW_MS = 1_700_000_000_000
NAMESPACE = "default"


def key(rest: str = "main") -> SessionKey:
    """Return a key of agent main."""
    return from_stored(f"agent:main:{rest}")


def session_id(number: int) -> str:
    """Return a session id that sorts as its number does."""
    return f"ses_{number:032x}"


def session(number: int = 1, **changed: Any) -> Session:
    """Return a session without a key, just created."""
    values: dict[str, Any] = {
        "session_id": session_id(number),
        "namespace": NAMESPACE,
        "key": None,
        "state": SessionState.CREATED,
        "created_at_ms": NOW_MS,
        "started_at_ms": NOW_MS,
        "updated_at_ms": NOW_MS,
    }
    return Session(**values | changed)


def run(number: int = 1, **changed: Any) -> Run:
    """Return a PENDING run of session 1."""
    values: dict[str, Any] = {
        "run_id": f"run_{number:032x}",
        "namespace": NAMESPACE,
        "session_id": session_id(1),
        "generation": 1,
        "state": RunState.PENDING,
        "created_at_ms": NOW_MS,
        "pending_since_ms": NOW_MS,
        "start_timeout_ms": 60_000,
        "run_timeout_ms": 600_000,
    }
    return Run(**values | changed)


def terminal(**changed: Any) -> RunTerminal:
    """Return the terminal of a run that succeeded."""
    values: dict[str, Any] = {
        "outcome": RunOutcome.SUCCEEDED,
        "cause": RunCause.RUNNER,
        "output_text": "done",
        "output_complete": True,
        "finished_at_ms": NOW_MS,
    }
    return RunTerminal(**values | changed)


def interrupt(number: int = 1, **changed: Any) -> Interrupt:
    """Return an interrupt of run 1 that was just accepted."""
    values: dict[str, Any] = {
        "interrupt_id": f"int_{number:032x}",
        "namespace": NAMESPACE,
        "session_id": session_id(1),
        "run_id": f"run_{1:032x}",
        "stage": InterruptStage.ACCEPTED,
        "mode": InterruptMode.GRACEFUL,
        "created_at_ms": NOW_MS,
    }
    return Interrupt(**values | changed)


def injected(number: int = 1, **changed: Any) -> Input:
    """Return an input that waits for run 1, under the id of another one."""
    values: dict[str, Any] = {
        "input_id": f"run_{0x1000 + number:032x}",
        "namespace": NAMESPACE,
        "session_id": session_id(1),
        "run_id": f"run_{1:032x}",
        "place": number,
        "created_at_ms": NOW_MS,
        "start_timeout_ms": 60_000,
        "run_timeout_ms": 600_000,
    }
    return Input(**values | changed)


def created() -> SessionChanged:
    """Return the first event of a session."""
    return SessionChanged(
        from_state=None, to_state=SessionState.CREATED, cause=SessionCause.CREATED, generation=1
    )


def changed(state: SessionState, *, generation: int = 1) -> SessionChanged:
    """Return an event that moves a session to a state."""
    return SessionChanged(
        from_state=SessionState.CREATED, to_state=state, cause=SessionCause.RUN_CLAIMED, generation=generation
    )


def moved(rest: str, *, holds: bool) -> SessionMoved:
    """Return an event that gives a key of agent main to a session, or takes it away."""
    reason = MoveReason.CREATED if holds else MoveReason.RESET
    return SessionMoved(key=key(rest), reason=reason, holds=holds)


def delta(text: str, offset: int = 0) -> OutputDelta:
    """Return a piece of a run's text."""
    return OutputDelta(text=text, offset=offset)
