"""Histories in which something was done that the state forbids: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload
from sessionplane.v1.runner_service_pb2 import PublishEventsRequest
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale


def under_way(tale: Tale) -> None:
    """A run that its runner works on."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "a ")


def a_message_into_a_session_that_closes(tale: Tale) -> None:
    """CLOSING is routed as if it were live: the message waits behind a run that nothing comes after."""
    under_way(tale)
    tale.move(tale.held("chat"), "CLOSE_REQUESTED", session_pb2.SESSION_STATE_CLOSING)
    tale.begin("chat", "run-2")


def a_message_into_a_final_session(tale: Tale) -> None:
    """The old session of a key takes a run in."""
    tale.resolve("chat")
    tale.reset("chat")
    tale.recorded(tale.chats["ses_1"], "run-1", Payload(text="run-1"))


def two_runs_at_once(tale: Tale) -> None:
    """The second message is not put into the line."""
    under_way(tale)
    chat = tale.held("chat")
    chat.line.clear()
    tale.begin("chat", "run-2")


def a_claim_in_a_session_that_closes(tale: Tale) -> None:
    """The next one in line is given out, though nothing may come any more."""
    under_way(tale)
    tale.begin("chat", "run-2")
    tale.move(tale.held("chat"), "CLOSE_REQUESTED", session_pb2.SESSION_STATE_CLOSING)
    tale.finish("run-1")
    tale.claim("run-2")


def an_end_with_a_run_left(tale: Tale) -> None:
    """The session has ended, and its run has not."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.move(tale.held("chat"), "CLOSED", session_pb2.SESSION_STATE_ENDED)


def a_change_that_no_table_has(tale: Tale) -> None:
    """A session is suspended that never began."""
    tale.resolve("chat")
    tale.move(tale.held("chat"), "SUSPENDED", session_pb2.SESSION_STATE_SUSPENDED)


def a_change_from_another_state(tale: Tale) -> None:
    """The event names a state that the session was not in: somebody wrote what was in memory."""
    under_way(tale)
    tale.held("chat").state = session_pb2.SESSION_STATE_DETACHED
    tale.move(tale.held("chat"), "ATTACHED", session_pb2.SESSION_STATE_ACTIVE)


def a_next_generation_with_the_number_of_the_last(tale: Tale) -> None:
    """A session that has ended is brought back, and counts no further."""
    tale.resolve("chat")
    tale.move(tale.held("chat"), "CLOSED", session_pb2.SESSION_STATE_ENDED)
    tale.move(tale.held("chat"), "RESUMED", session_pb2.SESSION_STATE_CREATED)


def a_run_that_skips_a_state(tale: Tale) -> None:
    """A run is interrupted that nobody had claimed."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.change(tale.runs["run-1"], run_pb2.RUN_STATE_INTERRUPTING)


def an_end_that_cannot_be(tale: Tale) -> None:
    """A run that its runner ended is lost."""
    under_way(tale)
    call = tale.finish("run-1")
    end = tale.logs["ses_1"][-1].run_terminal
    call.request.outcome = call.answer.terminal.outcome = end.outcome = run_pb2.RUN_OUTCOME_LOST


def a_refused_message_that_was_recorded(tale: Tale) -> None:
    """The caller was told that the line is full, and its message is in it."""
    tale.resolve("chat")
    request = pb.StartRunRequest(session=SessionRef(key="chat"))
    request.run.input.text = "hello"
    tale.refuse(tale.asked("StartRun", request, "anna"), "RESOURCE_EXHAUSTED", "RUN_QUEUE_FULL")
    tale.recorded(tale.held("chat"), "run-1", Payload(text="hello"))


def a_refused_text_that_was_published(tale: Tale) -> None:
    """The runner was told that there is a gap, and its text is there."""
    under_way(tale)
    request = PublishEventsRequest(run_id="run-1", lease_token="run-1 lease 1", first_run_sequence=7)
    request.events.add().output_delta.text = "refused "
    tale.refuse(tale.asked("PublishEvents", request, "rita"), "FAILED_PRECONDITION", "RUN_SEQUENCE_GAP")
    tale.published(tale.runs["run-1"], "refused ")


def a_refused_interrupt_that_was_made(tale: Tale) -> None:
    """The caller was told that there is no such run, and the interrupt is on record."""
    under_way(tale)
    call = tale.interrupt("run-1", "enough")
    call.answer = None
    tale.refuse(call, "NOT_FOUND", "RUN_NOT_FOUND")


def a_route_of_another_state(tale: Tale) -> None:
    """The answer says that a message would be let in, and shows a session that closes."""
    under_way(tale)
    tale.move(tale.held("chat"), "CLOSE_REQUESTED", session_pb2.SESSION_STATE_CLOSING)
    tale.get("chat").answer.route = session_pb2.ROUTE_ADMIT


def a_key_that_a_live_session_lost(tale: Tale) -> None:
    """The key moved on, and the session it left behind was not ended."""
    tale.resolve("chat")
    chat = tale.chats["ses_1"]
    tale.moved(chat, "RESET", other=tale.new_chat(chat.key, "RESET", "ses_1").session_id)


def a_run_that_was_in_another_state(tale: Tale) -> None:
    """The event says that the run waited in line, and it had the lane."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.runs["run-1"].state = run_pb2.RUN_STATE_QUEUED
    tale.change(tale.runs["run-1"], run_pb2.RUN_STATE_PENDING)


def an_end_without_its_state(tale: Tale) -> None:
    """The terminal is there, and the run was never finished."""
    under_way(tale)
    tale.finish("run-1")
    del tale.logs["ses_1"][-2]
    end = tale.logs["ses_1"][-1]
    end.sequence = tale.told.calls[-1].answer.terminal_sequence = end.sequence - 1


@pytest.mark.parametrize(
    "story",
    [
        a_key_that_a_live_session_lost,
        a_run_that_was_in_another_state,
        an_end_without_its_state,
        a_message_into_a_session_that_closes,
        a_message_into_a_final_session,
        two_runs_at_once,
        a_claim_in_a_session_that_closes,
        an_end_with_a_run_left,
        a_change_that_no_table_has,
        a_change_from_another_state,
        a_next_generation_with_the_number_of_the_last,
        a_run_that_skips_a_state,
        an_end_that_cannot_be,
        a_refused_message_that_was_recorded,
        a_refused_text_that_was_published,
        a_refused_interrupt_that_was_made,
        a_route_of_another_state,
    ],
    ids=lambda story: str(story.__name__),
)
def test_what_no_state_allows_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"State decides"}
