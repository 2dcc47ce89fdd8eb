"""Histories in which a refusal says nothing, or something wrong: that promise is broken, and no other."""

from __future__ import annotations

import pytest

from sessionplane.proof.history.records import Happening, Refusal
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.tale import Tale


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("UNKNOWN", ""),
        ("CANCELLED", ""),
        ("DEADLINE_EXCEEDED", ""),
        ("INTERNAL", "INTERNAL"),
        ("DATA_LOSS", "CHECKSUM"),
        ("RESOURCE_EXHAUSTED", ""),
        ("INVALID_ARGUMENT", "SESSION_NOT_FOUND"),
        ("NOT_FOUND", "NO_SUCH_REASON"),
        ("RESOURCE_EXHAUSTED", "STORAGE_FULL"),
        ("UNAVAILABLE", "STORE_FAILED"),
        ("UNAVAILABLE", "DRAINING"),
    ],
)
def test_a_refusal_without_its_reason_is_seen(code: str, reason: str) -> None:
    """A status of nobody's making, a reason that has another code, trouble that is not there: exactly this promise."""
    tale = Tale()
    tale.refuse(tale.asked("GetRun", pb.GetRunRequest(run_id="run-1"), "anna"), code, reason)
    assert tale.broken == {"Loud"}


def test_a_stream_that_ends_without_a_reason_is_seen() -> None:
    """A stream that is refused is judged as a call is."""
    tale = Tale()
    tale.recorder.closed(
        tale.recorder.opened("sam", pb.StreamEventsRequest(run_id="run-1")), Refusal("UNKNOWN", "")
    )
    assert tale.broken == {"Loud"}


def test_what_the_server_complains_of_is_seen() -> None:
    """An error in the server's log is a finding, though no client was told."""
    tale = Tale()
    tale.happened(Happening.COMPLAINT, "a loop was restarted")
    assert tale.broken == {"Loud"}


def test_trouble_that_is_there_may_be_named() -> None:
    """A full disk and a stop are good reasons, while there are any."""
    tale = Tale()
    tale.happened(Happening.TROUBLE)
    tale.refuse(
        tale.asked("GetRun", pb.GetRunRequest(run_id="a"), "anna"), "RESOURCE_EXHAUSTED", "STORAGE_FULL"
    )
    tale.happened(Happening.STOPPING)
    tale.refuse(tale.asked("GetRun", pb.GetRunRequest(run_id="a"), "anna"), "UNAVAILABLE", "DRAINING")
    assert tale.broken == set()
