"""Tables of what the commands list. What others wrote reaches the terminal as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from sessionplane.v1.session_pb2 import Session

SESSION_HEADINGS = ("KEY", "STATE", "RUN", "QUEUED", "ATTACHED", "EVENTS", "CHANGED", "SESSION")
_NUMBERS = frozenset({"QUEUED", "ATTACHED", "EVENTS", "PLACE", "INPUTS", "THROUGH", "LAG"})


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines, numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold", justify="right" if heading in _NUMBERS else "left")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; into a pipe a row stays one line, however long."""
    from rich.console import Console

    made, console = table(headings, rows), Console()
    console.print(made) if console.is_terminal else Console(width=1_000).print(made)


def session_cells(session: Session) -> tuple[str, ...]:
    """A session as a row under SESSION_HEADINGS."""
    from sessionplane.v1 import session_pb2

    from . import show

    marks = [show.word(session_pb2.SessionState, session.state)]
    marks += ["(final)"] if session.final else []
    marks += ["(internal)"] if session.visibility == session_pb2.VISIBILITY_INTERNAL else []
    return (
        session.key or "-",
        " ".join(marks),
        show.short(session.active_run_id) or "-",
        str(session.queued_run_count),
        str(session.attached_count),
        str(session.head_sequence),
        show.clock(session.update_time),
        session.session_id,
    )
