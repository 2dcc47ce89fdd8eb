"""What messages look like as text."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.cli import show
from sessionplane.v1 import event_pb2, run_pb2, session_pb2

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=_TEXT)
def test_text_of_others_stays_on_one_line_and_harmless(text: str) -> None:
    """No control, bidi or line character of a foreign text reaches the terminal."""
    assert show.quoted(text).isprintable()


@given(text=_TEXT.filter(str.isprintable))
def test_ordinary_text_is_readable(text: str) -> None:
    """What is printable is shown as it is, between quotes."""
    shown = show.quoted(text)
    assert len(text) > 200 or json.loads(shown) == text


def test_long_text_is_cut_visibly() -> None:
    """Beyond 200 characters a line says that there is more."""
    assert show.quoted("x" * 201).endswith('x" ...')


def test_a_time_has_its_date_unless_that_is_todays() -> None:
    """What was a year ago does not look as if it was this morning."""
    now = datetime.now().astimezone()
    shown = Timestamp()
    shown.FromDatetime(now)
    assert show.clock(shown) in {f"{now:%H:%M:%S}", f"{now:%Y-%m-%d %H:%M:%S}"}  # the latter at midnight
    then = datetime(2025, 11, 13, 2, 13, 20).astimezone()
    shown.FromDatetime(then.astimezone(UTC))
    assert show.clock(shown) == "2025-11-13 02:13:20"
    assert show.clock(Timestamp()) == ""


@pytest.mark.parametrize("body", [field.name for field in event_pb2.Event.DESCRIPTOR.oneofs[0].fields])
def test_every_event_has_a_line_of_its_own(body: str) -> None:
    """Each body of the wire is known by name, also when all its fields are empty."""
    event = event_pb2.Event(sequence=7)
    getattr(event, body).SetInParent()
    line = show.event(event)
    assert body in show._BODIES
    assert show._BODIES[body][0] in line
    assert line.isprintable()


def test_an_event_of_a_newer_server_is_shown_too() -> None:
    """A body that this version does not know does not stop a stream."""
    assert show.event(event_pb2.Event(sequence=7)).endswith("unknown")


def test_a_change_shows_where_it_came_from() -> None:
    """The first state has no arrow before it."""
    first = event_pb2.RunChanged(to_state=run_pb2.RUN_STATE_PENDING)
    then = event_pb2.RunChanged(
        from_state=run_pb2.RUN_STATE_PENDING, to_state=run_pb2.RUN_STATE_RUNNING, runner_id="r"
    )
    assert show.event(event_pb2.Event(run_changed=first)).endswith("run       PENDING")
    assert show.event(event_pb2.Event(run_changed=then)).endswith('PENDING -> RUNNING by "r"')


def test_a_failed_run_says_why() -> None:
    """Outcome, cause, failure, and whether the text is all there is."""
    end = run_pb2.RunTerminal(
        outcome=run_pb2.RUN_OUTCOME_FAILED,
        cause=run_pb2.RUN_CAUSE_RUNNER,
        output_text="half",
        failure=run_pb2.RunFailure(reason="BOOM", message="It broke."),
    )
    assert show.terminal(end) == 'FAILED by RUNNER  "BOOM" "It broke."  "half" (not all of it)'


def test_json_is_one_line_with_the_names_of_the_protos() -> None:
    """Programs read the same names as in the proto files."""
    line = show.as_json(session_pb2.Session(session_id="s", display_name="a\nb"))
    assert json.loads(line) == {"session_id": "s", "display_name": "a\nb"}
    assert "\n" not in line
