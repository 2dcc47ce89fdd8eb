"""What `make soak` does in its rounds."""

from __future__ import annotations

from itertools import islice

import click

from sessionplane.cli.selftest import selftest
from tests.soak import SEEDS_A_ROUND, SELFTEST, rounds


def test_no_two_rounds_try_the_same_and_their_commands_are_understood() -> None:
    """Each round has seeds of its own, and another module of properties than the one before."""
    first, second = islice(rounds(40), 2)
    seeds = []
    for proof, _ in (first, second):
        arguments = list(proof.command[len(SELFTEST) :])
        with click.Context(selftest) as context:
            selftest.parse_args(context, arguments)
        seeds.append(range(context.params["seed"], context.params["seed"] + context.params["sim"]))
    assert seeds == [range(40, 40 + SEEDS_A_ROUND), range(40 + SEEDS_A_ROUND, 40 + 2 * SEEDS_A_ROUND)]
    assert first[1].command != second[1].command
    assert str(first[1]).startswith("HYPOTHESIS_PROFILE=soak ")
