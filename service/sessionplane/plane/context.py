"""What a use case knows besides its rows: the time, new ids, the bounds, and the writer's own memory.

Also the memory of request ids, since every changing call begins and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sessionplane.domain.errors import RequestIdReused
from sessionplane.domain.limits import Limits
from sessionplane.plane.freshness import Judge
from sessionplane.plane.leases import Leases
from sessionplane.plane.presence import Attendance
from sessionplane.store.contract import ReadTx, Request, Topic, Tx

T = TypeVar("T")
R = TypeVar("R")


class Clock(Protocol):
    """Two clocks: one to label with, one to judge by."""

    def wall_ms(self) -> int:
        """Return Unix milliseconds. It may be set, and jump."""

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one use case is given: one moment, taken as it begins.

    `now_ms` is Unix time as the machine tells it, for people to read; it may jump. `judged_ms` is Unix time as this
    process counts it on from its start, by a clock that cannot be set: whatever ends, expires or is forgotten is
    judged by it. `monotonic_ms` is that clock itself, for what does not outlive the process.
    `leases` and `presence` belong to the writer's thread, like the transaction. `judge` knows who is stale.
    """

    now_ms: int
    judged_ms: int
    monotonic_ms: int
    limits: Limits
    leases: Leases
    presence: Attendance
    judge: Judge
    new_id: Callable[[str], str]
    new_secret: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who calls what: the namespace, the RPC, and the id that makes it safe to repeat.

    `fingerprint` is the hash of the whole request with its key in canonical form and without its request id.
    """

    namespace: str
    rpc: str = ""
    request_id: str = ""
    fingerprint: bytes = b""


def recall(tx: ReadTx, call: Call) -> Request | None:
    """Return what is remembered of the call's request id; None if it has none or is the first.

    Raises RequestIdReused if the id came with another request.
    """
    if not call.request_id:
        return None
    known = tx.request(call.namespace, call.rpc, call.request_id)
    if known is not None and known.fingerprint != call.fingerprint:
        first_seen = datetime.fromtimestamp(known.at_ms / 1000, UTC)
        raise RequestIdReused(first_seen_at=first_seen.isoformat(timespec="seconds"))
    return known


def remember(
    tx: Tx,
    call: Call,
    context: Context,
    *,
    session_id: str = "",
    run_id: str = "",
    interrupt_id: str = "",
    detail: str = "",
) -> None:
    """Keep what the call led to, in the same transaction as the effect. Does nothing without a request id."""
    if not call.request_id:
        return
    tx.remember(
        Request(
            namespace=call.namespace,
            rpc=call.rpc,
            request_id=call.request_id,
            fingerprint=call.fingerprint,
            at_ms=context.judged_ms,
            session_id=session_id,
            run_id=run_id,
            interrupt_id=interrupt_id,
            detail=detail,
        )
    )


def with_request(use_case: Callable[[Tx, R, Context], T], request: R) -> Callable[[Tx, Context], T]:
    """Give a use case its request now, and the rest when its turn comes."""
    return lambda tx, context: use_case(tx, request, context)


def run_topic(namespace: str, run_id: str) -> Topic:
    """Name what changes with a run."""
    return Topic("run", namespace, run_id)


def pool_topic(namespace: str, pool: str) -> Topic:
    """Name what changes when a run of the pool may be claimed."""
    return Topic("pool", namespace, pool)
