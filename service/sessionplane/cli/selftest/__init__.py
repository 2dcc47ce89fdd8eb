"""`sessionplane selftest`: the promises put to the test on this machine.

Owns the command and its exit code. What is shown meanwhile is in `watching`, what is said in the end in `verdict`;
the test itself is `sessionplane.proof`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sessionplane.cli.calls import EXIT_INTERRUPTED, EXIT_REFUSED, say
from sessionplane.cli.usage import examples
from sessionplane.proof.selftest import PARTS

if TYPE_CHECKING:
    from sessionplane.proof.selftest import Result

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _count_options(command: _Command) -> _Command:
    """Gives the command an option for each part: how much of it."""
    for name, part in reversed(list(PARTS.items())):
        option = click.option(
            f"--{name}",
            type=click.IntRange(min=0),
            default=part.count,
            show_default=True,
            metavar="N",
            help=part.does,
        )
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "sessionplane selftest",
        "sessionplane selftest --only storm --storm 20000",
        "sessionplane selftest --json > verdict.json",
    )
)
@_count_options
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Run this part only. Repeatable.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="S",
    help="Where the parts that throw dice begin: the same seed, the same dice.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object, for a program; see docs/operations.md."
)
def selftest(only: Sequence[str], seed: int, *, as_json: bool, **counts: int) -> None:
    """Put the promises to the test, on this machine.

    Takes less than two minutes, on servers and databases of its own, which it removes again; a part that fails
    keeps its evidence and says where. N = 0 leaves a part out.

    Exits with 0 if no part failed, also if one could not run here and was skipped; with 1 if one failed.
    """
    wanted = {name: count for name, count in counts.items() if not only or name in only}
    if not any(wanted.values()):
        raise click.UsageError("All parts are left out: nothing would be tested.")
    try:
        results, seconds = asyncio.run(_watched(wanted, seed, quiet=as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("Interrupted: nothing was shown, and nothing is left behind.")
        raise SystemExit(EXIT_INTERRUPTED) from None
    from sessionplane.cli.selftest.verdict import as_object, print_verdict
    from sessionplane.proof.selftest import Verdict

    if as_json:
        click.echo(as_object(results, seconds, seed))
    else:
        print_verdict(results, seconds)
    raise SystemExit(EXIT_REFUSED if any(result.verdict is Verdict.FAILED for result in results) else 0)


async def _watched(counts: Mapping[str, int], seed: int, *, quiet: bool) -> tuple[Sequence[Result], float]:
    """Run it before a person's eyes; returns the results and the seconds that it took."""
    from sessionplane.cli.selftest.watching import watching
    from sessionplane.proof.selftest import selftest

    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine of asyncio.run
    for stop in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(stop, task.cancel)
    began_s = time.monotonic()
    with watching(quiet=quiet) as observer:
        results = await selftest(counts, seed=seed, observer=observer)
    return results, time.monotonic() - began_s
