"""Moments as text (RFC 3339) and as numbers (Unix milliseconds), one to one and without a clock.

Owns the calendar that this takes: days are counted by the civil calendar, by Howard Hinnant's algorithms
(https://howardhinnant.github.io/date_algorithms.html), in which a year begins in March, so that a leap day is
its last one. Must never know what time it is.
"""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_CLOCK_MAX: Final = (23, 59, 59)
_FEBRUARY: Final = 2
_DECEMBER: Final = 12
_DAY_S: Final = 86_400
_ERA_DAYS: Final = 146_097  # 400 years
_EPOCH: Final = 719_468  # days from the first of March of year 0 to 1970

EARLIEST_MS: Final = -62_167_219_200_000
LATEST_MS: Final = 253_402_300_799_999
"""The first and the last moment that RFC 3339 can write in UTC: the years 0 to 9999."""


def parse(text: str) -> int:
    """Return the moment in Unix milliseconds.

    Raises ValueError, whose text says what is wrong with it and begins with a verb: it is for a refusal. A leap
    second is refused, as is a fraction that is finer than a millisecond.
    """
    shape = _FORM.fullmatch(text)
    if shape is None:
        raise ValueError("is no time as in RFC 3339: write it like 2026-01-31T12:00:00Z")
    year, month, day, *clock = (int(shape[place]) for place in range(1, 7))
    if not (1 <= month <= _DECEMBER and 1 <= day <= _days_in(year, month)):
        raise ValueError("is a day that is not in the calendar")
    seconds = _seconds(*clock)
    if seconds is None:
        raise ValueError("is a time that no clock shows")
    fraction_ms, finer = divmod(int((shape[7] or "").ljust(9, "0")), 1_000_000)
    if finer:
        raise ValueError("is finer than the server's milliseconds: write three digits behind the point")
    at_s = _day_number(year, month, day) * _DAY_S + seconds - _offset_s(shape)
    at_ms = at_s * 1_000 + fraction_ms
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        raise ValueError("is outside the years 0 to 9999 in UTC")
    return at_ms


def text(at_ms: int) -> str:
    """Return the moment in UTC, with milliseconds where there are any.

    Raises ValueError outside EARLIEST_MS to LATEST_MS.
    """
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        raise ValueError(f"{at_ms} ms is in no year of four digits")
    at_s, rest_ms = divmod(at_ms, 1_000)
    days, second = divmod(at_s, _DAY_S)
    year, month, day = _civil(days)
    fraction = f".{rest_ms:03}" if rest_ms else ""
    clock = f"{second // 3_600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{year:04}-{month:02}-{day:02}T{clock}{fraction}Z"


def _offset_s(shape: re.Match[str]) -> int:
    if shape[8] is None:
        return 0
    seconds = _seconds(int(shape[9]), int(shape[10]))
    if seconds is None:
        raise ValueError("has an offset from UTC that no place has")
    return -seconds if shape[8] == "-" else seconds


def _seconds(*clock: int) -> int | None:
    """Count the seconds of hours, minutes and seconds; None if no clock shows them."""
    if any(part > most for part, most in zip(clock, _CLOCK_MAX, strict=False)):
        return None
    return sum(part * unit for part, unit in zip(clock, (3_600, 60, 1), strict=False))


def _days_in(year: int, month: int) -> int:
    following = (year, month + 1) if month < _DECEMBER else (year + 1, 1)
    return _day_number(*following, 1) - _day_number(year, month, 1)


def _day_number(year: int, month: int, day: int) -> int:
    """Count the days since 1970-01-01."""
    year -= month <= _FEBRUARY
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month - 3) % 12) + 2) // 5 + day - 1
    return era * _ERA_DAYS + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - _EPOCH


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a number of days since 1970-01-01."""
    era, day_of_era = divmod(days + _EPOCH, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = (shifted + 2) % 12 + 1
    return era * 400 + year_of_era + (month <= _FEBRUARY), month, day_of_year - (153 * shifted + 2) // 5 + 1
