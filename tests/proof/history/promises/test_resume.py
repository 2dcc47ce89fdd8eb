"""Histories in which a stream lies: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.proof.history.records import Refusal, Stream
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.tale import Tale


def a_run_to_follow(tale: Tale) -> Stream:
    """A run that has ended, and a subscriber who has seen nothing of it yet."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "a ", "b ")
    tale.finish("run-1")
    return tale.follow("ses_1")


def an_event_that_was_skipped(tale: Tale) -> None:
    """A frame says that it accounts for an event, and does not hold it."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    del stream.frames[1].message.batch.events[3]


def an_event_that_came_twice(tale: Tale) -> None:
    """A frame holds an event twice."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    batch = stream.frames[1].message.batch
    batch.events.insert(3, batch.events[3])


def a_bookmark_ahead_of_what_was_sent(tale: Tale) -> None:
    """A sign of life says that all was sent, and nothing was."""
    stream = a_run_to_follow(tale)
    head = len(tale.logs["ses_1"])
    frame = tale.frame("ses_1", 0, head)
    frame.progress.caught_up = True
    tale.recorder.framed(stream, frame, prompt=True)


def a_hole_between_two_frames(tale: Tale) -> None:
    """A frame goes on behind where the one before did not end."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    frame = stream.frames[1].message
    del frame.batch.events[0]
    frame.after_sequence = 1


def a_token_that_skips(tale: Tale, by: int = 1) -> None:
    """Whoever comes back is put one event too far on."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream, through=3)
    again = tale.follow("ses_1", token="ses_1@3").frames[0].message
    again.after_sequence = again.through_sequence = 3 + by
    again.resume_token = f"ses_1@{3 + by}"


def a_token_that_repeats(tale: Tale) -> None:
    """Whoever comes back is put one event too far back."""
    a_token_that_skips(tale, by=-1)


def an_end_that_was_not_delivered(tale: Tale) -> None:
    """OK and RUN_END, and the terminal was not sent."""
    stream = a_run_to_follow(tale)
    stream.request.until, stream.request.until_run_id = pb.STREAM_UNTIL_RUN_END, "run-1"
    frame = tale.frame("ses_1", 0, 0)
    frame.closing.reason = pb.CLOSING_REASON_RUN_END
    tale.recorder.framed(stream, frame, prompt=True)
    tale.recorder.closed(stream, None)


def an_end_without_a_word(tale: Tale) -> None:
    """OK, and nobody knows why."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    tale.recorder.closed(stream, None)


def another_end_than_was_said(tale: Tale) -> None:
    """The closing frame and the status contradict each other."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream, closing="SESSION_FINAL")
    stream.refusal = Refusal("ABORTED", "DISCONNECTED")


def a_hole_that_is_called_retention(tale: Tale) -> None:
    """The token is refused as compacted, and all behind it is there."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    tale.told.floors = {"ses_1": 0}
    request = pb.StreamEventsRequest(resume_token=stream.frames[0].message.resume_token)
    tale.recorder.closed(tale.recorder.opened("sam", request), Refusal("OUT_OF_RANGE", "TOKEN_COMPACTED"))


def a_token_that_is_not_known_any_more(tale: Tale) -> None:
    """The server does not know its own token again."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    request = pb.StreamEventsRequest(resume_token=stream.frames[-1].message.resume_token)
    tale.recorder.closed(tale.recorder.opened("sam", request), Refusal("INVALID_ARGUMENT", "TOKEN_INVALID"))


def a_token_for_two_places(tale: Tale) -> None:
    """Two frames end at different places with one token."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    stream.frames[1].message.resume_token = stream.frames[0].message.resume_token


def a_start_somewhere_else(tale: Tale) -> None:
    """The oldest events were asked for, and the stream begins in the middle."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    opened, batch = stream.frames[0].message, stream.frames[1].message
    opened.after_sequence = opened.through_sequence = batch.after_sequence = 2
    opened.resume_token = "ses_1@2"
    del batch.batch.events[:2]


def a_lie_about_having_caught_up(tale: Tale) -> None:
    """A subscriber is told that it has everything, long after others saw more."""
    stream = a_run_to_follow(tale)
    tale.deliver(stream)
    at = stream.frames[-1].message.through_sequence
    tale.begin("chat", "run-2")
    tale.now += 1
    frame = tale.frame("ses_1", at, at)
    frame.progress.caught_up = True
    tale.recorder.framed(stream, frame, prompt=True)


def a_subscriber_who_waits_for_ever(tale: Tale) -> None:
    """All is calm, and what was committed never comes."""
    stream = a_run_to_follow(tale)
    tale.look("run-1")
    tale.over()
    tale.recorder.left(stream)


def an_end_that_somebody_still_waits_for(tale: Tale) -> None:
    """All events came, and the stream that they were to end stays open."""
    stream = a_run_to_follow(tale)
    stream.request.until, stream.request.until_run_id = pb.STREAM_UNTIL_RUN_END, "run-1"
    tale.deliver(stream)
    tale.over()
    tale.recorder.left(stream)


def a_stream_that_shows_nothing(tale: Tale) -> None:
    """OK, and not even the first frame came."""
    tale.recorder.closed(tale.recorder.opened("sam", pb.StreamEventsRequest(run_id="run-1")), None)


def a_start_that_is_not_now(tale: Tale) -> None:
    """Only what is new was asked for, and the stream begins with the oldest event."""
    a_run_to_follow(tale)
    tale.follow("ses_1", start=pb.STREAM_START_LATEST)


def a_deleted_session_that_is_shown(tale: Tale) -> None:
    """Of a run in a deleted session there is its end, and not what came before."""
    a_run_to_follow(tale)
    tale.delete("chat")
    stream = tale.follow("ses_1")
    stream.request.ClearField("session")
    stream.request.run_id = "run-1"
    stream.frames[0].message.opened.run.CopyFrom(tale.shown_run(tale.runs["run-1"]))
    stream.frames[0].message.MergeFrom(tale.frame("ses_1", 2, 2))


def somebody_who_has_caught_up_and_is_not_told(tale: Tale) -> None:
    """All is there, that is what was waited for, and the stream stays open."""
    stream = a_run_to_follow(tale)
    stream.request.until = pb.STREAM_UNTIL_CAUGHT_UP
    tale.deliver(stream)
    tale.over()
    tale.recorder.left(stream)


@pytest.mark.parametrize(
    "story",
    [
        a_stream_that_shows_nothing,
        a_start_that_is_not_now,
        a_deleted_session_that_is_shown,
        somebody_who_has_caught_up_and_is_not_told,
        an_event_that_was_skipped,
        an_event_that_came_twice,
        a_bookmark_ahead_of_what_was_sent,
        a_hole_between_two_frames,
        a_token_that_skips,
        a_token_that_repeats,
        an_end_that_was_not_delivered,
        an_end_without_a_word,
        another_end_than_was_said,
        a_hole_that_is_called_retention,
        a_token_that_is_not_known_any_more,
        a_token_for_two_places,
        a_start_somewhere_else,
        a_lie_about_having_caught_up,
        a_subscriber_who_waits_for_ever,
        an_end_that_somebody_still_waits_for,
    ],
    ids=lambda story: str(story.__name__),
)
def test_a_stream_that_lies_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Resume never lies"}
