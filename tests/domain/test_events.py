"""Events: one kind for each body, and values that cannot be changed once they happened."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

import pytest

from sessionplane.domain.events import Body, Custom, Entry, EventKind, OutputDelta, Place, Published
from tests.support.logs import Log


def test_each_body_has_a_kind_of_its_own() -> None:
    """Kinds and bodies are the same list, so that an event's kind tells its body."""
    kinds = [body.kind for body in get_args(Body)]
    assert sorted(kinds) == sorted(EventKind)


@pytest.mark.parametrize("body", get_args(Body))
def test_bodies_are_frozen_values(body: type) -> None:
    """A body is a frozen, slotted dataclass whose fields are given by name."""
    assert is_dataclass(body)
    assert body.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert hasattr(body, "__slots__")
    assert all(each.kw_only for each in fields(body))


def test_what_happened_cannot_be_changed() -> None:
    """Assigning to a field of a body fails."""
    with pytest.raises(FrozenInstanceError):
        OutputDelta(text="a").text = "b"  # type: ignore[misc]


def test_a_runner_publishes_text_and_things_of_its_own() -> None:
    """Everything else in a log is written by the service."""
    assert set(get_args(Published)) == {OutputDelta, Custom}


def test_a_place_is_where_an_entry_ends() -> None:
    """Places count from 0 before the first event, and carry the chain of the entry that they are behind."""
    log = Log()
    assert log.head == Place(0, b"")
    entry = log.text("a")
    assert isinstance(entry, Entry)
    assert log.head == Place(entry.sequence, entry.chain)
