"""Resume never lies: every frame accounts for its part of the log, a token means the place that it came with, and OK
means that what was waited for was delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from sessionplane.proof.history.facts import Facts, followed, passes, told
from sessionplane.proof.history.records import Happening, Stream
from sessionplane.v1 import event_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event


def resume_never_lies(facts: Facts) -> Iterator[str]:
    """Say which frame skipped, repeated or invented something, and which stream ended without a reason."""
    for token, places in facts.tokens.items():
        if len(places) > 1:
            yield f"the token {token} means several places: {sorted(places)}"
    for stream in facts.history.streams:
        if stream.refusal is not None:
            yield from _refused(facts, stream, stream.refusal.reason)
        if followed(stream):
            yield from _begin(facts, stream)
            yield from _account(facts, stream)
            yield from _end(facts, stream)
            yield from _behind(facts, stream)
        elif stream.frames or (stream.closed_at is not None and stream.refusal is None):
            yield f"{told(stream)} was never opened, and was not refused"


def _refused(facts: Facts, stream: Stream, reason: str) -> Iterator[str]:
    """A token that was given out is good for its session, unless what lies behind it is gone."""
    for session_id, sequence in facts.tokens.get(stream.request.resume_token, ()):
        ours = stream.request.session.session_id in {"", session_id}
        if reason == "TOKEN_COMPACTED" and sequence >= facts.history.floors.get(session_id, sequence + 1):
            yield f"{told(stream)} was refused as compacted at {sequence}, and all behind it is there"
        elif reason in {"TOKEN_INVALID", "STORE_REPLACED", "LOG_BEHIND_TOKEN"} and ours:
            yield f"{told(stream)} was refused with {reason}, and its token is one of {session_id} at {sequence}"


def _begin(facts: Facts, stream: Stream) -> Iterator[str]:
    """The first frame stands where the token or the start says."""
    first = stream.frames[0].message
    token, session = stream.request.resume_token, first.opened.session
    if token:
        places = facts.tokens.get(token, set())
        if places and (session.session_id, first.after_sequence) not in places:
            yield f"{told(stream)} went on behind {first.after_sequence} with a token of {sorted(places)}"
        return
    if stream.request.run_id and _deleted(facts, session):
        end = facts.terminal_of(first.opened.run.run_id)
        if end is not None and first.after_sequence not in {end.sequence - 1, session.floor_sequence}:
            yield f"{told(stream)} was to show the end at {end.sequence}, and began behind {first.after_sequence}"
        return
    start = stream.request.start
    run_is_meant = first.opened.run.run_id and start == pb.STREAM_START_UNSPECIFIED
    if start == pb.STREAM_START_OLDEST and first.after_sequence != session.floor_sequence:
        yield f"{told(stream)} was to begin with the oldest event, and began behind {first.after_sequence}"
    if start in _LATEST and not run_is_meant and first.after_sequence != session.head_sequence:
        yield f"{told(stream)} was to begin at {session.head_sequence}, and began behind {first.after_sequence}"


_LATEST = frozenset({pb.STREAM_START_UNSPECIFIED, pb.STREAM_START_LATEST, pb.STREAM_START_SNAPSHOT})


def _deleted(facts: Facts, session: session_pb2.Session) -> bool:
    """Say whether a session was deleted as it was shown: then only the ends of its runs are shown."""
    last = facts.event(session.session_id, session.head_sequence)
    return last is not None and last.session_moved.reason == event_pb2.MOVE_REASON_DELETED


def _account(facts: Facts, stream: Stream) -> Iterator[str]:
    """Each frame goes on where the one before ended, and holds what the log has there."""
    session_id = followed(stream)
    at = stream.frames[0].message.after_sequence
    for frame in stream.frames:
        message = frame.message
        after, through = message.after_sequence, message.through_sequence
        if after != at or through < after:
            yield f"{told(stream)} stood at {at}, and a frame accounts for ({after}, {through}]"
        at = through
        if after < facts.floors.get(session_id, 0) or through > facts.head(session_id):
            continue
        due = [each.sequence for each in facts.between(session_id, after, through) if passes(stream, each)]
        got = [each.sequence for each in message.batch.events if each.session_id == session_id]
        if got != due and not (after == through and _late_terminal(facts, stream, got, after)):
            kind = message.WhichOneof("frame")
            yield f"{told(stream)}: a {kind} frame over ({after}, {through}] holds {got}, the log has {due}"


def _late_terminal(facts: Facts, stream: Stream, got: list[int], floor: int) -> bool:
    """Say whether this is the terminal of a run of which the log keeps nothing: it comes from the run's row."""
    end = facts.terminal_of(waited_for(stream))
    return end is not None and got == [end.sequence] and end.sequence <= floor


