"""A log in memory, encoded and chained as the store does it: for tests of what reads logs."""

from __future__ import annotations

from collections.abc import Sequence

from sessionplane.domain.events import (
    Body,
    Entry,
    InputRecorded,
    OutputDelta,
    Place,
    RunTerminal,
    SessionChanged,
)
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.runs import RunCause, RunOutcome
from sessionplane.domain.runs import RunTerminal as Terminal
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.store import codec
from sessionplane.store.reading import next_chain

SESSION_ID = "ses_" + "1" * 32
AT_MS = 1_800_000_000_000


class Log:
    """Entries 1, 2, 3 ... of one session."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    @property
    def head(self) -> Place:
        """The newest place."""
        return self.place(len(self.entries))

    def place(self, sequence: int) -> Place:
        """The place behind a sequence."""
        return Place(sequence, self.entries[sequence - 1].chain) if sequence else Place(0, b"")

    def behind(self, place: Place) -> Sequence[Entry]:
        """What lies behind a place."""
        return self.entries[place.sequence :]

    def add(self, body: Body, *, run_id: str = "", run_sequence: int = 0) -> Entry:
        """Append an event."""
        head = self.head
        data = codec.encode(SESSION_ID, head.sequence + 1, run_id, run_sequence, AT_MS, body)
        entry = Entry(head.sequence + 1, run_id, body.kind, data, next_chain(head.chain, data))
        self.entries.append(entry)
        return entry

    def text(self, text: str, *, run_id: str = "run_1") -> Entry:
        """Append a piece of text."""
        return self.add(OutputDelta(text=text), run_id=run_id)

    def texts(self, count: int, *, size: int = 10) -> list[Entry]:
        """Append pieces of text."""
        return [self.text(f"{number}".ljust(size, ".")) for number in range(count)]

    def input(self, run_id: str) -> Entry:
        """Append the record of a run's input."""
        return self.add(InputRecorded(input_id=run_id, stage=InputStage.RECORDED), run_id=run_id)

    def terminal(self, run_id: str) -> Entry:
        """Append the end of a run."""
        ended = Terminal(outcome=RunOutcome.SUCCEEDED, cause=RunCause.RUNNER, finished_at_ms=AT_MS)
        return self.add(RunTerminal(terminal=ended), run_id=run_id)

    def session(self, to_state: SessionState, cause: SessionCause, *, generation: int = 1) -> Entry:
        """Append a change of the session's state, from ACTIVE."""
        from_state = SessionState.ACTIVE
        return self.add(
            SessionChanged(from_state=from_state, to_state=to_state, cause=cause, generation=generation)
        )


def joined(entries: Sequence[Entry]) -> bytes:
    """The bytes that a frame of these entries holds."""
    return b"".join(entry.data for entry in entries)
