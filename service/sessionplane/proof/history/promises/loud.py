"""Loud: every refusal has its code and a reason that is known, and trouble is named only where there was some."""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.domain import errors
from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Happening, Refusal
from sessionplane.rpc.status import CODES

KNOWN = {(kind.reason, code.name) for kind, code in CODES.items()}
NEVER = frozenset({"UNKNOWN", "CANCELLED", "INTERNAL", "DATA_LOSS", "DEADLINE_EXCEEDED"})
OF_TROUBLE = frozenset({errors.StorageFull.reason, errors.StoreBusy.reason, errors.StoreFailed.reason})
OF_STOPPING = frozenset({errors.Draining.reason})
STOPS = frozenset({Happening.STOPPING, Happening.CRASHED})


def nothing_is_hidden(facts: Facts) -> Iterator[str]:
    """Say which refusal is unknown, or came without its cause, and what the server complained of."""
    refusals = [(told(call), call.refusal) for call in facts.refused]
    refusals += [
        (told(stream), stream.refusal) for stream in facts.history.streams if stream.refusal is not None
    ]
    happened = {each.what for each in facts.history.incidents}
    for where, refusal in refusals:
        if refusal is not None:
            yield from _judge(where, refusal, happened)
    for incident in facts.history.incidents:
        if incident.what is Happening.COMPLAINT:
            yield f"the server complained: {incident.detail}"


def _judge(where: str, refusal: Refusal, happened: set[Happening]) -> Iterator[str]:
    if refusal.code in NEVER or (refusal.reason, refusal.code) not in KNOWN:
        yield f"{where} was refused with {refusal.code} {refusal.reason}"
    if refusal.reason in OF_TROUBLE and Happening.TROUBLE not in happened:
        yield f"{where} was refused with {refusal.reason}, and nothing was wrong"
    if refusal.reason in OF_STOPPING and not STOPS & happened:
        yield f"{where} was refused with {refusal.reason}, and nobody stopped the server"
