"""What a change of the key settings does to a database as a whole, and how that is said to people.

Owns the collected changes and their wording. Must never judge a key: that is `key_changes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sessionplane.domain.key_changes import KeyRecord
from sessionplane.domain.keys import SessionKey

EXAMPLES_MAX: Final = 20
"""How many of each kind are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A pointer that goes to another key."""

    namespace: str
    key: SessionKey
    target: SessionKey
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Sessions that meet under one key: one keeps it, the others become final."""

    namespace: str
    key: SessionKey
    keeper_id: str
    loser_ids: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Listed:
    """How many there are of something, and the first of them in a line each."""

    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.lines) < EXAMPLES_MAX:
            self.lines.append(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanges:
    """All that would change. `strays` are keys that stay, while another spelling of them leads elsewhere."""

    before: KeyRecord | None
    after: KeyRecord
    key_count: int
    moves: Sequence[Move] = ()
    meetings: Sequence[Meeting] = ()
    refused: Listed = field(default_factory=Listed)
    strays: Listed = field(default_factory=Listed)

    @property
    def touched(self) -> bool:
        """Whether anybody would notice."""
        return bool(self.moves or self.refused.count or self.strays.count)

    def report(self) -> Iterator[str]:
        """Say what would change, line by line, for whoever has to decide."""
        yield from self._heading()
        yield from self._moved()
        yield from self._met()
        yield from self._refused()
        yield from self._strayed()

    def _heading(self) -> Iterator[str]:
        touched = len(self.moves) + self.refused.count + self.strays.count
        yield "The key settings are not those that the database was written under."
        for line in self.before.differences(self.after) if self.before else ():
            yield f"  {line}"
        yield f"Of its {self.key_count:,} keys, {touched:,} are touched."

    def _moved(self) -> Iterator[str]:
        lines = (f"{move.key} -> {move.target}" for move in self.moves[:EXAMPLES_MAX])
        yield from _section("Keys that become another", lines, len(self.moves))

    def _met(self) -> Iterator[str]:
        lines = (
            f"{each.key}: {each.keeper_id} keeps it; final: {', '.join(each.loser_ids[:EXAMPLES_MAX])}"
            for each in self.meetings[:EXAMPLES_MAX]
        )
        yield from _section("Keys under which sessions meet", lines, len(self.meetings))
        if self.meetings:
            yield "  Who changed last keeps the key. The others become final: readable by id, and nothing is removed."

    def _refused(self) -> Iterator[str]:
        yield from _section("Keys that are refused", self.refused.lines, self.refused.count)
        if self.refused.count:
            yield "  Their sessions stay listed and readable by id. Nobody can reach them by key until the settings"
            yield "  accept these keys again."

    def _strayed(self) -> Iterator[str]:
        heading = "Keys that stay, while another spelling that reached them leads elsewhere"
        yield from _section(heading, self.strays.lines, self.strays.count)


def stray_line(key: SessionKey, spelling: str, leads_to: str) -> str:
    """Say that a spelling of a key leads elsewhere, or nowhere."""
    return f"{key}: {spelling} -> {leads_to}"


def refused_line(key: SessionKey, refusal: str) -> str:
    """Say why a key is refused."""
    return f"{key}: {refusal}"


def _section(heading: str, lines: Iterable[str], count: int) -> Iterator[str]:
    """Show the first of something, and say how many there are; nothing if there are none."""
    if not count:
        return
    yield f"{heading} ({count:,}):"
    yield from (f"  {line}" for line in lines)
    if count > EXAMPLES_MAX:
        yield f"  ... and {count - EXAMPLES_MAX:,} more"
