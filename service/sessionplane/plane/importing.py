"""Use case of whoever moves in: sessions of another system become sessions here, and nothing of either is discarded.

Entries that mean one key meet the session that holds it here, and each other: one keeps the key, as `merging` says, and
the others become final beside it. Each is remembered by its id there and its key, so an import can be repeated. A
rehearsal does all of it and takes it back: what it says is what would be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sessionplane.domain.keys import SessionKey
from sessionplane.domain.merging import ImportOutcome, Rank, moment, rank
from sessionplane.domain.sessions import Interaction, MoveReason, Session
from sessionplane.plane import pointers, sessions
from sessionplane.plane.context import Context
from sessionplane.plane.sessions import Past
from sessionplane.store.contract import Import, Pointer, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportEntry:
    """One session of another system. Times are Unix milliseconds as that system says; 0: before everything else."""

    raw_key: str
    key: SessionKey
    source_id: str
    updated_at_ms: int = 0
    started_at_ms: int | None = None
    last_interaction_at_ms: int | None = None
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """Asks for sessions in one namespace; a `dry_run` only says what would become of them."""

    namespace: str
    entries: Sequence[ImportEntry]
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of an entry. `other_session_id` is the session that it met under its key."""

    outcome: ImportOutcome
    session_id: str
    other_session_id: str = ""


class Rehearsed(Exception):
    """Takes a rehearsal back, and carries what it came to. Ids that were minted in it are left out."""

    def __init__(self, results: Sequence[Imported]) -> None:
        self.results = results
        super().__init__()


def import_sessions(tx: Tx, request: ImportRequest, context: Context) -> Sequence[Imported]:
    """Import sessions; the results are in the order of the entries. Raises Rehearsed for a dry run, always."""
    if request.dry_run:
        _rehearse(tx, request, context)
    pasts = [_past(entry, context) for entry in request.entries]
    # The best claims first, so that nobody gets a key only to lose it in the same call; of equal ones the first named.
    order = sorted(range(len(pasts)), key=lambda index: _rank(request.entries[index], pasts[index]))
    results = {
        index: _import(tx, request.namespace, request.entries[index], pasts[index], context)
        for index in order
    }
    return [results[index] for index in range(len(pasts))]


def _rehearse(tx: Tx, request: ImportRequest, context: Context) -> None:
    minted: set[str] = set()

    def new_id(prefix: str) -> str:
        made = context.new_id(prefix)
        minted.add(made)
        return made

    def known(session_id: str) -> str:
        return "" if session_id in minted else session_id

    done = import_sessions(tx, replace(request, dry_run=False), replace(context, new_id=new_id))
    raise Rehearsed(
        [
            replace(each, session_id=known(each.session_id), other_session_id=known(each.other_session_id))
            for each in done
        ]
    )


def _past(entry: ImportEntry, context: Context) -> Past:
    """Return an entry's times as far as they can be."""
    updated_at_ms = moment(entry.updated_at_ms, context.now_ms) or 0
    started_at_ms = moment(entry.started_at_ms, context.now_ms)
    return Past(
        started_at_ms=updated_at_ms if started_at_ms is None else started_at_ms,
        updated_at_ms=updated_at_ms,
        last_interaction_at_ms=moment(entry.last_interaction_at_ms, context.now_ms),
    )


def _rank(entry: ImportEntry, past: Past) -> Rank:
    return rank(
        updated_at_ms=past.updated_at_ms,
        was_canonical=entry.raw_key == entry.key.text,
        since_ms=past.started_at_ms,
    )


def _import(tx: Tx, namespace: str, entry: ImportEntry, past: Past, context: Context) -> Imported:
    known = tx.imported(namespace, entry.source_id, entry.key)
    if known:
        return Imported(outcome=ImportOutcome.ALREADY_IMPORTED, session_id=known)
    imported = _settle(tx, namespace, entry, past, context)
    tx.add_import(
        Import(
            namespace=namespace,
            source_id=entry.source_id,
            key=entry.key,
            session_id=imported.session_id,
        )
    )
    return imported


def _settle(tx: Tx, namespace: str, entry: ImportEntry, past: Past, context: Context) -> Imported:
    """Give the key to the better claim: the entry's, or that of the session which holds it."""
    pointer = tx.pointer(namespace, entry.key)
    if pointer is None:
        session = _create(tx, namespace, entry, past, context, key=entry.key)
        return Imported(outcome=ImportOutcome.CREATED, session_id=session.session_id)
    holder = sessions.require_row(tx, namespace, pointer.session_id)
    if _rank(entry, past) < pointers.rank_of(holder, pointer.key.spelling, entry.key):
        outcome, session = ImportOutcome.MERGED_WINNER, _take(tx, holder, entry, past, context)
    else:
        outcome, session = ImportOutcome.MERGED_LOSER, _stand_by(tx, pointer, entry, past, context)
    return Imported(outcome=outcome, session_id=session.session_id, other_session_id=holder.session_id)


def _create(
    tx: Tx, namespace: str, entry: ImportEntry, past: Past, context: Context, *, key: SessionKey | None
) -> Session:
    return sessions.create(
        tx,
        context,
        namespace=namespace,
        key=key,
        interaction=Interaction.SYSTEM,
        past=past,
        labels=entry.labels,
        display_name=entry.display_name,
    )


def _take(tx: Tx, holder: Session, entry: ImportEntry, past: Past, context: Context) -> Session:
    return pointers.give_way(
        tx,
        holder,
        entry.key,
        context,
        past=past,
        labels=entry.labels,
        display_name=entry.display_name,
    )


def _stand_by(tx: Tx, pointer: Pointer, entry: ImportEntry, past: Past, context: Context) -> Session:
    """Add a session that another one keeps from its key: final from its birth, with its own times."""
    session = replace(_create(tx, pointer.namespace, entry, past, context, key=None), key=entry.key)
    session = pointers.retire(tx, session, MoveReason.MERGED, context, successor_id=pointer.session_id)
    session = replace(session, updated_at_ms=past.updated_at_ms)
    tx.save_session(session)
    return session