def _behind(facts: Facts, stream: Stream) -> Iterator[str]:
    """Whoever is told that it has caught up has everything that anybody was shown before."""
    for before, frame in pairwise(stream.frames):
        if not (frame.message.progress.caught_up and frame.prompt and before.prompt):
            continue
        before_s = frame.at - facts.history.limits.lag_s
        known = facts.known_head(followed(stream), before_s)
        if known > frame.message.through_sequence and not facts.asleep(before_s, frame.at):
            yield f"{told(stream)} was told that {frame.message.through_sequence} is all, and there were {known}"


_FINAL = {
    "SESSION_ENDED": pb.CLOSING_REASON_SESSION_FINAL,
    "SESSION_NOT_FOUND": pb.CLOSING_REASON_SESSION_DELETED,
    "DRAINING": pb.CLOSING_REASON_DRAINING,
    "SLOW_CONSUMER": pb.CLOSING_REASON_SLOW_CONSUMER,
    "MAX_AGE": pb.CLOSING_REASON_MAX_AGE,
    "DISCONNECTED": pb.CLOSING_REASON_DISCONNECTED,
}


def _end(facts: Facts, stream: Stream) -> Iterator[str]:
    """OK comes with what was waited for; another end has its name; in a calm world nothing is left undelivered."""
    last = stream.frames[-1].message
    if stream.closed_at is None:
        yield from _left(facts, stream, last.through_sequence)
    elif stream.refusal is None:
        yield from _delivered(facts, stream, last)
    elif last.HasField("closing") and _FINAL.get(stream.refusal.reason) != last.closing.reason:
        said = pb.ClosingReason.Name(last.closing.reason)
        yield f"{told(stream)} said {said} and ended with {stream.refusal.reason}"


def _delivered(facts: Facts, stream: Stream, last: pb.StreamEventsResponse) -> Iterator[str]:
    """What was waited for was sent; a stream that resumed may have got it before."""
    session_id, reason = followed(stream), last.closing.reason
    if not facts.is_whole(session_id) or last.through_sequence > facts.head(session_id):
        return
    sent = facts.between(session_id, 0, last.through_sequence)
    if reason == pb.CLOSING_REASON_RUN_END:
        run_id = waited_for(stream) or _next_run(stream, sent)
        there = any(event.run_id == run_id and event.HasField("run_terminal") for event in sent)
    elif reason == pb.CLOSING_REASON_SESSION_END:
        ended = session_pb2.SESSION_STATE_ENDED
        there = any(event.session_changed.to_state == ended for event in sent)
    else:
        known = facts.known_head(session_id, stream.opened_at)
        there = reason == pb.CLOSING_REASON_CAUGHT_UP and last.through_sequence >= known
    if not there:
        yield f"{told(stream)} ended with OK and {pb.ClosingReason.Name(reason)}, and that was not delivered"


def _next_run(stream: Stream, sent: Sequence[Event]) -> str:
    """The first run that was recorded behind the opening: its end may come before it could be named."""
    opened = stream.frames[0].message
    begin = opened.after_sequence if stream.request.resume_token else opened.opened.session.head_sequence
    later = (event for event in sent if event.sequence > begin and event.HasField("input_recorded"))
    return next((event.run_id for event in later), "")


def waited_for(stream: Stream) -> str:
    """The run whose end a stream waits for, as far as it was told; empty if it was not."""
    run_id = stream.request.until_run_id or stream.request.filter.run_id
    for frame in stream.frames:
        run_id = run_id or frame.message.opened.until_run_id or frame.message.progress.until_run_id
    return str(run_id)


def _left(facts: Facts, stream: Stream, at: int) -> Iterator[str]:
    """A stream that was open until the calm end got everything, and no end that it was owed."""
    over = facts.last(Happening.OVER)
    if not over or stream.cut or stream.left_at is None or stream.left_at < over:
        return
    session_id = followed(stream)
    rest = facts.between(session_id, at, facts.known_head(session_id, over))
    missing = [event.sequence for event in rest if passes(stream, event)]
    if missing:
        yield f"{told(stream)} stood at {at} in the end and never got {missing}"
    elif (
        stream.request.until == pb.STREAM_UNTIL_RUN_END and facts.terminal_of(waited_for(stream)) is not None
    ):
        yield f"{told(stream)} waited for the end of {waited_for(stream)} and was never told"
    elif stream.request.until == pb.STREAM_UNTIL_CAUGHT_UP:
        yield f"{told(stream)} had caught up and was never told"
