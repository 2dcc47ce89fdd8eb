"""The track record names what exists."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from docs.record import defects

TOP = Path(__file__).resolve().parent.parent
PAGE = (TOP / "docs" / "promises.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("test", sorted({each.again for each in defects() if each.is_test}))
def test_each_test_of_the_record_exists(test: str) -> None:
    """Whoever types the command runs that very test, or all of that module."""
    path, *names = test.split("::")
    inside: Iterable[ast.stmt] = ast.parse((TOP / path).read_text(encoding="utf-8")).body
    for name in names:
        (found,) = [
            each
            for each in inside
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and each.name == name
        ]
        inside = found.body
    assert not names or names[-1].startswith("test_")


def test_each_command_of_the_record_exists() -> None:
    """What is no test runs a module that is there."""
    commands = [shlex.split(each.again) for each in defects() if not each.is_test]
    modules = [after for command in commands for flag, after in pairwise(command) if flag == "-m"]
    assert len(modules) == len(commands)
    assert all(map(find_spec, modules))


def test_each_defect_broke_a_promise_that_there_is() -> None:
    """Its promise is a heading of the page that shows the table."""
    assert {each.promise for each in defects()} <= {
        line[3:] for line in PAGE.splitlines() if line.startswith("## ")
    }
    assert len(defects()) >= 40
