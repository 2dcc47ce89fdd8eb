"""Fencing: nothing that shows an old lease is accepted, and a run has one lease at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.v1 import run_pb2

RECORDED = run_pb2.FINISH_RESULT_RECORDED


def fencing(facts: Facts) -> Iterator[str]:
    """Say which lease was given twice, and what was accepted under one that had been followed by another."""
    claims: dict[str, list[Call]] = defaultdict(list)
    for call in facts.calls("ClaimRun"):
        if call.answer.claimed:
            claims[call.answer.run.run_id].append(call)
    for run_id, calls in claims.items():
        yield from _given(facts, run_id, calls)
    yield from _accepted(facts, claims)
    yield from _in_the_log(facts)


def _given(facts: Facts, run_id: str, claims: list[Call]) -> Iterator[str]:
    """Epochs rise with each claim, and a lease is shown again only to whoever asks again under the same id."""
    leases: dict[int, Call] = {}
    for call in claims:
        first = leases.setdefault(call.answer.lease.epoch, call)
        same = first.answer.lease.token == call.answer.lease.token
        if not same or (first is not call and (not call.request_id or first.request_id != call.request_id)):
            yield f"{told(first)} and {told(call)} both got lease {call.answer.lease.epoch} of {run_id}"
    newest, until = 0, float("inf")
    for epoch, call in sorted(leases.items(), reverse=True):
        if until < facts.since(call):
            yield f"{told(call)} got lease {epoch} of {run_id}, which had come to {newest}"
        if call.ended_at < until:
            newest, until = epoch, call.ended_at


def _accepted(facts: Facts, claims: Mapping[str, list[Call]]) -> Iterator[str]:
    """No call under a lease is accepted that was made after a newer lease was given."""
    for call in facts.calls("PublishEvents", "HeartbeatRun", "FinishRun", "ReleaseRun"):
        run_id, epoch = call.request.run_id, facts.epoch(call)
        if not epoch or (call.method == "ReleaseRun" and facts.since(call) != call.called_at):
            continue
        newer = [
            claim.answer.lease.epoch
            for claim in claims.get(run_id, ())
            if claim.answer.lease.epoch > epoch and claim.ended_at < call.called_at
        ]
        if newer:
            yield f"{told(call)} was accepted under lease {epoch} of {run_id}, which had come to {max(newer)}"


def _in_the_log(facts: Facts) -> Iterator[str]:
    """Each publication and each report stands in the log between its lease's claim and the next."""
    publishers = {
        (call.request.run_id, new.output_delta.text): facts.epoch(call)
        for call in facts.made("PublishEvents")
        for new in call.request.events
        if new.output_delta.text
    }
    reporters = {
        call.request.run_id: facts.epoch(call)
        for call in facts.calls("FinishRun")
        if call.answer.finish_result == RECORDED
    }
    for run_id, events in sorted(facts.run_events.items()):
        current = 0
        for event in events:
            if event.run_changed.to_state == run_pb2.RUN_STATE_RUNNING:
                if event.run_changed.lease_epoch <= current:
                    yield f"{run_id} was claimed under lease {event.run_changed.lease_epoch} behind {current}"
                current = event.run_changed.lease_epoch
            shown = publishers.get((run_id, event.output_delta.text), 0)
            if event.run_terminal.cause == run_pb2.RUN_CAUSE_RUNNER:
                shown = reporters.get(run_id, 0)
            if shown and current and shown != current:
                yield f"{run_id} has {event.sequence} of lease {shown} under lease {current}"
