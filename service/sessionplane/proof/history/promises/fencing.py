"""Fencing: nothing that shows an old lease is accepted, and a run has one lease at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.v1 import run_pb2

RECORDED = run_pb2.FINISH_RESULT_RECORDED


def old_leases_are_refused(facts: Facts) -> Iterator[str]:
    """Say which lease was given twice, and what was accepted under one that had been followed by another."""
    yield from _given(facts)
    yield from _accepted(facts)
    yield from _in_the_log(facts)


def _given(facts: Facts) -> Iterator[str]:
    """Epochs rise with each claim, and a lease is shown again only to whoever asks again under the same id."""
    leases: dict[tuple[str, int], Call] = {}
    for call in facts.calls("ClaimRun"):
        if not call.answer.claimed:
            continue
        run_id, epoch = call.answer.run.run_id, call.answer.lease.epoch
        first = leases.setdefault((run_id, epoch), call)
        same = first.answer.lease.token == call.answer.lease.token
        if not same or (first is not call and (not call.request_id or first.request_id != call.request_id)):
            yield f"{told(first)} and {told(call)} both got lease {epoch} of {run_id}"
    for (run_id, epoch), call in leases.items():
        for (other_id, later), before in leases.items():
            if other_id == run_id and later > epoch and before.ended_at < facts.since(call):
                yield f"{told(call)} got lease {epoch} of {run_id}, which had come to {later}"


def _accepted(facts: Facts) -> Iterator[str]:
    """No call under a lease is accepted that was made after a newer lease was given."""
    given: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for call in facts.calls("ClaimRun"):
        if call.answer.claimed:
            given[call.answer.run.run_id].append((call.answer.lease.epoch, call.ended_at))
    for call in facts.calls("PublishEvents", "HeartbeatRun", "FinishRun", "ReleaseRun"):
        run_id = call.request.run_id
        epoch = facts.epochs.get((run_id, call.request.lease_token))
        if epoch is None or (call.method == "ReleaseRun" and facts.since(call) != call.called_at):
            continue
        newer = [each for each, at in given[run_id] if each > epoch and at < call.called_at]
        if newer:
            yield f"{told(call)} was accepted under lease {epoch} of {run_id}, which had come to {max(newer)}"


def _in_the_log(facts: Facts) -> Iterator[str]:
    """Each publication stands in the log between its lease's claim and the next."""
    publishers: dict[tuple[str, str], int | None] = {}
    for call in facts.made("PublishEvents"):
        epoch = facts.epochs.get((call.request.run_id, call.request.lease_token))
        for new in call.request.events:
            if new.output_delta.text:
                publishers[call.request.run_id, new.output_delta.text] = epoch
    reporters = {
        call.request.run_id: facts.epochs.get((call.request.run_id, call.request.lease_token))
        for call in facts.calls("FinishRun")
        if call.answer.finish_result == RECORDED
    }
    for run_id, events in sorted(facts.run_events.items()):
        current = 0
        for event in events:
            changed = event.run_changed
            if changed.to_state == run_pb2.RUN_STATE_RUNNING:
                if changed.lease_epoch <= current:
                    yield f"{run_id} was claimed under lease {changed.lease_epoch} behind {current}"
                current = changed.lease_epoch
            shown = publishers.get((run_id, event.output_delta.text)) if event.output_delta.text else None
            if event.run_terminal.cause == run_pb2.RUN_CAUSE_RUNNER:
                shown = reporters.get(run_id)
            if shown is not None and current and shown != current:
                yield f"{run_id} has {event.sequence} of lease {shown} under lease {current}"
