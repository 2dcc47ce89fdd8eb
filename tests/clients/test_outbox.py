"""The outbox against a model of a server that loses calls."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1.event_pb2 import OutputDelta
from sessionplane_client import SessionPlaneError
from sessionplane_client.outbox import Outbox


@given(
    sizes=st.lists(st.integers(1, 300_000), max_size=40),
    steps=st.lists(st.sampled_from(["send", "acknowledge", "break"]), max_size=60),
    chance=st.randoms(use_true_random=False),
)
def test_an_outbox_sends_each_event_until_it_is_acknowledged(
    sizes: list[int], steps: list[str], chance: Random
) -> None:
    """Whatever is acknowledged and broken when: the server gets every event once, under its number."""
    outbox = Outbox()
    outbox.rewind(0)
    stored: list[int] = []
    events = [runner.NewEvent(output_delta=OutputDelta(text="x" * size)) for size in sizes]
    for event in events:
        outbox.add(event)
    for step in steps:
        if step == "send" and (publication := outbox.next_publication()):
            assert len(publication.events) == 1 or publication.ByteSize() < 1024 * 1024
            skip = len(stored) - (publication.first_run_sequence - 1)
            assert skip >= 0, "a hole"
            if chance.random() < 0.8:
                stored += [len(event.output_delta.text) for event in publication.events][skip:]
            else:  # the call broke before it arrived
                outbox.rewind(len(stored))
        if step == "acknowledge":
            outbox.acknowledge(chance.randint(0, len(stored)))
        if step == "break":
            outbox.rewind(len(stored))
    outbox.rewind(len(stored))
    while (publication := outbox.next_publication()) is not None:
        stored += [len(event.output_delta.text) for event in publication.events]
        outbox.acknowledge(len(stored))
    assert stored == sizes
    assert outbox.empty


@pytest.mark.parametrize("last_run_sequence", [1, 6])
def test_an_outbox_knows_a_foreign_hand(last_run_sequence: int) -> None:
    """A server that has more than was written, or less than it acknowledged, is not the one that was left."""
    outbox = Outbox()
    outbox.rewind(0)
    for _ in range(5):
        outbox.add(runner.NewEvent(output_delta=OutputDelta(text="x")))
    outbox.next_publication()
    outbox.acknowledge(2)
    with pytest.raises(SessionPlaneError, match="RUN_SEQUENCE_GAP"):
        outbox.rewind(last_run_sequence)


def test_an_outbox_goes_on_where_a_run_stands() -> None:
    """The first stream of a process that took over its own lease begins behind what was published before."""
    outbox = Outbox()
    outbox.add(runner.NewEvent(output_delta=OutputDelta(text="x")))
    assert outbox.next_publication() is None
    outbox.rewind(7)
    publication = outbox.next_publication()
    assert publication is not None
    assert publication.first_run_sequence == 8
