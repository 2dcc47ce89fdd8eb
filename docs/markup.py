"""The few forms of Markdown that generated sections are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

Enum = TypeVar("Enum", bound=StrEnum)
BAR = r"\|"

# From which value on, the unit, its name.
_UNITS = {
    "ms": (
        (172_800_000, 86_400_000, "days"),
        (3_600_000, 3_600_000, "h"),
        (60_000, 60_000, "min"),
        (1_000, 1_000, "s"),
        (1, 1, "ms"),
    ),
    "bytes": ((1024 * 1024, 1024 * 1024, "MiB"), (1024, 1024, "KiB"), (1, 1, "bytes")),
}


def table(heading: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; bars in its cells are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', BAR) for cell in line)} |" for line in lines)


def diagram(edges: Iterable[tuple[str, str, str]]) -> str:
    """Return a state diagram of edges (from, to, label); what leads the same way shares an arrow."""
    labels: dict[tuple[str, str], list[str]] = {}
    for source, target, label in edges:
        labels.setdefault((source, target), []).append(label)
    lines = [
        f"    {source} --> {target}" + (f": {', '.join(names)}" if any(names) else "")
        for (source, target), names in labels.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def code(text: object) -> str:
    """Return a word as code, and nothing as nothing."""
    return f"`{text}`" if text else ""


def listed(kind: type[Enum], values: Collection[Enum]) -> str:
    """Return enum values in the order of their kind, or a dash."""
    return ", ".join(code(value) for value in kind if value in values) or "-"


def human(name: str, value: int) -> str:
    """Return a bound as people say it; its name says what it counts."""
    for word, units in _UNITS.items():
        if word in name.split("_"):
            size, unit = next(
                (size, unit) for least, size, unit in units if value >= least and not value % size
            )
            return f"{value // size:,} {unit}"
    return f"{value:,}"
