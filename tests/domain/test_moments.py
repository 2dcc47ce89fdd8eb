"""Moments as text: against the standard library's calendar, which the domain may not use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain import moments

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATES = st.datetimes(timezones=st.integers(-1_439, 1_439).map(lambda m: timezone(timedelta(minutes=m))))


def unix_ms(date: datetime) -> int:
    return (date - EPOCH) // timedelta(milliseconds=1)


@given(DATES)
def test_a_time_means_what_the_calendar_says(date: datetime) -> None:
    """Any offset, leap years and centuries included."""
    date = date.replace(microsecond=date.microsecond // 1_000 * 1_000)
    if moments.EARLIEST_MS <= unix_ms(date) <= moments.LATEST_MS:
        assert moments.parse(date.isoformat()) == unix_ms(date)


@given(st.integers(moments.EARLIEST_MS, moments.LATEST_MS))
def test_a_moment_is_written_as_it_is_read(at_ms: int) -> None:
    """The text of a moment is that moment again, also in the year 0, which the standard library does not know."""
    assert moments.parse(moments.text(at_ms)) == at_ms
    if at_ms >= unix_ms(datetime.min.replace(tzinfo=UTC)):
        assert datetime.fromisoformat(moments.text(at_ms)) == EPOCH + timedelta(milliseconds=at_ms)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.500Z"),
        ("2026-01-31T12:00:00.123000000+01:30", "2026-01-31T10:30:00.123Z"),
        ("2024-02-29T23:59:59-00:00", "2024-02-29T23:59:59Z"),
    ],
)
def test_the_forms_of_rfc_3339_are_read(text: str, canonical: str) -> None:
    """Small letters, offsets, and fractions that milliseconds can hold."""
    assert moments.text(moments.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T23:60:00Z",
        "2026-12-31T23:59:60Z",
        "2026-01-31T12:00:00.0001Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:60",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "٢٠٢٦-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """What no calendar and no clock shows, and what the server's milliseconds cannot hold."""
    with pytest.raises(ValueError, match=r"^(is|has) "):
        moments.parse(text)


@pytest.mark.parametrize("at_ms", [moments.EARLIEST_MS - 1, moments.LATEST_MS + 1])
def test_a_moment_without_a_year_of_four_digits_has_no_text(at_ms: int) -> None:
    """A wrong text would be worse than none."""
    with pytest.raises(ValueError, match="no year of four digits"):
        moments.text(at_ms)
