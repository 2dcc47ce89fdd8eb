"""Use cases for the start under other key settings: whom they touch, and to move everybody in one transaction.

The database records the settings and the version of the rules that its keys are canonical under. Nothing here runs
while the server serves: a key is judged once, when it comes, and what it means does not change under anybody's feet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from sessionplane.domain.errors import Damaged
from sessionplane.domain.key_changes import RULES_FACT, SETTINGS_FACT, KeyRecord, fate, respelled
from sessionplane.domain.key_report import (
    KeyChanges,
    Listed,
    Meeting,
    Move,
    refused_line,
    stray_line,
)
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.merging import Rank
from sessionplane.domain.sessions import MoveReason
from sessionplane.plane import pointers, sessions
from sessionplane.plane.context import Context
from sessionplane.store.contract import Pointer, ReadTx, Tx

_PAGE = 1_000

Note = Callable[[int], None]
"""Hears how many keys have been looked at."""


def is_recorded(tx: ReadTx, record: KeyRecord) -> bool:
    """Say whether the keys of the database are canonical under this very record."""
    return all(tx.fact(name) == value for name, value in record.facts().items())


def recorded(tx: ReadTx) -> KeyRecord | None:
    """Return what the keys of the database are canonical under; None for a new one. Raises Damaged."""
    rules_version, settings = tx.fact(RULES_FACT), tx.fact(SETTINGS_FACT)
    if rules_version is None or settings is None:
        return None
    try:
        return KeyRecord.of_facts(rules_version, settings)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(what="fact", name=SETTINGS_FACT) from error


def survey(tx: ReadTx, after: KeyRecord, *, note: Note = lambda _: None) -> KeyChanges:
    """Judge every key of the database under another record. Reads only; its memory grows with what would move."""
    before = recorded(tx)
    moves: dict[tuple[str, str], Move] = {}
    refused, strays, count = Listed(), Listed(), 0
    for pointer in _pointers(tx):
        count += 1
        if count % _PAGE == 0:
            note(count)
        judged = fate(pointer.key, before, after)
        if judged.target != pointer.key:
            moves[pointer.namespace, pointer.key.text] = _move(pointer, judged.target)
        elif judged.refusal:
            refused.add(refused_line(pointer.key, judged.refusal))
        elif judged.strays:
            strays.add(stray_line(pointer.key, *judged.strays[0]))
    return KeyChanges(
        before=before,
        after=after,
        key_count=count,
        moves=tuple(moves.values()),
        meetings=tuple(_meetings(tx, moves)),
        refused=refused,
        strays=strays,
    )


def accept(tx: Tx, changes: KeyChanges, context: Context) -> None:
    """Do what a survey of this very database found, and record what its keys are canonical under from now on."""
    meetings = {(each.namespace, each.key.text): each for each in changes.meetings}
    # All keys are free before the first is taken: one may be taken by who came from another.
    for move in changes.moves:
        tx.release_key(move.namespace, move.key, move.session_id)
    for meeting in changes.meetings:
        _retire_losers(tx, meeting, context)
    arriving = [
        (move, met)
        for move in changes.moves
        if (met := meetings.get((move.namespace, move.target.text))) is None
        or met.keeper_id == move.session_id
    ]
    for start in range(0, len(arriving), _PAGE):
        _arrive(tx, arriving[start : start + _PAGE], context)
    _rename_imports(tx, changes.after)
    for name, value in changes.after.facts().items():
        tx.save_fact(name, value)


def _rename_imports(tx: Tx, after: KeyRecord) -> None:
    """Let an import that is repeated find what it brought: its entries have other keys from now on."""
    place = ("", "", "")
    while page := tx.imports(after=place, limit=_PAGE):
        for imported in page:
            key = respelled(imported.key, after)
            if key != imported.key:
                tx.rename_import(imported, key)
        place = page[-1].namespace, page[-1].source_id, page[-1].key.text


def _pointers(tx: ReadTx) -> Iterator[Pointer]:
    after = ("", "")
    while page := tx.pointers(after=after, limit=_PAGE):
        yield from page
        after = page[-1].namespace, page[-1].key.text


def _meetings(tx: ReadTx, moves: Mapping[tuple[str, str], Move]) -> Iterator[Meeting]:
    """Find the keys to which more than one session comes, or one where another stays."""
    arrivals: dict[tuple[str, str], list[Move]] = defaultdict(list)
    for move in moves.values():
        arrivals[move.namespace, move.target.text].append(move)
    for name, claims in arrivals.items():
        first = claims[0]
        holder = None if name in moves else tx.pointer(first.namespace, first.target)
        if holder is not None:
            claims.append(_move(holder, first.target))
        if len(claims) > 1:
            keeper, *losers = (
                claim.session_id for claim in sorted(claims, key=lambda claim: _claim_of(tx, claim))
            )
            yield Meeting(
                namespace=first.namespace, key=first.target, keeper_id=keeper, loser_ids=tuple(losers)
            )


def _move(pointer: Pointer, target: SessionKey) -> Move:
    return Move(namespace=pointer.namespace, key=pointer.key, target=target, session_id=pointer.session_id)


def _claim_of(tx: ReadTx, move: Move) -> tuple[Rank, str]:
    session = sessions.require_row(tx, move.namespace, move.session_id)
    return pointers.rank_of(session, move.key.spelling, move.target), session.session_id


def _retire_losers(tx: Tx, meeting: Meeting, context: Context) -> None:
    for session_id in meeting.loser_ids:
        loser = sessions.require_row(tx, meeting.namespace, session_id)
        tx.release_key(meeting.namespace, meeting.key, session_id)
        pointers.retire(tx, loser, MoveReason.MERGED, context, successor_id=meeting.keeper_id)


def _arrive(tx: Tx, page: Sequence[tuple[Move, Meeting | None]], context: Context) -> None:
    """Give sessions their new keys. They are read first: reading between writes would write each event by itself."""
    rows = [sessions.require_row(tx, move.namespace, move.session_id) for move, _ in page]
    for session, (move, met) in zip(rows, page, strict=True):
        if met is None:
            pointers.rename(tx, session, move.target, context)
        else:
            pointers.rename(
                tx,
                session,
                move.target,
                context,
                reason=MoveReason.MERGED,
                other_session_id=met.loser_ids[0],
            )
