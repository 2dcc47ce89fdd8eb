"""Histories in which a key has a spelling of its own: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.tale import Tale


def a_raw_key_in_an_answer(tale: Tale) -> None:
    """The session is shown with the key as it was written."""
    tale.resolve("Settings2").answer.session.key = "Settings2"


def a_raw_key_on_disk(tale: Tale) -> None:
    """Writes use the raw key, reads the canonical one."""
    tale.resolve("settings2")
    tale.logs["ses_1"][1].session_moved.key = "settings2"


def a_doubled_prefix(tale: Tale) -> None:
    """The prefix was put before a key that had it."""
    tale.resolve("settings2").answer.session.key = "agent:main:agent:main:settings2"


def a_session_of_another_key(tale: Tale) -> None:
    """Another spelling leads to another session."""
    tale.resolve("settings2")
    tale.resolve("other").request.session.key = "AGENT:Main:settings2"


def a_case_that_was_folded(tale: Tale) -> None:
    """Two people share a session, since their ids differ in case only."""
    tale.resolve("signal:direct:AbC").answer.session.key = "agent:main:signal:direct:abc"


def a_hidden_session_in_a_list(tale: Tale) -> None:
    """What machinery made for itself is shown to people."""
    tale.resolve("settings2")
    shown = tale.shown(tale.held("settings2"))
    shown.visibility = session_pb2.VISIBILITY_INTERNAL
    tale.answer(
        tale.asked("ListSessions", pb.ListSessionsRequest(), "anna"),
        pb.ListSessionsResponse(sessions=[shown]),
    )


def a_raw_key_for_who_asks_by_id(tale: Tale) -> None:
    """Who names the session by its id is shown the key as somebody wrote it."""
    tale.resolve("settings2")
    call = tale.get("settings2")
    call.request.session.session_id = "ses_1"
    call.answer.session.key = "Settings2"


@pytest.mark.parametrize(
    "story",
    [
        a_raw_key_for_who_asks_by_id,
        a_raw_key_in_an_answer,
        a_raw_key_on_disk,
        a_doubled_prefix,
        a_session_of_another_key,
        a_case_that_was_folded,
        a_hidden_session_in_a_list,
    ],
    ids=lambda story: str(story.__name__),
)
def test_a_second_spelling_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"One spelling"}
