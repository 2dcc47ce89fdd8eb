"""What --help shows of all commands at once."""

from __future__ import annotations

import click
import pytest

from sessionplane.cli.root import root

_TERMINAL = 80


@pytest.mark.parametrize("name", sorted(root.commands))
def test_what_a_command_does_fits_its_line(name: str) -> None:
    """A list of commands with cut sentences sends everybody to each command's own page."""
    room = _TERMINAL - 8 - max(len(each) for each in root.commands)
    assert isinstance(root.commands[name], click.Command)
    shown = root.commands[name].get_short_help_str(room)
    assert not shown.endswith("..."), shown
