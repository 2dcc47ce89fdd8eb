"""What tests read of a control plane and check in it: nothing here writes.

`contents` is everything that a refused call must not change: each row of each table, and the writer's memory of
leases and subscribers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.events import Entry
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.keys import KeySettings, canonical
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Session
from sessionplane.plane import interrupts, runs, sessions
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.sessions import RunView, SessionRef
from sessionplane.store import codec
from sessionplane.store.contract import ReadTx
from sessionplane.v1.event_pb2 import Event
from tests.support.rows import rows
from tests.support.story import check_log, story

E = TypeVar("E", bound=SessionPlaneError)

NAMESPACE = "default"
KEY = "agent:main:main"


def ref(name: str) -> SessionRef:
    """Name a session by its id, or by any spelling of its key."""
    if name.startswith("ses_"):
        return SessionRef(session_id=name)
    return SessionRef(key=canonical(name, settings=KeySettings()))


class PlaneReader:
    """A plane and the file that it stands on, both somebody else's to open."""

    database: Path
    plane: ControlPlane

    def session(self, name: str = KEY) -> Session:
        """Read a session."""
        return self.plane.read(lambda tx: sessions.get_session(tx, NAMESPACE, ref(name))).session

    def spelling(self, name: str) -> str:
        """Read what the pointer of a key was made from."""
        key = ref(name).key
        pointer = self.plane.read(lambda tx: tx.pointer(NAMESPACE, key)) if key else None
        assert pointer is not None, f"nobody holds {name}"
        return pointer.key.spelling

    def run(self, run_id: str) -> Run:
        """Read a run."""
        return self.plane.read(lambda tx: runs.require_run(tx, NAMESPACE, run_id))

    def interrupt_of(self, run_id: str) -> Interrupt:
        """Read the interrupt that stops a run."""
        made_id = self.run(run_id).interrupt_id
        return self.plane.read(lambda tx: interrupts.get_interrupt(tx, NAMESPACE, made_id)).interrupt

    def stage(self, input_id: str) -> InputStage:
        """Read how far an injected input has come."""
        found = self.plane.read(lambda tx: tx.input(NAMESPACE, input_id))
        assert found is not None
        return found.stage

    def view(self, run_id: str) -> RunView:
        """Read a run with its session and place in line."""
        return self.plane.read(lambda tx: runs.get_run(tx, NAMESPACE, run_id))

    def log(self, name: str = KEY) -> list[Event]:
        """Read the log of a session, or what retention has left of it; by its id also of a deleted one."""
        return self.log_of(name if name.startswith("ses_") else self.session(name).session_id)

    def log_of(self, session_id: str) -> list[Event]:
        """Read the log of that id, also of a session that is deleted."""

        def query(tx: ReadTx) -> list[Entry]:
            floor = tx.floor(session_id).place
            return tx.entries(session_id, after=floor, limit=100_000, bytes_max=1 << 30)

        return [codec.decode(entry.data) for entry in self.plane.read(query)]

    def story(self, name: str = KEY, *, behind: int = 0, run_id: str = "") -> list[str]:
        """Tell the session's log, or what lies behind a sequence, or one run's part."""
        return story(self.log(name)[behind:], run_id=run_id)

    def contents(self) -> Mapping[str, Any]:
        """Everything that a refused call must leave as it is."""
        return {
            **rows(self.database),
            "leases": dict(self.plane._leases._terms),
            "attached": dict(self.plane._attached._counts),
            "lingers": dict(self.plane._attached._lingers),
        }

    async def refused(self, kind: type[E], asked: Awaitable[Any]) -> E:
        """Await a call that must be refused, and make sure that nothing has changed."""
        before = self.contents()
        with pytest.raises(kind) as refusal:
            await asked
        assert self.contents() == before
        return refusal.value

    def check_end(self, run_id: str, log: list[Event] | None = None) -> Event:
        """Make sure that a finished run has one terminal, its last event, and that its row agrees; return it."""
        run = self.run(run_id)
        if log is None:
            log = self.log(run.session_id)
            check_log(log, floor=self.session(run.session_id).floor_sequence)
        mine = [event for event in log if event.run_id == run_id]
        terminal = mine[-1]
        assert [event.HasField("run_terminal") for event in mine].count(True) == 1
        assert run.state is RunState.FINISHED
        assert (run.terminal_sequence, run.terminal) == (
            terminal.sequence,
            terminal.run_terminal.SerializeToString(),
        )
        assert codec.run_pb2.RunOutcome.Name(terminal.run_terminal.outcome) == f"RUN_OUTCOME_{run.outcome}"
        assert run.due_at_ms is None
        return terminal
