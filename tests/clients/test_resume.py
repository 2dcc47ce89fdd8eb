"""The resume core against a model of a server that breaks, repeats and filters as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import EVENT_KIND_OUTPUT_DELTA, EVENT_KIND_RUN_TERMINAL, Event
from sessionplane.v1.session_pb2 import Session, SessionRef
from sessionplane_client.backoff import Backoff
from sessionplane_client.errors import SessionPlaneError, StreamGap, error_of
from sessionplane_client.resume import Resume

NAMED = service.StreamEventsRequest(session=SessionRef(key="settings2", agent="main"))
UNAVAILABLE = error_of(StatusCode.UNAVAILABLE, "DRAINING", "The server is stopping.")


def resume(request: service.StreamEventsRequest = NAMED, **backoff: float | None) -> Resume:
    return Resume(request, backoff=Backoff(**backoff), random=lambda: 0.0)


def event(sequence: int, kind: int = EVENT_KIND_OUTPUT_DELTA) -> Event:
    return Event(session_id="ses_1", sequence=sequence, kind=kind)


def opened(at: int, session_id: str = "ses_1", **fields: object) -> service.StreamEventsResponse:
    frame = service.StreamOpened(session=Session(session_id=session_id), **fields)
    return service.StreamEventsResponse(
        resume_token=f"t{at}", after_sequence=at, through_sequence=at, opened=frame
    )


def batch(after: int, through: int, *sequences: int) -> service.StreamEventsResponse:
    return service.StreamEventsResponse(
        resume_token=f"t{through}",
        after_sequence=after,
        through_sequence=through,
        batch=service.EventBatch(events=[event(n) for n in sequences or range(after + 1, through + 1)]),
    )


def progress(at: int, until_run_id: str = "") -> service.StreamEventsResponse:
    return service.StreamEventsResponse(
        resume_token=f"t{at}",
        after_sequence=at,
        through_sequence=at,
        progress=service.StreamProgress(until_run_id=until_run_id),
    )


def sequences(events: Iterator[Event] | list[Event]) -> list[int]:
    return [each.sequence for each in events]


@dataclass(frozen=True)
class Call:
    """One call of the model: how it cuts the log, which frames it repeats and which it swallows."""

    cuts: tuple[int, ...]
    repeated: frozenset[int]
    swallowed: frozenset[int]
    breaks_after: int


CALLS = st.lists(
    st.builds(
        Call,
        cuts=st.lists(st.integers(1, 7), min_size=1, max_size=6).map(tuple),
        repeated=st.frozensets(st.integers(0, 5), max_size=2),
        swallowed=st.frozensets(st.integers(0, 5), max_size=1) | st.just(frozenset()),
        breaks_after=st.integers(-1, 6),
    ),
    max_size=8,  # fewer than the attempts in a row that a Backoff allows
)


def frames_of(
    call: Call, position: int, head: int, passes: frozenset[int] | None
) -> Iterator[service.StreamEventsResponse]:
    """The frames of one call from this position to the head of the log."""
    yield opened(position)
    for n, size in enumerate([*call.cuts, head]):
        through = min(position + size, head)
        sent = [k for k in range(position + 1, through + 1) if passes is None or k in passes]
        frame = batch(position, through, *sent) if sent else progress(through)
        frame.after_sequence = position
        position = through
        if n not in call.swallowed:
            yield frame
            if n in call.repeated:
                yield frame


@given(
    calls=CALLS,
    begin=st.integers(0, 5),
    length=st.integers(0, 30),
    passes=st.none() | st.frozensets(st.integers(1, 35)),
)
def test_each_event_comes_once_in_order_or_a_gap_is_named(
    calls: list[Call], begin: int, length: int, passes: frozenset[int] | None
) -> None:
    """Whatever is split, broken off, repeated or swallowed: all that passes, once, in order, or StreamGap."""
    request = service.StreamEventsRequest()
    request.CopyFrom(NAMED)
    if passes is not None:
        request.filter.kinds.append(EVENT_KIND_OUTPUT_DELTA)
    core, head = resume(request), begin + length
    delivered: list[int] = []
    swallowed = False
    whole = Call(cuts=(3,), repeated=frozenset(), swallowed=frozenset(), breaks_after=99)
    try:
        for call in [*calls, whole]:
            token = core.request().resume_token
            position = int(token[1:]) if token else begin
            swallowed = swallowed or bool(call.swallowed)
            for n, frame in enumerate(frames_of(call, position, head, passes)):
                if n > call.breaks_after:
                    break
                delivered += sequences(core.receive(frame))
            if call is not whole:
                core.failed(UNAVAILABLE)
    except StreamGap:
        assert swallowed, "nothing was missing, and yet a gap was seen"
        assert (
            delivered
            == [n for n in range(begin + 1, head + 1) if passes is None or n in passes][: len(delivered)]
        )
        return
    assert delivered == [n for n in range(begin + 1, head + 1) if passes is None or n in passes]


def test_a_hole_between_two_frames_is_named() -> None:
    """A frame that begins behind the last one's end raises StreamGap with the last sequence that was seen."""
    core = resume()
    core.receive(opened(3))
    core.receive(batch(3, 5))
    with pytest.raises(StreamGap) as caught:
        core.receive(batch(6, 7))
    assert caught.value.reason == "STREAM_GAP"
    assert caught.value.metadata["last_sequence"] == "5"


