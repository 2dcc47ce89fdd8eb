"""Histories in which somebody is shown or may change what is not theirs: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale


def two_sessions(tale: Tale) -> None:
    """Two conversations with a run each."""
    for key in ("one", "two"):
        tale.resolve(key)
        tale.begin(key, f"run-{key}")
        tale.claim(f"run-{key}")


def another_session_than_was_named(tale: Tale) -> None:
    """One session is asked for by its id, another one is shown."""
    two_sessions(tale)
    tale.get("two").request.session.CopyFrom(SessionRef(session_id="ses_1"))


def events_of_another_session_on_a_page(tale: Tale) -> None:
    """A page of one log has an event of another one."""
    two_sessions(tale)
    call = tale.asked("ListEvents", pb.ListEventsRequest(session=SessionRef(session_id="ses_1")), "anna")
    tale.answer(call, pb.ListEventsResponse(events=[*tale.logs["ses_1"], tale.logs["ses_2"][2]]))


def an_event_of_another_session_in_a_stream(tale: Tale) -> None:
    """A subscriber reads along in another conversation."""
    two_sessions(tale)
    stream = tale.follow("ses_1")
    tale.deliver(stream)
    stream.frames[1].message.batch.events.append(tale.logs["ses_2"][2])


def a_stream_of_another_session(tale: Tale) -> None:
    """A subscriber is put into another conversation."""
    two_sessions(tale)
    tale.follow("ses_1").request.session.session_id = "ses_2"


def an_event_in_the_wrong_log(tale: Tale) -> None:
    """It was committed to another session."""
    two_sessions(tale)
    tale.logs["ses_1"][-1].session_id = "ses_2"


def a_lease_that_opens_another_run(tale: Tale) -> None:
    """A runner publishes into a run that it never claimed."""
    two_sessions(tale)
    tale.publish("run-one", "a ").request.lease_token = "run-two lease 1"


def a_token_for_two_runs(tale: Tale) -> None:
    """Two leases have one secret."""
    two_sessions(tale)
    for call in tale.told.calls:
        if call.method == "ClaimRun":
            call.answer.lease.token = "secret"


@pytest.mark.parametrize(
    "story",
    [
        another_session_than_was_named,
        events_of_another_session_on_a_page,
        an_event_of_another_session_in_a_stream,
        a_stream_of_another_session,
        an_event_in_the_wrong_log,
        a_lease_that_opens_another_run,
        a_token_for_two_runs,
    ],
    ids=lambda story: str(story.__name__),
)
def test_what_belongs_to_others_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Isolation"}
