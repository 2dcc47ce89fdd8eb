"""The table of bounds, bound beside measured: for a terminal, for machines, and for docs/promises.md."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .bounds import BOUNDS, RATED_LOAD, Measured

OK, SHORT = "OK", "FALLS SHORT"


def machine() -> str:
    """Say where this was measured."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" grpcio {version('grpcio')}, SQLite {sqlite3.sqlite_version}"
    )


def line(measured: Measured) -> str:
    """One line for a terminal."""
    unit = measured.bound.unit
    return (
        f"{SHORT if not measured.holds else OK:<11}  {measured.bound.claim}\n"
        f"{'':<11}  {_figure(measured.value)} {unit} of at most {_figure(measured.bound.most)} {unit}"
        f" (median {_figure(measured.typical)}, {measured.samples:,} measured"
        f"{'; ' + measured.note if measured.note else ''})"
    )


def to_json(results: Sequence[Measured], loads: tuple[float, float]) -> dict[str, Any]:
    """Return everything, with where and when. `loads` are the machine's load averages before and after."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "version": version("sessionplane"),
        "machine": machine(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "load_average": {"before": round(loads[0], 1), "after": round(loads[1], 1)},
        "rated_load": RATED_LOAD,
        "bounds": [
            {
                "name": each.bound.name,
                "most": each.bound.most,
                "unit": each.bound.unit,
                "measured": round(each.value, 3),
                "median": round(each.typical, 3),
                "samples": each.samples,
                "note": each.note,
                "holds": each.holds,
            }
            for each in results
        ],
    }


def section(path: Path) -> str:
    """Return the section of docs/promises.md, from the numbers that `make liveness` wrote there."""
    return markdown(json.loads(path.read_text(encoding="utf-8")))


def markdown(found: Mapping[str, Any]) -> str:
    """Return the section of a page from what `to_json` made."""
    figures = {each["name"]: each for each in found["bounds"]}
    rows = [
        "| Bound | At most | Measured | Median | | How |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(bound, figures[bound.name]) for bound in BOUNDS if bound.name in figures),
    ]
    average = found["load_average"]
    return "\n".join(
        [
            f"Rated load is {found['rated_load']}, all from the same machine.",
            "",
            *rows,
            "",
            (
                f"Measured on {found['date']}, version {found['version']}, by `make liveness`: {found['machine']};"
                f" load average {average['before']} before and {average['after']} after, what was measured included"
                f" (at niceness {found['niceness']})."
            ),
        ]
    )


def _row(bound: Any, figure: Mapping[str, Any]) -> str:
    unit = bound.unit
    cells = (
        bound.claim,
        f"{_figure(bound.most)} {unit}",
        f"{_figure(figure['measured'])} {unit}",
        f"{_figure(figure['median'])} {unit}",
        OK if figure["holds"] else SHORT,
        " ".join(
            [bound.how, *([f"{figure['note'][0].upper()}{figure['note'][1:]}."] if figure["note"] else [])]
        ),
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    """Write a number with three digits that mean something, and whole numbers as such."""
    if value == int(value):
        return f"{value:,.0f}"
    before_point = len(f"{abs(value):.0f}")
    return f"{value:,.{max(0, 3 - before_point)}f}"
