"""Whose run is offered to others: that of a runner that was never heard, and of no other.

A claim whose answer was lost may have a runner that knows nothing of it, so the run must not be given up; and a run
whose runner was heard may have had effects, so it must not be done twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.proof.history.facts import SIGNS, Facts
from sessionplane.proof.history.records import Call
from sessionplane.v1 import run_pb2


def wrongly_offered(facts: Facts) -> Iterator[str]:
    """Say which run was given up though its runner may not have known of it, or offered though its runner was heard."""
    tried = {_lease(facts, call) for call in facts.made(*SIGNS, "FinishRun", "DriveRun")}
    heard = {_lease(facts, call) for call in facts.calls(*SIGNS)}
    released = {_lease(facts, call) for call in facts.made("ReleaseRun")}
    for event in facts.events():
        changed = event.run_changed
        lease = (event.run_id, changed.lease_epoch)
        if changed.to_state == run_pb2.RUN_STATE_PENDING and changed.from_state == run_pb2.RUN_STATE_RUNNING:
            if lease in heard and lease not in released:
                yield f"{event.run_id} was offered again, though its runner was heard under lease {lease[1]}"
        elif changed.to_state == run_pb2.RUN_STATE_FINISHED and lease not in tried:
            end = facts.terminal_of(event.run_id)
            if end is not None and end.run_terminal.outcome == run_pb2.RUN_OUTCOME_LOST:
                yield f"{event.run_id} was lost under lease {lease[1]}, of which nobody was ever heard"


def _lease(facts: Facts, call: Call) -> tuple[str, int]:
    return (call.request.run_id, facts.epoch(call))
