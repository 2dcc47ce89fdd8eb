"""Isolation: an answer shows what was asked for and nothing else, and what one lease allows, no other does.

Whoever has one namespace only can judge no more; that other namespaces stay apart is not part of a recording yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.proof.history.facts import Facts, fields_of, followed, shows_known_run, told


def isolation(facts: Facts) -> Iterator[str]:
    """Say who was shown or could change something of another session or run than they named."""
    for session_id, log in sorted(facts.logs.items()):
        for event in log:
            if event.session_id != session_id:
                yield f"{session_id} has an event of {event.session_id} at {event.sequence}"
    yield from _answers(facts)
    yield from _streams(facts)
    yield from _leases(facts)


def _answers(facts: Facts) -> Iterator[str]:
    """Whoever names a session or a run by its id is shown that one, and events of no other."""
    for call in facts.history.calls:
        fields = fields_of(call.answer)
        session_id = getattr(getattr(call.request, "session", None), "session_id", "")
        elsewhere = getattr(call.answer, "previous_session_id", "") or shows_known_run(call.answer)
        if (
            session_id
            and "session" in fields
            and not elsewhere
            and call.answer.session.session_id != session_id
        ):
            yield f"{told(call)} asked for {session_id} and was shown {call.answer.session.session_id}"
        if session_id and "events" in fields:
            for event in call.answer.events:
                if event.session_id != session_id:
                    yield f"{told(call)} asked for {session_id} and was shown an event of {event.session_id}"


def _streams(facts: Facts) -> Iterator[str]:
    """A stream shows events of the session that it follows."""
    for stream in facts.history.streams:
        session_id = followed(stream)
        named = stream.request.session.session_id
        if named and session_id and named != session_id:
            yield f"{told(stream)} asked for {named} and follows {session_id}"
        for frame in stream.frames:
            for event in frame.message.batch.events:
                if event.session_id != session_id:
                    yield f"{told(stream)} follows {session_id} and was shown an event of {event.session_id}"


def _leases(facts: Facts) -> Iterator[str]:
    """The token of a lease is good for its own run only."""
    runs: dict[str, str] = {}
    for run_id, token in facts.leases:
        if runs.setdefault(token, run_id) != run_id:
            yield f"{run_id} and {runs[token]} have leases with one token"
    for call in facts.calls("PublishEvents", "HeartbeatRun", "FinishRun", "ReleaseRun"):
        owner = runs.get(call.request.lease_token, call.request.run_id)
        if owner != call.request.run_id:
            yield f"{told(call)} was accepted for {call.request.run_id} with the lease of {owner}"
