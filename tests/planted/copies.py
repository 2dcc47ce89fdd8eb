"""Copies of the repository in which a bug is planted. What runs in one, it and every process that it starts, has the
bug too; the repository itself is never touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.planted.bugs import TOP, Bug

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", "*_cache", "__pycache__", "node_modules", "target", "*.db*"
)


class DoesNotApply(Exception):
    """A patch is not of the source as it is now; the message is git's."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the repository, with an empty folder beside it for what runs in it."""

    top: Path
    scratch: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which this copy is what Python imports."""
        roots = (self.top / "service", self.top / "clients" / "python", self.top)
        return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots)), "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def planted(bug: Bug | None) -> Iterator[Copy]:
    """Make a copy with a bug in it, or with none, until the context is left. Raises DoesNotApply."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Copy(Path(folder) / "copy", Path(folder) / "scratch")
        copy.scratch.mkdir()
        shutil.copytree(TOP, copy.top, ignore=_LEFT_OUT)
        if bug is not None:
            _apply(bug, copy)
        yield copy


def _apply(bug: Bug, copy: Copy) -> None:
    # Without a repository around it, git takes the copy for the root of the paths in the patch.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(copy.top.parent)}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(bug.patch)],
        cwd=copy.top,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DoesNotApply(f"{bug.name}: {done.stderr.strip()}")
