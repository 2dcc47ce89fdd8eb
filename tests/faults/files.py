"""What is asked of the file that a fault left behind."""

from __future__ import annotations

from pathlib import Path

from sessionplane.store.verifying import Verifier
from tests.support.rows import broken


def check_file(database: Path) -> None:
    """Assert that every invariant holds, and that every hash and every row fits its log."""
    assert broken(database) == {}
    with Verifier(database) as verifier:
        assert [each.problem for each in verifier.sessions() if each.problem] == []
