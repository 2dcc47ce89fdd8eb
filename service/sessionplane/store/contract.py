"""What the rest of the service may ask of a store: one docstring per method, one promise, one contract test.

A use case is a function of one transaction. It reads through `ReadTx`, or reads and writes through `Tx`, and
whatever it raises leaves nothing behind. The store knows no rule: it never decides what a state, a lease or a
policy means. It owns what only it can: sequences without a gap, the chain hash, one terminal per run, and
the order *commit, then tell*.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from sessionplane.domain.events import Body, Entry, Place
from sessionplane.domain.inputs import Input, InputStage
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.listing import SessionFilter
from sessionplane.domain.runs import Run, RunState, RunTerminal
from sessionplane.domain.sessions import Session
from sessionplane.store.records import (
    ChangeNumbers,
    Committed,
    Extent,
    Floor,
    Import,
    Kept,
    Pointer,
    Request,
    SessionPage,
    Topic,
    Violations,
)

__all__ = [
    "ChangeNumbers",
    "Committed",
    "Extent",
    "Floor",
    "Import",
    "Kept",
    "Pointer",
    "ReadTx",
    "Request",
    "SessionPage",
    "Store",
    "Topic",
    "Tx",
    "Violations",
]

T = TypeVar("T")


class ReadTx(Protocol):
    """One consistent snapshot."""

    @property
    def store_id(self) -> str:
        """The identity of the database: 32 hexadecimal digits, given once."""

    def fact(self, name: str) -> str | None:
        """Return what the database says about itself under a name, or None."""

    def session(self, namespace: str, session_id: str) -> Session | None:
        """Return the session, or None if this namespace has none of that id."""

    def session_by_key(self, namespace: str, key: SessionKey) -> Session | None:
        """Return the session that the key's pointer names: one indexed read."""

    def pointer(self, namespace: str, key: SessionKey) -> Pointer | None:
        """Return the key's pointer, or None."""

    def pointers(self, *, after: tuple[str, str], limit: int) -> list[Pointer]:
        """Return pointers of all namespaces by (namespace, key text), strictly after the given pair."""

    def imported(self, namespace: str, source_id: str, key: SessionKey) -> str:
        """Return the id of the session that another system's session became under a key, "" if it was not imported."""

    def imports(self, *, after: tuple[str, str, str], limit: int) -> list[Import]:
        """Return imports of all namespaces by (namespace, source id, key text), strictly after the given ones."""

    def sessions(
        self,
        namespace: str,
        *,
        wanted: SessionFilter,
        show_internal: bool,
        before: tuple[int, str] | None,
        limit: int,
        examine_max: int,
    ) -> SessionPage:
        """Return the wanted sessions by (updated_at_ms, session_id), newest first, strictly before the given pair:
        at most `limit`, looking at no more than `examine_max`. Deleted ones never come, INTERNAL ones only on
        request.
        """

    def has_sessions(self) -> bool:
        """Say whether there is any session, in any namespace and state, deleted ones included."""

    def sessions_in_state(self, state: str, *, after: str, limit: int) -> list[Session]:
        """Return sessions of all namespaces in a state, by session id, strictly after the given one."""

    def sessions_due(self, state: str, *, at_ms: int, limit: int) -> list[Session]:
        """Return sessions of all namespaces in a state whose due_at_ms is at or before the moment, earliest first."""

    def sessions_to_compact(self, *, at_ms: int, limit: int) -> list[Session]:
        """Return sessions of all namespaces whose compact_at_ms is at or before the moment, earliest first."""

    def sessions_changed(self, namespace: str, *, after: int, limit: int) -> list[Session]:
        """Return sessions of a change number above the given one, lowest first; hidden and deleted ones too."""

    def change_numbers(self, namespace: str) -> ChangeNumbers:
        """Return how far the namespace has come; (0, 0) before its first session."""

    def run(self, namespace: str, run_id: str) -> Run | None:
        """Return the run, or None if this namespace has none of that id."""

    def next_queued(self, session_id: str) -> Run | None:
        """Return the first run in the session's line."""

    def runs(
        self, session_id: str, states: Collection[RunState], *, before: int | None, limit: int
    ) -> list[Run]:
        """Return a session's runs in these states by first_sequence, newest first, strictly before the given one:
        without their inputs, and without the text and result of their terminals.
        """

    def line(self, session_id: str) -> list[Run]:
        """Return the session's line, the first first."""

    def queue_position(self, run: Run) -> int:
        """Return the place in line of a QUEUED run, 1 is next."""

    def queued_before(self, session_id: str, place: int) -> int:
        """Return how many runs in the session's line stand before a place."""

    def input(self, namespace: str, input_id: str) -> Input | None:
        """Return the input that was injected under this id, whatever became of it; None for any other id."""

    def waiting_inputs(
        self, run: Run, *, after: int | None = None, bytes_max: int | None = None
    ) -> list[Input]:
        """Return what was injected into the run and is still RECORDED, by place, strictly behind the given one: all of
        it, or no more bytes than `bytes_max` except that a single larger one comes alone.
        """

    def input_ids(self, run: Run, stage: InputStage, *, limit: int) -> list[str]:
        """Return the ids of what was injected into the run and is in this stage, by place: the last ones."""

    def next_pending(self, namespace: str, pool: str) -> Run | None:
        """Return the oldest PENDING run of the pool."""

    def lane_at(self, session_id: str, sequence: int) -> Run | None:
        """Return the run that was in the session's lane behind `sequence`: of those with a lane_sequence at or
        before it the last, unless its terminal is at or before it too.
        """

    def leased_runs(self, *, after: tuple[str, str], limit: int) -> list[Run]:
        """Return claimed runs of all namespaces by (namespace, run id), strictly after the given pair."""

    def runs_due(self, *, at_ms: int, limit: int) -> list[Run]:
        """Return runs whose due_at_ms is at or before the moment, earliest first."""

    def interrupt(self, namespace: str, interrupt_id: str) -> Interrupt | None:
        """Return the interrupt, or None if this namespace has none of that id."""

    def request(self, namespace: str, rpc: str, request_id: str) -> Request | None:
        """Return what is remembered of a request id."""

    def head(self, session_id: str) -> Place:
        """Return the newest place of a session's log. Raises KeyError for an unknown session."""

    def log_bytes(self, session_id: str) -> int:
        """Return the bytes that were ever appended to a log. Raises KeyError for an unknown session."""

    def floor(self, session_id: str) -> Floor:
        """Return where a session's log begins. Raises KeyError for an unknown session."""

    def place(self, session_id: str, sequence: int) -> Place | None:
        """Return the place behind `sequence` (0 is the place before the first event, with an empty chain;
        the floor's place is known too), or None if the log does not reach it or no longer holds it.
        """

    def entries(self, session_id: str, *, after: Place, limit: int, bytes_max: int) -> list[Entry]:
        """Return the entries behind a place, in order: at most `limit`, and no more bytes than `bytes_max`
        except that a single larger one comes alone.

        Raises TokenCompacted if the place is below the floor, Checksum if an entry is missing above it or does not
        fit the chain.
        """

    def first_kept(
        self, session_id: str, *, after: int, through: int, ended_after_ms: int | None
    ) -> Kept | None:
        """Return the first run recorded in (after, through] of a log that is unfinished, or whose end is kept since
        later than the moment; None asks for unfinished ones only.
        """

    def has_run_behind(self, session_id: str, sequence: int) -> bool:
        """Say whether a run was recorded behind a place of a log."""

    def last_terminal(self, session_id: str) -> int:
        """Return the sequence of the newest terminal in a log, 0 if it holds none."""

    def terminal_data(self, run: Run) -> bytes:
        """Return the entry's data of a finished run's terminal, as it was appended, whether or not the log still
        has it.
        """

    def output_text(self, run: Run, *, bytes_max: int) -> tuple[str, bool]:
        """Join the run's deltas up to `bytes_max` bytes of UTF-8, cut between two characters; False if cut.
        The deltas lie behind first_output_sequence (0: there are none).
        """

    def violations(self, invariant: str, *, limit: int) -> Violations:
        """Say what breaks one of `invariants.INVARIANTS`: how many rows, and some of them. Walks whole tables."""


