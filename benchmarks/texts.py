"""What is published: texts of a fixed size, so that an event of the log is about 200 bytes."""

from __future__ import annotations

TEXT = "The quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. "


def texts(count: int) -> list[str]:
    """Return so many pieces of text."""
    return [TEXT] * count
