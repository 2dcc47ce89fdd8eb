"""The fenced blocks of the docs, and whether what they show is what was really printed.

A block's info string is its language and then words that no reader sees: which tour it belongs to, and `follower` for
the terminal that only follows. What is shown may be shortened: fields, lines and elements may be left out, and `...`
stands for any text. The same shortened text means the same thing throughout a tour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCED = re.compile(r"^```(?P<language>\w+)(?P<words>[ \w-]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block, with where it stands."""

    page: Path
    line: int
    language: str
    words: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page.parent.name}/{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            words=frozenset(found["words"].split()),
            text=found["text"],
        )
        for found in _FENCED.finditer(text)
    ]


class Shown:
    """Compares what a tour shows with what was printed, and remembers what each shortened text stood for."""

    def __init__(self) -> None:
        self._stands_for: dict[str, str] = {}

    def check(self, block: Block, printed: str) -> None:
        """Fails unless everything that the block shows was printed, in that order."""
        if block.language == "json":
            shown, actual = documents(block.text), documents(printed)
            assert self._in_order(shown, actual), (
                f"{block} shows\n{block.text}\nbut this was printed:\n{printed}"
            )
            return
        left = iter([_even(line) for line in printed.splitlines()])
        for line in filter(None, map(_even, block.text.splitlines())):
            pattern = ".*".join(map(re.escape, line.split("...")))
            assert any(re.fullmatch(pattern, each) for each in left), (
                f"{block}: {line!r} is not in\n{printed}"
            )

    def _in_order(self, shown: Iterable[Any], actual: Iterable[Any]) -> bool:
        left = iter(actual)
        return all(any(self._fits(each, candidate) for candidate in left) for each in shown)

    def _fits(self, shown: Any, actual: Any) -> bool:
        if isinstance(shown, dict) and isinstance(actual, dict):
            return all(name in actual and self._fits(each, actual[name]) for name, each in shown.items())
        if isinstance(shown, list) and isinstance(actual, list):
            return self._in_order(shown, actual)
        if isinstance(shown, str) and isinstance(actual, str) and shown.endswith("..."):
            prefix = shown.removesuffix("...").rstrip("0123456789abcdef")
            return actual.startswith(prefix) and self._stands_for.setdefault(shown, actual) == actual
        return bool(shown == actual)


def documents(text: str) -> list[Any]:
    """Returns the JSON objects in a text, one after the other; what stands between them is passed over."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


def _even(line: str) -> str:
    return " ".join(line.split()).rstrip(",")
