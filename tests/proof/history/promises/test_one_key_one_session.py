"""Histories in which a key has two sessions: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.proof.history.records import Happening
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale

KEY = "agent:main:chat"


def two_sessions_for_two_who_race(tale: Tale) -> None:
    """Each of two racing callers mints a session of its own: a fork."""
    other = tale.asked("ResolveSession", pb.ResolveSessionRequest(session=SessionRef(key="chat")), "bert")
    tale.resolve("chat")
    tale.answer(other, tale.resolved(tale.new_chat(KEY), "CREATED"))


def a_session_for_each_message(tale: Tale) -> None:
    """A session is minted from each request's id, so that every message begins a conversation."""
    tale.resolve("chat", request_id="message-1")
    call = tale.asked("ResolveSession", pb.ResolveSessionRequest(session=SessionRef(key="chat")), "anna")
    tale.answer(call, tale.resolved(tale.new_chat(KEY), "CREATED"))


def an_orphan_after_a_restart(tale: Tale) -> None:
    """The pointer was kept in memory: after a restart the key begins anew."""
    tale.resolve("chat")
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)
    del tale.keys[KEY]
    tale.resolve("chat")


def a_memory_of_who_had_the_key(tale: Tale) -> None:
    """A cache leads to the old session after the reset was answered."""
    old = tale.resolve("chat").answer
    tale.reset("chat")
    tale.answer(
        tale.asked("ResolveSession", pb.ResolveSessionRequest(session=SessionRef(key="chat")), "bert"), old
    )


def a_reset_that_moved_nothing(tale: Tale) -> None:
    """The reset tells of a new session, and whoever comes is led to the old one, which nobody had seen before."""
    chat = tale.new_chat(KEY)
    found = pb.GetSessionResponse(session=tale.shown(chat), route=session_pb2.ROUTE_ADMIT)
    tale.reset("chat")
    tale.answer(tale.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key="chat")), "anna"), found)


def a_key_that_nobody_has(tale: Tale) -> None:
    """The session was there, and is not found."""
    tale.resolve("chat")
    call = tale.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key="chat")), "bert")
    tale.refuse(call, "NOT_FOUND", "KEY_NOT_BOUND", canonical_key=KEY)


def two_who_are_told_that_they_made_it(tale: Tale) -> None:
    """Both racing callers are told CREATED, though there is one session."""
    other = tale.asked("ResolveSession", pb.ResolveSessionRequest(session=SessionRef(key="chat")), "bert")
    tale.resolve("chat")
    tale.answer(other, tale.resolved(tale.held("chat"), "CREATED"))


def a_key_that_was_bound_twice(tale: Tale) -> None:
    """A session without a key is bound to one that another session has. Only the logs show it."""
    tale.resolve("chat")
    tale.new_chat(KEY, "BOUND")


def a_key_that_begins_again(tale: Tale) -> None:
    """Its session is put aside, and the next one knows nothing of it. Only the logs show it."""
    chat = tale.new_chat(KEY)
    tale.move(chat, "SUPERSEDED", session_pb2.SESSION_STATE_ENDED)
    tale.moved(chat, "RESET")
    tale.new_chat(KEY)


def a_key_that_was_never_taken_away(tale: Tale) -> None:
    """The new session has the key, and the old one still does. Only the logs show it."""
    tale.new_chat(KEY, "RESET", previous=tale.new_chat(KEY).session_id)


def a_known_run_in_another_session(tale: Tale) -> None:
    """The message is there already, and the answer shows it in the session that has the key by now."""
    tale.resolve(KEY)
    tale.resolve("other")
    first = tale.begin(KEY, "run-1")
    request = pb.StartRunRequest(session=first.request.session, run=first.request.run)
    again = tale.asked("StartRun", request, "anna")
    answer = pb.StartRunResponse(run=first.answer.run, session=tale.shown(tale.held("other")))
    answer.disposition = run_pb2.RUN_DISPOSITION_DUPLICATE
    tale.answer(again, answer)


@pytest.mark.parametrize(
    "story",
    [
        a_known_run_in_another_session,
        a_key_that_was_never_taken_away,
        a_key_that_begins_again,
        two_sessions_for_two_who_race,
        a_session_for_each_message,
        an_orphan_after_a_restart,
        a_memory_of_who_had_the_key,
        a_reset_that_moved_nothing,
        a_key_that_nobody_has,
        two_who_are_told_that_they_made_it,
        a_key_that_was_bound_twice,
    ],
    ids=lambda story: str(story.__name__),
)
def test_two_sessions_for_one_key_are_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"One key, one session"}
