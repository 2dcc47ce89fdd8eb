"""The track record: the table of docs/promises.md that is written from track_record.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

RECORD = Path(__file__).with_name("track_record.toml")


class Defect(NamedTuple):
    """Something that went wrong: what it looked like, the promise that it broke, what fails if it comes back."""

    what: str
    promise: str
    again: str

    @property
    def is_test(self) -> bool:
        """Whether a test shows it, and not a command of its own."""
        return self.again.startswith("tests/")

    @property
    def command(self) -> str:
        """What to type."""
        return f"make test ARGS='{self.again}'" if self.is_test else self.again


def defects() -> list[Defect]:
    """Return the whole record, in its order."""
    return [Defect(**each) for each in tomllib.loads(RECORD.read_text(encoding="utf-8"))["defect"]]


def track_record() -> str:
    """Return the table."""
    rows = [f"| {each.what} | {each.promise} | `{each.command}` |" for each in defects()]
    return "\n".join(["| what went wrong | promise | what shows it again |", "| --- | --- | --- |", *rows])
