"""What a run of the benchmarks says: a table for the terminal, a table for the docs, JSON, and a comparison."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from samples import Line, Spread, Target

WORSE = 0.9
"""A ratio below this part of an earlier one is worth a warning."""
BUSY = 0.9
"""A load generator that uses more of a core than this may have been the limit."""

SHOWN = {
    "ratio": "ratio",
    "cpu_ratio": "CPU ratio",
    "server_us": "server us",
    "rate": "per s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}
COLUMNS = (
    ("workload", 43),
    ("floor/s", 9),
    ("result/s", 9),
    ("ratio", 18),
    ("server us: floor", 16),
    ("result", 19),
    ("client us", 9),
)


def machine() -> str:
    """Describe what the numbers were taken on."""
    return (
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}, grpcio {grpc.__version__}, protobuf {version('protobuf')},"
        f" SQLite {sqlite3.sqlite_version}, uvloop {version('uvloop')}"
    )


def loop_ms() -> float:
    """Return what a fixed loop of Python takes now: shared machines have slow hours, which CPU time shows too."""
    begin_s = time.process_time()
    for _ in range(10):
        sum(range(1_000_000))
    return (time.process_time() - begin_s) * 100


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    return name[1] if name else platform.machine()


def number(value: float) -> str:
    """Show a number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ranged(value: Spread) -> str:
    """Show a median with its extremes."""
    return f"{number(value.middle)} ({number(value.low)}..{number(value.high)})"


def _cells(line: Line) -> tuple[str, ...]:
    found = line.numbers()
    timed = "p50_ms" in found
    return (
        line.name,
        f"{number(found['floor_p50_ms'].middle)} ms" if timed else number(found["floor_rate"].middle),
        f"{number(found['p50_ms'].middle)} ms" if timed else number(found["rate"].middle),
        ranged(found["ratio"]),
        number(found["floor_us"].middle),
        ranged(found["server_us"]),
        number(found["client_us"].middle),
    )


def verdict(target: Target, numbers: Mapping[str, Spread]) -> str:
    """Say what was wanted, what came, and whether that will do."""
    sign = ">=" if target.at_least else "<="
    came = ranged(numbers[target.number])
    word = "MET" if target.met(dict(numbers)) else "MISSED"
    return f"{SHOWN[target.number]} {sign} {target.bound:,g}: {came} {word}"


def _notes(line: Line) -> Iterator[str]:
    found = line.numbers()
    yield f"floor: {line.floor_name}"
    for target in line.targets:
        yield f"target: {verdict(target, found)}"
    if line.note:
        yield line.note
    if found["client_busy"].middle > BUSY:
        yield f"the load generator was {found['client_busy'].middle:.0%} busy: it may have been the limit"


def table(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table for a terminal, with the targets below each line."""
    yield "  ".join(f"{name:<{width}}" for name, width in COLUMNS).rstrip()
    for line in lines:
        cells = zip(_cells(line), COLUMNS, strict=True)
        yield "  ".join(f"{cell:<{width}}" for cell, (_, width) in cells).rstrip()
        for note in _notes(line):
            yield f"    {note}"


def markdown(lines: Sequence[Line], command: str, loops_ms: Sequence[float]) -> str:
    """Return the section for the docs."""
    heading = (
        "Workload",
        "Floor",
        "Floor per s",
        "Result per s",
        "Ratio",
        "Server us, floor",
        "Server us",
        "Target",
    )
    rows = [heading, ("---",) * len(heading)]
    for line in lines:
        verdicts = "; ".join(verdict(target, line.numbers()) for target in line.targets)
        name, *numbers, _ = _cells(line)
        rows.append((name, line.floor_name, *numbers, verdicts))
    others = median(line.numbers()["others_busy"].middle for line in lines)
    return "\n".join(
        (
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `{command}`, version {version('sessionplane')}.",
            "",
            f"* The machine: {machine()}.",
            f"* Summing a million numbers took {loops_ms[0]:.0f} ms before and {loops_ms[1]:.0f} ms after.",
            f"* Other programs used {others:.1f} cores meanwhile.",
            "* Medians, with the lowest and the highest round.",
            "",
            *("| " + " | ".join(row) + " |" for row in rows),
        )
    )


def write_docs(page: Path, section: str, name: str = "results") -> None:
    """Put the section into the page, between the marks of its name."""
    marked = re.compile(f"(<!-- benchmarks: {name} -->\\n).*?(<!-- benchmarks: end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    page.write_text(marked.sub(lambda marks: f"{marks[1]}\n{section}\n\n{marks[2]}", text), encoding="utf-8")


def to_json(lines: Sequence[Line], command: str, loops_ms: Sequence[float]) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "version": version("sessionplane"),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine(),
        "loops_ms": loops_ms,
        "lines": [line.to_json() for line in lines],
    }


def worse(lines: Sequence[Line], earlier: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each ratio that is worse than an earlier run's by more than a tenth."""
    before = {(line["name"], line["floor"]): Spread(**line["numbers"]["ratio"]) for line in earlier["lines"]}
    for line in lines:
        ratio = line.numbers()["ratio"]
        was = before.get((line.name, line.floor_name), ratio)
        if ratio.middle < was.middle * WORSE:
            doubt = "; the rounds overlap, so it may be noise" if ratio.high > was.low else ""
            yield f"WORSE: {line.name} against {line.floor_name}: {ranged(ratio)}, was {ranged(was)}{doubt}"
