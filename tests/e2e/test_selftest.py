"""`sessionplane selftest` as a visitor runs it: a real process, real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_COMMAND = (sys.executable, "-m", "sessionplane", "selftest")


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """The test's own place for temporary folders, and settings that no server would start with."""
    return os.environ | {"TMPDIR": str(tmp_path), "SESSIONPLANE_LISTEN": "nowhere"}


def test_it_says_ok_leaves_nothing_and_speaks_json(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """A few seconds of it, in whatever shell: one JSON object, exit code 0, no file and no process left."""
    ended = subprocess.run(
        [*_COMMAND, "--only", "storm", "--storm", "200", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["verdict"] == "OK"
    assert [(part["name"], part["checked"]) for part in said["parts"]] == [("storm", 200)]
    assert not list(tmp_path.iterdir())


def test_nothing_to_test_is_an_error() -> None:
    """Whoever leaves everything out gets no green verdict."""
    ended = subprocess.run(
        [*_COMMAND, "--only", "storm", "--storm", "0"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "nothing would be tested" in ended.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_stops_it_finds_nothing_left(
    how: signal.Signals, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """Stopped under way, it says so, and its folders are gone with its processes."""
    with subprocess.Popen(
        [*_COMMAND, "--only", "storm", "--storm", "100000"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "storm: 100,000 calls ...\n"
        process.send_signal(how)
        assert process.stderr.read() == "Interrupted: nothing was shown, and nothing is left behind.\n"
        assert process.wait() == 130
    assert not list(tmp_path.iterdir())
