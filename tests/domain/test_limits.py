"""The bounds: documented, positive, and consistent with each other."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from sessionplane.domain.limits import DEFAULT, Limits, meanings

PROMISED = {
    "raw_key_bytes_max": 1_024,
    "key_rest_bytes_max": 512,
    "id_bytes_max": 128,
    "payload_bytes_max": 262_144,
    "publish_events_max": 256,
    "publish_bytes_max": 1_048_576,
    "request_bytes_max": 1_114_112,
    "labels_max": 32,
    "labels_bytes_max": 4_096,
    "run_queue_max": 20,
    "session_streams_max": 256,
    "server_streams_max": 20_000,
    "batch_events_max": 256,
    "batch_bytes_max": 262_144,
    "page_bytes_max": 1_048_576,
    "writer_commands_max": 5_000,
    "writer_bytes_max": 67_108_864,
    "terminal_text_bytes_max": 262_144,
    "lease_ms_default": 15_000,
    "lease_ms_min": 2_000,
    "lease_ms_max": 600_000,
    "sweep_ms": 1_000,
    "interrupt_grace_ms_default": 10_000,
    "interrupt_grace_ms_max": 300_000,
    "start_timeout_ms_default": 600_000,
    "run_timeout_ms_default": 86_400_000,
    "detach_linger_ms": 10_000,
    "progress_after_ms": 10_000,
    "slow_subscriber_ms": 30_000,
    "stream_abort_ms": 5_000,
    "request_id_ms": 86_400_000,
    "drain_ms": 10_000,
    "wait_ms_max": 60_000,
    "log_events_max": 50_000,
    "log_bytes_max": 52_428_800,
}
"""The defaults that the documentation promises."""


@pytest.mark.parametrize(("name", "value"), PROMISED.items())
def test_a_default_is_the_promised_one(name: str, value: int) -> None:
    """A bound that users plan with has its documented value."""
    assert getattr(DEFAULT, name) == value


def test_every_bound_has_a_meaning() -> None:
    """Each bound says in a few words what it bounds, without a full stop: it stands in a table."""
    said = meanings()
    assert set(said) == {each.name for each in fields(Limits)}
    assert all(meaning and not meaning.endswith(".") for meaning in said.values())
    assert len(set(said.values())) == len(said)


def test_every_name_ends_in_its_unit_or_says_most() -> None:
    """A name tells whether it is milliseconds, or the least, the most or the default of something."""
    endings = ("_ms", "_max", "_min", "_default")
    assert all(each.name.endswith(endings) for each in fields(Limits))


def test_every_default_is_positive() -> None:
    """No bound is zero or unbounded."""
    assert all(getattr(DEFAULT, each.name) > 0 for each in fields(Limits))


def test_bounds_are_frozen() -> None:
    """Bounds are judged once, and stay."""
    with pytest.raises(FrozenInstanceError):
        DEFAULT.sweep_ms = 1  # type: ignore[misc]
