"""The builders of messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sessionplane_client.wire import pieces


@given(text=st.text(max_size=200), bytes_max=st.integers(4, 20))
def test_pieces_are_the_text_in_pieces(text: str, bytes_max: int) -> None:
    """Put together they are the text; none is empty or too large; no character is cut."""
    cut = list(pieces(text, bytes_max))
    assert "".join(cut) == text
    assert all(0 < len(piece.encode()) <= bytes_max for piece in cut)
