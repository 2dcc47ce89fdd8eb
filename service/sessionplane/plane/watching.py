"""Use cases of watching sessions: where a watch begins, and what changed behind a number.

What a watch is told are rows as they are, never a history: labels, states and counts of the moment. It never writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sessionplane.domain.errors import LogBehindToken, StoreReplaced, TokenCompacted
from sessionplane.domain.tokens import WatchToken
from sessionplane.live.watch import Changes
from sessionplane.store.contract import ReadTx


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """Watches the sessions of a namespace, from a token or from the beginning."""

    namespace: str
    token: WatchToken | None = None
    show_internal: bool = False
    subscriber_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOpening:
    """A watch tells of what lies above `begin`; at `goal` it has told what was there when it was opened."""

    begin: int
    goal: int
    fresh: bool


def open_watch(tx: ReadTx, request: WatchRequest) -> WatchOpening:
    """Find out where a watch begins. Raises StoreReplaced, TokenCompacted and LogBehindToken."""
    newest, floor = tx.change_numbers(request.namespace)
    token = request.token
    if token is None:
        return WatchOpening(begin=0, goal=newest, fresh=True)
    if token.store_id != tx.store_id:
        raise StoreReplaced(store_epoch=tx.store_id)
    if token.number > newest:
        raise LogBehindToken(head=newest, token=token.number)
    if token.number < floor:
        raise TokenCompacted
    return WatchOpening(begin=token.number, goal=newest, fresh=False)


def changes(tx: ReadTx, namespace: str, after: int, limit: int) -> Changes:
    """Read the sessions above a change number. A page that is not full accounts for all numbers there are."""
    newest, floor = tx.change_numbers(namespace)
    rows = tx.sessions_changed(namespace, after=after, limit=limit)
    more = len(rows) == limit
    return Changes(sessions=rows, through=rows[-1].change_number if more else newest, more=more, floor=floor)
