"""Histories in which something that was shown is gone, or was done twice: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.proof.history.records import Happening
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale


def under_way(tale: Tale) -> None:
    """A run that its runner works on."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")


def lose(tale: Tale, events: int, session_id: str = "ses_1") -> None:
    """Crash, and lose the newest events of a log."""
    tale.happened(Happening.CRASHED)
    del tale.logs[session_id][-events:]
    tale.happened(Happening.READY)


def a_session_that_is_gone(tale: Tale) -> None:
    """The resolve was answered before its commit."""
    tale.resolve("chat")
    lose(tale, 2)


def publications_that_are_gone(tale: Tale) -> None:
    """The runner was told that they are there."""
    under_way(tale)
    tale.publish("run-1", "a ", "b ")
    lose(tale, 2)


def events_that_only_a_subscriber_saw(tale: Tale) -> None:
    """They were shown before they were committed."""
    under_way(tale)
    stream = tale.follow("ses_1")
    tale.published(tale.runs["run-1"], "a ")
    tale.deliver(stream)
    tale.recorder.cut(stream, "crash")
    lose(tale, 1)


def events_that_only_a_page_showed(tale: Tale) -> None:
    """They were listed, and are gone."""
    under_way(tale)
    call = tale.asked("ListEvents", pb.ListEventsRequest(session=SessionRef(session_id="ses_1")), "bert")
    tale.answer(call, pb.ListEventsResponse(events=[*tale.logs["ses_1"]]))
    lose(tale, 1)


def events_that_were_only_counted(tale: Tale) -> None:
    """A look at the session showed how many events it had; nobody was told what they are."""
    tale.resolve("chat")
    tale.recorded(tale.held("chat"), "run-1", Payload(text="hello"))
    tale.get("chat")
    lose(tale, 1)


def a_run_that_was_shown_before_it_was_written(tale: Tale) -> None:
    """A look at the run found it, and no log has it."""
    tale.resolve("chat")
    tale.recorded(tale.held("chat"), "run-1", Payload(text="hello"))
    tale.look("run-1")
    lose(tale, 2)


def a_run_that_was_never_recorded(tale: Tale) -> None:
    """The message was accepted, and there is no trace of it."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    lose(tale, 2)


def a_terminal_that_is_gone(tale: Tale) -> None:
    """The runner was told that its report is recorded."""
    under_way(tale)
    tale.finish("run-1")
    lose(tale, 1)


def an_end_that_was_shown_and_is_gone(tale: Tale) -> None:
    """A caller was told that the run had ended; the runner's report got no answer."""
    under_way(tale)
    tale.finish("run-1")
    tale.told.calls[-1].answer = tale.told.calls[-1].returned_at = None
    tale.look("run-1")
    lose(tale, 1)


def another_text_than_was_published(tale: Tale) -> None:
    """The number is there, with something else behind it."""
    under_way(tale)
    tale.publish("run-1", "right ")
    tale.logs["ses_1"][-1].output_delta.text = "wrong "


def another_event_than_was_seen(tale: Tale) -> None:
    """The log was written again behind a subscriber's back."""
    under_way(tale)
    stream = tale.follow("ses_1")
    tale.deliver(stream)
    tale.logs["ses_1"][-1].time.seconds = 17


def a_state_that_no_log_knows(tale: Tale) -> None:
    """The row was changed and the event forgotten."""
    tale.resolve("chat").answer.session.state = session_pb2.SESSION_STATE_ACTIVE


def a_request_that_led_to_two_places(tale: Tale) -> None:
    """The retry after a lost answer is done a second time: it resets the reset."""
    tale.resolve("chat")
    for call in (tale.reset("chat"), tale.reset("chat")):
        call.request.request_id = "once"


def a_message_that_was_recorded_twice(tale: Tale) -> None:
    """The answer was lost, the retry made a second run of the same message."""
    tale.resolve("chat")
    request = pb.StartRunRequest(session=SessionRef(key="chat"), request_id="once")
    request.run.input.text = "hello"
    for run_id in ("run-1", "run-2"):
        tale.recorder.lost(tale.asked("StartRun", request, "anna"), "crash")
        tale.recorded(tale.held("chat"), run_id, Payload(text="hello"))


def an_input_that_was_taken_in_vain(tale: Tale) -> None:
    """The runner said that it took the input, was heard, and nobody remembers."""
    under_way(tale)
    tale.inject("run-1", "more")
    tale.beat("run-1").request.acknowledged_input_ids.append("more")


@pytest.mark.parametrize(
    "story",
    [
        a_session_that_is_gone,
        publications_that_are_gone,
        events_that_only_a_subscriber_saw,
        events_that_only_a_page_showed,
        events_that_were_only_counted,
        a_run_that_was_shown_before_it_was_written,
        a_run_that_was_never_recorded,
        a_terminal_that_is_gone,
        an_end_that_was_shown_and_is_gone,
        another_text_than_was_published,
        another_event_than_was_seen,
        a_state_that_no_log_knows,
        a_request_that_led_to_two_places,
        a_message_that_was_recorded_twice,
        an_input_that_was_taken_in_vain,
    ],
    ids=lambda story: str(story.__name__),
)
def test_what_was_acknowledged_and_is_gone_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Acknowledged means on disk"}
