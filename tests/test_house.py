"""What holds for every module of the repository, and no linter asks about."""

from __future__ import annotations

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FOLDERS = ("service", "clients", "benchmarks", "docs", "tests")
GENERATED = TOP / "service" / "sessionplane" / "v1"
LINES_MAX = 400


def modules() -> list[Path]:
    """Every Python module that people write."""
    found = [path for folder in FOLDERS for path in (TOP / folder).rglob("*.py")]
    return [path for path in found if GENERATED not in path.parents]


def test_no_module_is_too_long_to_read() -> None:
    """At most 400 lines: what has grown beyond has two topics, each with a name of its own."""
    long = {
        str(path.relative_to(TOP)): lines
        for path in modules()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}
    assert Path(__file__) in modules()
