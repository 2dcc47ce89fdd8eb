"""The demo is the product's first impression: it must tell the truth on any machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_sees_every_promise_kept(tmp_path: Path) -> None:
    """The whole story runs on a text of the user's and ends with nothing broken."""
    text = tmp_path / "text.txt"
    text.write_text(
        "".join(f"line {number} of a text with ümläuts\n" for number in range(200)), encoding="utf-8"
    )
    told = subprocess.run(
        [sys.executable, "-m", "sessionplane", "demo", "--text", str(text)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "every promise was kept" in told.stdout
    assert "BROKEN" not in told.stdout
