"""Whether what was read of a register can be put into one order, answered by trying: what `intervals` must agree with.

It takes the reads in every order that their times allow. That is exponential where many of them overlap, so it is asked
about slices only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessionplane.proof.history.intervals import NEVER, NOBODY, Read, Value


def is_linearizable(reads: Sequence[Read], *, freed_at: float = NEVER) -> bool:
    """Say whether some order of the reads, each at a moment between its bounds, is that of one register: it begins
    with nobody, a value that is gone stays away, and nobody has it again only from `freed_at` on.
    """
    everything = frozenset(range(len(reads)))
    tried: set[Order] = set()
    begun = [Order()]
    while begun:
        order = _with_holder(reads, begun.pop(), freed_at)
        if order.taken == everything:
            return True
        if order not in tried:
            tried.add(order)
            begun += _continued(reads, order, freed_at)
    return False


@dataclass(frozen=True, slots=True)
class Order:
    """The beginning of an order: which reads are in it, who holds the register behind them, and who did before."""

    taken: frozenset[int] = frozenset()
    holder: Value = NOBODY
    lost: frozenset[Value] = frozenset()


def _ready(reads: Sequence[Read], order: Order, freed_at: float) -> list[int]:
    """Return the reads that may come next: those that began before any other one that is left was over."""
    again_at = freed_at if order.lost or order.holder != NOBODY else -NEVER
    left = [index for index in range(len(reads)) if index not in order.taken]
    soonest = min((reads[index].until for index in left), default=NEVER)
    begins = [max(reads[i].since, again_at) if reads[i].value == NOBODY else reads[i].since for i in left]
    return [index for index, begin in zip(left, begins, strict=True) if begin <= soonest]


def _with_holder(reads: Sequence[Read], order: Order, freed_at: float) -> Order:
    """Take every read of the present holder that may come next: that can never hurt."""
    while same := [index for index in _ready(reads, order, freed_at) if reads[index].value == order.holder]:
        order = Order(order.taken.union(same), order.holder, order.lost)
    return order


def _continued(reads: Sequence[Read], order: Order, freed_at: float) -> list[Order]:
    """Let the register go to each value that is read next, but none that it lost before."""
    lost = order.lost | ({order.holder} - {NOBODY})
    values = {reads[index].value for index in _ready(reads, order, freed_at)}
    return [Order(order.taken, value, lost) for value in values - lost - {order.holder}]
