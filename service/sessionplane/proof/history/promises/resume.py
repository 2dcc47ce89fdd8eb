"""Resume never lies: every frame accounts for its part of the log, a token means the place that it came with, and OK
means that what was waited for was delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessionplane.proof.history.facts import Facts, followed, passes, told
from sessionplane.proof.history.records import Happening, Stream
from sessionplane.v1 import event_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event


def resume_never_lies(facts: Facts) -> Iterator[str]:
    """Say which frame skipped, repeated or invented something, and which stream ended without a reason."""
    for token, places in facts.tokens.items():
        if token and len(places) > 1:
            yield f"one token means several places: {sorted(places)}"
    for stream in facts.history.streams:
        yield from _named(facts, stream)
        if stream.frames:
            yield from _begin(facts, stream)
            yield from _account(facts, stream)
            yield from _end(facts, stream)
            yield from _behind(facts, stream)


def _named(facts: Facts, stream: Stream) -> Iterator[str]:
    """A token is refused as compacted only if what lies behind it is gone."""
    if stream.refusal is None or stream.refusal.reason != "TOKEN_COMPACTED":
        return
    for session_id, sequence in facts.tokens.get(stream.request.resume_token, ()):
        if sequence >= facts.history.floors.get(session_id, sequence + 1):
            yield f"{told(stream)} was refused as compacted at {sequence}, and all behind it is there"


def _begin(facts: Facts, stream: Stream) -> Iterator[str]:
    """The first frame is `opened`, and stands where the token or the start says."""
    first = stream.frames[0].message
    if not first.HasField("opened"):
        yield f"{told(stream)} began with {first.WhichOneof('frame')}"
        return
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
    run_is_meant = first.opened.run.run_id and stream.request.start == pb.STREAM_START_UNSPECIFIED
    if stream.request.start == pb.STREAM_START_OLDEST and first.after_sequence != session.floor_sequence:
        yield f"{told(stream)} was to begin with the oldest event, and began behind {first.after_sequence}"
    latest = stream.request.start in {
        pb.STREAM_START_UNSPECIFIED,
        pb.STREAM_START_LATEST,
        pb.STREAM_START_SNAPSHOT,
    }
    if latest and not run_is_meant and first.after_sequence != session.head_sequence:
        yield f"{told(stream)} was to begin at {session.head_sequence}, and began behind {first.after_sequence}"


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
        if after != at:
            yield f"{told(stream)} stood at {at}, and a frame goes on behind {after}"
        if through < after or through > facts.head(session_id):
            yield f"{told(stream)} has a frame up to {through} of {facts.head(session_id)}"
        at = through
        if after < facts.floors.get(session_id, 0):
            continue
        due = [each.sequence for each in facts.between(session_id, after, through) if passes(stream, each)]
        got = [each.sequence for each in message.batch.events]
        if got != due and not (after == through and _late_terminal(facts, stream, got, after)):
            kind = message.WhichOneof("frame")
            yield f"{told(stream)}: a {kind} frame over ({after}, {through}] holds {got}, the log has {due}"


def _late_terminal(facts: Facts, stream: Stream, got: list[int], floor: int) -> bool:
    """Say whether this is the terminal of a run of which the log keeps nothing: it comes from the run's row."""
    end = facts.terminal_of(waited_for(stream))
    return end is not None and got == [end.sequence] and end.sequence <= floor


LAG_S = 0.5
"""A sign of life that comes to somebody who waits was not put together longer ago than this."""


def _behind(facts: Facts, stream: Stream) -> Iterator[str]:
    """Whoever is told that it has caught up has everything that anybody was shown before."""
    session_id = followed(stream)
    heads = facts.heads[session_id]
    for before, frame in zip(stream.frames, stream.frames[1:], strict=False):
        if not (frame.message.progress.caught_up and frame.prompt and before.prompt):
            continue
        known = max((head for at, head in heads if at < frame.at - LAG_S), default=0)
        if known > frame.message.through_sequence and not facts.asleep(frame.at - LAG_S, frame.at):
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
    reason = last.closing.reason
    log = facts.logs.get(followed(stream), ())
    sent = [event for event in log if event.sequence <= last.through_sequence]
    floored = facts.floors.get(followed(stream), 0) > 0
    if reason == pb.CLOSING_REASON_RUN_END:
        run_id = waited_for(stream) or _next_run(stream, sent)
        there = any(event.run_id == run_id and event.HasField("run_terminal") for event in sent)
    elif reason == pb.CLOSING_REASON_SESSION_END:
        ended = session_pb2.SESSION_STATE_ENDED
        there = any(event.session_changed.to_state == ended for event in sent)
    else:
        opened = stream.frames[0].message.opened.session
        there = reason == pb.CLOSING_REASON_CAUGHT_UP and last.through_sequence >= opened.head_sequence
    if not there and not floored:
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
        kind = frame.message.WhichOneof("frame")
        if kind in {"opened", "progress"}:
            run_id = run_id or getattr(frame.message, kind).until_run_id
    return str(run_id)


def _left(facts: Facts, stream: Stream, at: int) -> Iterator[str]:
    """A stream that was open until the calm end got everything, and no end that it was owed."""
    overs = [each.at for each in facts.history.incidents if each.what is Happening.OVER]
    if not overs or stream.cut or stream.left_at is None or stream.left_at < overs[0]:
        return
    session_id = followed(stream)
    known = [
        each.what.head_sequence
        for each in facts.sessions_shown
        if each.until <= overs[0] and each.what.session_id == session_id
    ]
    rest = facts.between(session_id, at, max(known, default=0))
    missing = [event.sequence for event in rest if passes(stream, event)]
    if missing:
        yield f"{told(stream)} stood at {at} in the end and never got {missing}"
    elif (
        stream.request.until == pb.STREAM_UNTIL_RUN_END and facts.terminal_of(waited_for(stream)) is not None
    ):
        yield f"{told(stream)} waited for the end of {waited_for(stream)} and was never told"
    elif stream.request.until == pb.STREAM_UNTIL_CAUGHT_UP:
        yield f"{told(stream)} had caught up and was never told"
