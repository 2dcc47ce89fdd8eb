"""Recordings: what does not add up is refused, and what was never sent is not believed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sessionplane.proof.powercut.disk import Disk
from sessionplane.proof.powercut.evidence import Answer
from sessionplane.proof.powercut.recording import RecordingFailed, _compare, _Start, _with_cut
from sessionplane.proof.powercut.trace import Create, Sent, Share, Write


def told(*events: Create | Write | Share) -> Disk:
    """A disk that was told about these."""
    disk = Disk()
    for event in events:
        disk.apply(event)
    return disk


def test_files_that_are_not_what_the_trace_adds_up_to_are_refused(tmp_path: Path) -> None:
    """Something was overlooked: a write, a file, or a file's end. What stands in a shared file is not asked."""
    (tmp_path / "a").write_bytes(b"xy")
    made = [Create("a"), Write("a", 0, b"xy")]
    _compare(told(*made), tmp_path)
    _compare(told(Create("a"), Share("a")), tmp_path)
    for wrong in ([], made[:1], [*made, Create("b")], [*made, Write("a", 1, b"z")]):
        with pytest.raises(RecordingFailed, match="overlooked"):
            _compare(told(*wrong), tmp_path)


def test_what_a_server_answered_after_its_power_was_cut_was_never_answered() -> None:
    """Its clients run on for as long as the recording is made."""
    answers = [Answer(rpc="Rpc", raw=bytes([each]) * 9, facts=[]) for each in range(50)]
    start = _Start(events=[Sent(answer.raw) for answer in answers], answers=answers)
    for seed in range(30):
        cut = _with_cut(start, Random(seed))
        assert [Sent(answer.raw) for answer in cut.answers] == cut.events
        assert 25 <= len(cut.events) <= 50