def test_a_hole_inside_a_frame_is_named() -> None:
    """Without a filter a frame holds every event of its range, else StreamGap."""
    core = resume()
    core.receive(opened(0))
    with pytest.raises(StreamGap):
        core.receive(batch(0, 3, 1, 3))


@pytest.mark.parametrize(
    "asked",
    [
        service.StreamEventsRequest(run_id="run_1"),
        service.StreamEventsRequest(filter=service.EventFilter(kinds=[EVENT_KIND_OUTPUT_DELTA])),
        service.StreamEventsRequest(filter=service.EventFilter(custom_types=["tool.call"])),
        service.StreamEventsRequest(filter=service.EventFilter(run_id="run_1")),
    ],
    ids=["of a run", "kinds", "types", "run"],
)
def test_a_filtered_frame_may_hold_fewer_events_than_its_range(asked: service.StreamEventsRequest) -> None:
    """With a run as target, or any filter, the range of a frame accounts for other events as well."""
    core = resume(asked)
    core.receive(opened(0))
    assert sequences(core.receive(batch(0, 9, 2, 7))) == [2, 7]
    assert core.token == "t9"


@pytest.mark.parametrize("disordered", [(2, 1, 3), (1, 1, 2), (0, 1, 2), (1, 2, 4)])
def test_events_out_of_order_in_a_frame_are_refused(disordered: tuple[int, ...]) -> None:
    """Order and range of each event are checked, not assumed."""
    core = resume()
    core.receive(opened(0))
    with pytest.raises(StreamGap):
        core.receive(batch(0, 3, *disordered))


def test_a_stream_that_comes_back_with_another_session_is_refused() -> None:
    """A token belongs to one session; another session's events would look contiguous by chance."""
    core = resume()
    core.receive(opened(4))
    core.failed(UNAVAILABLE)
    with pytest.raises(StreamGap, match="ses_2"):
        core.receive(opened(4, session_id="ses_2"))


def test_a_server_that_ignores_the_token_is_noticed() -> None:
    """FRESH as the answer to a token would skip what lies between."""
    core = resume(service.StreamEventsRequest(session=NAMED.session, resume_token="t4"))
    with pytest.raises(StreamGap, match="afresh"):
        core.receive(opened(9, resume_result=service.RESUME_RESULT_FRESH))


def test_a_reconnect_sends_token_and_run_and_keeps_the_names() -> None:
    """The next request has the newest token and the run that is meant; key and agent stay; start goes."""
    core = resume(
        service.StreamEventsRequest(
            session=NAMED.session, start=service.STREAM_START_OLDEST, until=service.STREAM_UNTIL_RUN_END
        )
    )
    assert core.request().start == service.STREAM_START_OLDEST
    core.receive(opened(0))
    assert core.until_run_id == ""
    core.receive(batch(0, 2))
    core.receive(progress(2, until_run_id="run_7"))
    core.failed(UNAVAILABLE)
    request = core.request()
    assert (request.resume_token, request.until_run_id) == ("t2", "run_7")
    assert request.session == NAMED.session
    assert request.start == service.STREAM_START_UNSPECIFIED


def test_a_run_named_without_run_end_is_not_sent_back() -> None:
    """until_run_id goes with RUN_END only."""
    core = resume()
    core.receive(opened(0, until_run_id="run_7"))
    assert core.request().until_run_id == ""


def test_an_old_frame_does_not_take_the_token_back() -> None:
    """A repeated frame carries an older token; the newest one is kept."""
    core = resume()
    core.receive(opened(0))
    core.receive(batch(0, 4))
    assert list(core.receive(batch(0, 2))) == []
    assert core.token == "t4"


