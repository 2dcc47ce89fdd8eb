"""Disks that tests may fill: file systems of their own, as small as it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *, kib: int) -> Iterator[Path]:
    """Mount a file system that holds so many KiB; the test is skipped where that may not be done."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small disk takes root")
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder))
    if os.spawnlp(os.P_WAIT, "mount", "mount", *options):
        pytest.skip("this container may not mount a small disk")
    try:
        yield folder
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(folder))


def fill(disk: Path, *, leave_kib: int = 0) -> Path:
    """Take all the space that is left but for some KiB, by a file that is returned."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave_kib * 1024))
    return filler
