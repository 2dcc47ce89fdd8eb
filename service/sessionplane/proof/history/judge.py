"""All validators by the promise that each one watches, and the verdict on a whole history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.history.promises.acknowledged_means_on_disk import acknowledged_means_on_disk
from sessionplane.proof.history.promises.every_run_ends_once import every_run_ends_once
from sessionplane.proof.history.promises.fencing import fencing
from sessionplane.proof.history.promises.interrupts import interrupts
from sessionplane.proof.history.promises.isolation import isolation
from sessionplane.proof.history.promises.loud import loud
from sessionplane.proof.history.promises.one_key_one_session import one_key_one_session
from sessionplane.proof.history.promises.one_spelling import one_spelling
from sessionplane.proof.history.promises.order import order_without_gaps
from sessionplane.proof.history.promises.resume import resume_never_lies
from sessionplane.proof.history.promises.state_decides import state_decides
from sessionplane.proof.history.records import History
from sessionplane.proof.history.traffic import MINIMUMS, lacking

PROMISES: Mapping[str, Callable[[Facts], Iterator[str]]] = MappingProxyType(
    {
        "One key, one session": one_key_one_session,
        "Acknowledged means on disk": acknowledged_means_on_disk,
        "Order without gaps": order_without_gaps,
        "Resume never lies": resume_never_lies,
        "Every run ends, once, for everyone": every_run_ends_once,
        "Fencing": fencing,
        "An interrupt is durable intent": interrupts,
        "State decides": state_decides,
        "One spelling": one_spelling,
        "Isolation": isolation,
        "Loud": loud,
    }
)
"""A heading of docs/promises.md -> what says where a history breaks it."""


class Broken(NamedTuple):
    """A promise, and how a history breaks it."""

    promise: str
    how: str


class Verdict(StrEnum):
    """What can be said of a history as a whole."""

    KEPT = "kept"
    BROKEN = "broken"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a history breaks promises, and what it lacks to prove that it keeps them."""

    broken: Sequence[Broken]
    lacking: Sequence[str]

    @property
    def verdict(self) -> Verdict:
        """One word: what is broken is broken however little there was, and what proves nothing is not kept."""
        if self.broken:
            return Verdict.BROKEN
        return Verdict.INVALID if self.lacking else Verdict.KEPT


def judgement(history: History, minimums: Mapping[str, int] = MINIMUMS) -> Judgement:
    """Judge a history of a server that was killed: what is broken, and whether there was enough before each crash."""
    return Judgement(broken=judge(history), lacking=lacking(history, minimums))


def judge(history: History) -> list[Broken]:
    """Return every way in which a history breaks a promise."""
    facts = Facts(history)
    return [Broken(promise, how) for promise, validator in PROMISES.items() for how in validator(facts)]
