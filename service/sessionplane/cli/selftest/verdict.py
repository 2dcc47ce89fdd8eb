"""What the self-test says in the end, in words for a person and as an object for a program.

The object is documented in docs/operations.md; what is in it keeps its name and its meaning.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from textwrap import wrap

import click

from sessionplane.cli.calls import say
from sessionplane.proof.selftest import Result, Verdict

_SHOWN_MAX = 5
_WIDTH = 100
_UNITS = ("s", "ms")
_INDENT = " " * 9
_COLOURS = {Verdict.OK: "green", Verdict.FAILED: "red", Verdict.SKIPPED: "yellow"}


def machine() -> dict[str, str | int]:
    """Say where it ran."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "grpcio": version("grpcio"),
    }


def as_object(results: Sequence[Result], seconds: float, seed: int) -> str:
    """Return everything as one JSON object, on several lines."""
    said = {
        "verdict": total(results),
        "version": version("sessionplane"),
        "machine": machine(),
        "seed": seed,
        "seconds": round(seconds, 1),
        "parts": [_part(result) for result in results],
    }
    return json.dumps(said, indent=2)


def _part(result: Result) -> dict[str, object]:
    outcome = result.outcome
    return {
        "name": result.name,
        "verdict": result.verdict,
        "claim": outcome.claim,
        "checked": outcome.checked,
        "unit": outcome.unit,
        "seconds": round(outcome.seconds, 1),
        "measured": outcome.measured,
        "failures": outcome.failures,
        "skipped": outcome.skipped,
        "again": result.again,
        "evidence": str(result.evidence or ""),
    }


def total(results: Sequence[Result]) -> Verdict:
    """Return FAILED if one part failed, SKIPPED if none ran, and OK otherwise."""
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.FAILED, Verdict.OK):
        if verdict in verdicts:
            return verdict
    return Verdict.SKIPPED


def print_verdict(results: Sequence[Result], seconds: float) -> None:
    """Print the verdict on each part and on all."""
    say("")
    for result in results:
        for number, line in enumerate(_lines(result)):
            mark = click.style(f"{result.verdict:9}", fg=_COLOURS[result.verdict]) if number == 0 else _INDENT
            click.echo(f"{mark}{line}")
        click.echo()
    click.echo(f"{_sentence(results)} It took {seconds:.0f} s on {_machine_in_words()}.")


def _lines(result: Result) -> Iterator[str]:
    """Say of a part what is claimed, how much was checked, and what is to be done if it failed."""
    outcome = result.outcome
    yield from _wrapped(f"{result.name}: {outcome.claim}")
    if outcome.skipped:
        yield from _wrapped(f"Not checked here: {outcome.skipped}")
        return
    figures = "; ".join(
        [
            f"{outcome.checked:,} {outcome.unit} checked in {outcome.seconds:.1f} s",
            *map(_figure, outcome.measured.items()),
        ]
    )
    yield from _wrapped(f"{figures}.")
    for failure in outcome.failures[:_SHOWN_MAX]:
        yield from failure.splitlines()
    if len(outcome.failures) > _SHOWN_MAX:
        yield f"and {len(outcome.failures) - _SHOWN_MAX} more"
    if outcome.failures:
        yield f"evidence  {result.evidence}"
        yield f"again     {result.again}"


def _figure(figure: tuple[str, float | str]) -> str:
    """Say a figure as people do; a unit stands at the end of its name."""
    name, value = figure
    unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), "")
    words = name.removesuffix(f"_{unit}").replace("_", " ")
    return f"{words} {value:,} {unit}".rstrip() if isinstance(value, int | float) else f"{words} {value}"


def _wrapped(text: str) -> Sequence[str]:
    return wrap(text, _WIDTH - len(_INDENT))


def _sentence(results: Sequence[Result]) -> str:
    failed = [result.name for result in results if result.verdict is Verdict.FAILED]
    skipped = [result.name for result in results if result.verdict is Verdict.SKIPPED]
    if failed:
        return f"FAILED: {', '.join(failed)}. A promise was broken: please report it, with the evidence."
    if not skipped:
        return "OK: every promise that was put to the test was kept."
    if len(skipped) == len(results):
        return "Nothing could be checked here."
    return f"OK, as far as it could be checked here: {', '.join(skipped)} was skipped."


def _machine_in_words() -> str:
    found = machine()
    return (
        f"{found['cores']} cores, {found['system']}, Python {found['python']}, SQLite {found['sqlite']},"
        f" sessionplane {version('sessionplane')}"
    )
