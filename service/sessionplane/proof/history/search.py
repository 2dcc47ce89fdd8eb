"""Whether a key had one holder at a time, answered by trying all orders: what `one_key_one_session` must agree with.

A key has one holder or nobody; a session that lost it never has it again. The search takes the reads in every order
that their times allow. It is exponential where many calls run at once, so it is asked about slices only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sessionplane.proof.history.promises.one_key_one_session import NOBODY, Read


def is_linearizable(reads: Sequence[Read], *, deletable: bool = False) -> bool:
    """Say whether some order of the reads, each at a moment between its bounds, is that of one register.

    `deletable` allows that nobody holds the key again after somebody did.
    """
    ordered = sorted(reads, key=lambda read: read.since)
    whole = (1 << len(ordered)) - 1

    @cache
    def possible(done: int, holder: str, lost: frozenset[str]) -> bool:
        if done == whole:
            return True
        left = [index for index in range(len(ordered)) if not done >> index & 1]
        soonest = min(ordered[index].until for index in left)
        ready = [index for index in left if ordered[index].since <= soonest]
        same = [index for index in ready if ordered[index].value == holder]
        if same:
            # Taking a read of the present holder can never hurt.
            return possible(done | 1 << same[0], holder, lost)
        for index in ready:
            value = ordered[index].value
            if value in lost or (value == NOBODY and not deletable):
                continue
            if possible(done | 1 << index, value, lost | ({holder} - {NOBODY})):
                return True
        return False

    return possible(0, NOBODY, frozenset())
