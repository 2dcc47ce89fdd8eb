"""Loud: every refusal has its code and a reason that is known, and names trouble only where there was some."""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Call, Happening, Refusal, Stream
from sessionplane.proof.history.tables import OF_STOPPING, OF_TROUBLE, REFUSALS

STOPS = frozenset({Happening.STOPPING, Happening.CRASHED})


def loud(facts: Facts) -> Iterator[str]:
    """Say which refusal is unknown, or came without its cause, and what the server complained of."""
    happened = {each.what for each in facts.history.incidents}
    everything: list[Call | Stream] = [*facts.history.calls, *facts.history.streams]
    for thing in everything:
        if thing.refusal is not None:
            yield from (f"{told(thing)} was refused with {how}" for how in _judge(thing.refusal, happened))
    for incident in facts.history.incidents:
        if incident.what is Happening.COMPLAINT:
            yield f"the server complained: {incident.detail}"


def _judge(refusal: Refusal, happened: set[Happening]) -> Iterator[str]:
    if (refusal.reason, refusal.code) not in REFUSALS:
        yield f"{refusal.code} {refusal.reason}"
    if refusal.reason in OF_TROUBLE and Happening.TROUBLE not in happened:
        yield f"{refusal.reason}, and nothing was wrong"
    if refusal.reason in OF_STOPPING and not STOPS & happened:
        yield f"{refusal.reason}, and nobody stopped the server"
