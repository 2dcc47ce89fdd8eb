"""When each lease runs out, on a clock that cannot be set.

Memory of the writer's thread, never of record: the row says who holds a run, this says until when. A restart,
or a pause of the machine, grants every lease again in full, so that nobody loses a run while nobody could
have been heard.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple


class RunRef(NamedTuple):
    """One run, by name."""

    namespace: str
    run_id: str


class Term(NamedTuple):
    """When a lease runs out, and how long it is granted for."""

    deadline_ms: int
    lease_ms: int


class Leases:
    """The terms of all claimed runs. Bounded by the runs that are claimed.

    Each lease has one entry in the heap that counts, at or before its deadline; one that an extension overtook is put
    back when it comes up, so an extension costs one dictionary write. `_coming` says which entry counts: another one
    of the same run is dropped when it comes up.
    """

    def __init__(self) -> None:
        self._terms: dict[RunRef, Term] = {}
        self._heap: list[tuple[int, RunRef]] = []
        self._coming: dict[RunRef, int] = {}

    def __len__(self) -> int:
        """Return how many runs are claimed."""
        return len(self._terms)

    def term(self, ref: RunRef) -> Term | None:
        """Return the run's term; None if it is not claimed."""
        return self._terms.get(ref)

    def grant(self, ref: RunRef, *, now_ms: int, lease_ms: int) -> Term:
        """Begin or extend a lease: it runs out `lease_ms` from now."""
        term = Term(now_ms + lease_ms, lease_ms)
        self._put(ref, term)
        return term

    def _put(self, ref: RunRef, term: Term) -> None:
        self._terms[ref] = term
        coming_ms = self._coming.get(ref)
        if coming_ms is None or term.deadline_ms < coming_ms:
            self._coming[ref] = term.deadline_ms
            heapq.heappush(self._heap, (term.deadline_ms, ref))

    def drop(self, ref: RunRef) -> None:
        """Forget a lease; unknown ones are forgotten already."""
        self._terms.pop(ref, None)

    def restore(self, ref: RunRef, term: Term | None) -> None:
        """Put back what `term` returned before: the undo of `grant` and `drop`."""
        if term is None:
            self.drop(ref)
        else:
            self._put(ref, term)

    def due(self, *, now_ms: int, limit: int) -> list[RunRef]:
        """Return up to `limit` runs whose lease has run out. They come again until they are dropped."""
        late: list[RunRef] = []
        while self._heap and self._heap[0][0] <= now_ms and len(late) < limit:
            deadline_ms, ref = heapq.heappop(self._heap)
            if self._coming.get(ref) != deadline_ms:
                continue
            del self._coming[ref]
            term = self._terms.get(ref)
            if term is not None and term.deadline_ms <= now_ms:
                late.append(ref)
            elif term is not None:
                self._put(ref, term)
        for ref in late:
            self._put(ref, self._terms[ref])
        return late

    def grant_all(self, *, now_ms: int) -> None:
        """Grant every lease again in full."""
        self._terms = {ref: Term(now_ms + term.lease_ms, term.lease_ms) for ref, term in self._terms.items()}
        self._coming = {ref: term.deadline_ms for ref, term in self._terms.items()}
        self._heap = [(deadline_ms, ref) for ref, deadline_ms in self._coming.items()]
        heapq.heapify(self._heap)
