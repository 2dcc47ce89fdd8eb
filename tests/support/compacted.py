"""What must hold of a session's log whatever retention removed from it."""

from __future__ import annotations

from sessionplane.domain.events import EventKind, Fold
from sessionplane.domain.sessions import Session
from sessionplane.store import codec
from sessionplane.store.contract import Extent, ReadTx
from sessionplane.v1.event_pb2 import Event


def check_compacted(tx: ReadTx, session: Session) -> list[Event]:
    """Assert that the rest of a log follows its floor without a gap, that both together add up to the session's row,
    and that its runs' terminals are those of their rows. Returns the rest.
    """
    floor = tx.floor(session.session_id)
    assert (floor.place.sequence, floor.place.chain) == (session.floor_sequence, session.floor_hash)
    # Reading checks the chain from the floor on.
    entries = tx.entries(session.session_id, after=floor.place, limit=100_000, bytes_max=1 << 30)
    assert [entry.sequence for entry in entries] == list(
        range(session.floor_sequence + 1, session.head_sequence + 1)
    )
    extent = Extent(len(entries), sum(len(entry.data) for entry in entries))
    assert extent == (session.log_events, session.log_size)
    fold = floor.fold
    for entry in entries:
        fold = codec.fold(fold, entry)
    holds = session.key.text if session.key is not None and not session.final else ""
    assert fold == Fold(session.state.value, session.generation, holds)
    if not session.running and any(entry.kind is EventKind.RUN_TERMINAL for entry in entries):
        assert session.compact_at_ms is not None, "nobody looks at what is to be removed one day"
    for entry in entries:
        run = tx.run(session.namespace, entry.run_id) if entry.run_id else None
        if run is not None and run.terminal_sequence == entry.sequence:
            assert tx.terminal_data(run) == entry.data
    return [codec.decode(entry.data) for entry in entries]