def test_the_terminal_of_a_compacted_run_comes_once_outside_every_range() -> None:
    """Retention took the run's events; its terminal comes in an empty range, once across reconnects."""
    core = resume(service.StreamEventsRequest(run_id="run_1"))
    terminal = service.StreamEventsResponse(resume_token="t10", after_sequence=10, through_sequence=10)
    terminal.batch.events.append(event(8, EVENT_KIND_RUN_TERMINAL))
    core.receive(opened(10))
    assert sequences(core.receive(terminal)) == [8]
    core.failed(UNAVAILABLE)
    core.receive(opened(10))
    assert list(core.receive(terminal)) == []


def test_an_empty_range_hides_no_event() -> None:
    """Anything but such a terminal in a frame that covers nothing is a fault of the server."""
    core = resume()
    core.receive(opened(10))
    frame = service.StreamEventsResponse(after_sequence=10, through_sequence=10)
    frame.batch.events.append(event(11))
    with pytest.raises(StreamGap):
        core.receive(frame)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (StatusCode.UNAVAILABLE, ""),
        (StatusCode.UNAVAILABLE, "DRAINING"),
        (StatusCode.UNAVAILABLE, "MAX_AGE"),
        (StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"),
        (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (StatusCode.CANCELLED, ""),
        (StatusCode.DEADLINE_EXCEEDED, ""),
        (StatusCode.INTERNAL, ""),
    ],
)
def test_a_passing_failure_is_followed_by_another_call(code: StatusCode, reason: str) -> None:
    """What passes by itself is tried again after a wait."""
    assert resume(first_s=1.0).failed(error_of(code, reason, "")) == 0.5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (StatusCode.DATA_LOSS, "LOG_BEHIND_TOKEN"),
        (StatusCode.OUT_OF_RANGE, "TOKEN_COMPACTED"),
        (StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"),
        (StatusCode.FAILED_PRECONDITION, "SESSION_ENDED"),
        (StatusCode.FAILED_PRECONDITION, "STORE_REPLACED"),
        (StatusCode.INVALID_ARGUMENT, "TOKEN_INVALID"),
        (StatusCode.ABORTED, "DISCONNECTED"),
        (StatusCode.INTERNAL, "INTERNAL"),
        (StatusCode.RESOURCE_EXHAUSTED, ""),
        (StatusCode.UNIMPLEMENTED, ""),
        (StatusCode.CANCELLED, "CLIENT_CLOSED"),
    ],
)
def test_a_final_failure_is_raised_as_it_is(code: StatusCode, reason: str) -> None:
    """What another call would not change is raised at once, with the class of its reason."""
    error = error_of(code, reason, "no")
    with pytest.raises(SessionPlaneError) as caught:
        resume().failed(error)
    assert caught.value is error


def test_waits_grow_to_a_bound_and_end() -> None:
    """Each wait in a row is twice the one before, up to max_s; after attempts_max the error is raised."""
    core = resume(first_s=0.2, max_s=1.0, attempts_max=5)
    assert [core.failed(UNAVAILABLE) for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    with pytest.raises(SessionPlaneError, match="stopping"):
        core.failed(UNAVAILABLE)


def test_only_a_stream_that_moves_restores_the_patience() -> None:
    """A server that opens and closes in turn is not well: opened and closing count for nothing."""
    core = resume(first_s=0.2, max_s=1.0)
    core.failed(UNAVAILABLE)
    core.receive(opened(0))
    core.receive(service.StreamEventsResponse(resume_token="t0", closing=service.StreamClosing()))
    assert core.failed(UNAVAILABLE) == 0.2
    core.receive(progress(0))
    assert core.failed(UNAVAILABLE) == 0.1


def test_a_server_that_asks_for_a_longer_wait_gets_it_up_to_a_minute() -> None:
    """RetryInfo raises the wait and never shortens it."""
    asks = [error_of(StatusCode.UNAVAILABLE, "STARTING", "", retry_delay_s=s) for s in (3.0, 0.0, 3600.0)]
    assert [resume(first_s=1.0).failed(each) for each in asks] == [3.0, 0.5, 60.0]


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_every_wait_is_within_its_bounds(failures: int, chance: float) -> None:
    """However many failures and whatever the chance: more than nothing, at most max_s."""
    assert 0 < Backoff(attempts_max=None).delay_s(failures, chance) <= 2.0