class Tx(ReadTx, Protocol):
    """The writer's transaction: reads see what was written before in it."""

    def save_fact(self, name: str, value: str) -> None:
        """Write what the database says about itself under a name."""

    def add_session(self, session: Session) -> None:
        """Insert a session. Its log is empty; the head and floor fields of the value are ignored."""

    def save_session(self, session: Session) -> None:
        """Write all fields but the head's and the floor's, under a new change number."""

    def touch_session(self, namespace: str, session_id: str, *, interaction_at_ms: int) -> None:
        """Move the last interaction forward, never back. Changes nothing else; unknown ids are skipped."""

    def postpone_session(self, session: Session) -> None:
        """Write since when a session is quiet and when it is due. Nothing that anybody is shown changes, so it gets
        no change number; unknown ids are skipped.
        """

    def bind_key(self, namespace: str, key: SessionKey, session_id: str) -> str:
        """Insert the key's pointer, with the key's spelling, unless it is there; return the session id that it
        names then. A key without a spelling is its own.
        """

    def release_key(self, namespace: str, key: SessionKey, session_id: str) -> SessionKey | None:
        """Delete the key's pointer if it names this session; return the key as the pointer was spelled, or None."""

    def add_import(self, imported: Import) -> None:
        """Insert an import. Raises KeyError if there is one of that source id and key."""

    def rename_import(self, imported: Import, key: SessionKey) -> None:
        """Move an import to another key, unless that has one of the same source id."""

    def add_run(self, run: Run, *, injected: bool = False) -> None:
        """Insert a run with its input; `injected` means that the input was and has its row already.

        Raises KeyError if the namespace has a run of that id, or an input that is not this run's.
        """

    def save_run(self, run: Run) -> None:
        """Write all fields of a run."""

    def finish_run(self, run: Run, terminal: RunTerminal) -> Run:
        """Append the run's terminal, its last event, and write the run with it. Returns the run as written:
        FINISHED and due no more, with outcome, encoded terminal and its sequence. A second one is impossible: the store
        refuses it with an error that rolls the transaction back.
        """

    def add_input(self, injected: Input) -> None:
        """Insert an injected input. Raises KeyError if the namespace has a run or an input of that id."""

    def save_input(self, injected: Input) -> None:
        """Write an injected input's stage, run and place. Raises KeyError for any other id."""

    def add_interrupt(self, interrupt: Interrupt) -> None:
        """Insert an interrupt."""

    def save_interrupt(self, interrupt: Interrupt) -> None:
        """Write an interrupt's stage, mode and times."""

    def append(
        self, session_id: str, body: Body, *, at_ms: int, run_id: str = "", run_sequence: int = 0
    ) -> int:
        """Append an event and return its sequence: one more than the head, which it moves. The event is
        encoded here, once.
        """

    def remove_events(self, session_id: str, *, through: int, bytes_max: int) -> Extent:
        """Remove the oldest events of a log up to `through`, or fewer if they hold more bytes (a single larger one
        goes alone), and move the floor there. Nobody is shown a change, so there is no change number.

        Raises Checksum if one of them does not fit the chain, KeyError for an unknown session.
        """

    def remove_rows(self, session_id: str, *, limit: int, bytes_max: int) -> int:
        """Remove some of what hangs on a session: inputs, interrupts, runs, and events when these are gone. At most
        `limit` rows, or fewer if they hold more bytes (a single larger one goes alone). Returns how many; 0: nothing
        is left. Where the log begins is not kept up to date: the session is to be removed.
        """

    def remove_session(self, session: Session) -> None:
        """Remove a session's row, on which nothing hangs, and keep its change number as its namespace's floor. Raises
        KeyError for an unknown session.
        """

    def plan_compaction(self, session_id: str, at_ms: int | None) -> None:
        """Write when retention looks at a session next, None for never. Unknown ids are skipped."""

    def remember(self, request: Request) -> None:
        """Insert a request id. A second one of the same scope is an error that rolls back."""

    def forget_requests(self, *, before_ms: int, limit: int) -> int:
        """Delete remembered requests that are older; return how many."""

    def wake(self, topic: Topic) -> None:
        """Wake whoever waits for the topic, after this is committed. Asked for twice, it is told twice: each run
        that a pool gets wakes a runner of its own.
        """

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Call `undo` if this use case or its commit fails: for memory that mirrors rows, owned by the
        writer's thread.
        """


class Store(Protocol):
    """A database of sessions, owned by this process alone."""

    @property
    def store_id(self) -> str:
        """The identity of the database: 32 hexadecimal digits, given once."""

    def submit(self, command: Callable[[Tx], T], *, size: int = 0) -> Future[T]:
        """Queue a use case for the writer and return its result's future.

        Commands run in the order of submission, each all or nothing. The future is done after the commit was
        flushed and `on_commit` was called; giving it up does not take the command back. `size` counts
        against the bound in bytes of what waits. Raises Overloaded (queue full), Draining or StoreFailed at
        once; the future fails with what the use case raised, StorageFull, StoreBusy or StoreFailed.
        """

    def read(self, query: Callable[[ReadTx], T]) -> T:
        """Run a query of a few point reads on the caller's thread, in one snapshot."""

    async def scan(self, query: Callable[[ReadTx], T]) -> T:
        """Run a query of any length on a reader's thread, in one snapshot."""

    def on_commit(self, listener: Callable[[Committed], None]) -> None:
        """Set who is told, on the event loop, of each commit that brought entries, topics or new change numbers,
        before the futures of its commands are done.
        """
