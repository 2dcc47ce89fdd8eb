"""A disk as pessimistic as it may be: what was flushed is there, all else is there or not, as it pleases.

Owns what a power cut may leave. It knows nothing of databases. What a disk may do to a write that was not flushed:

* keep it, lose it, or tear it: of its sectors of 512 bytes some are written. Bytes outside of it never change
  (https://sqlite.org/psow.html).
* let the file grow without its content: zeros, or whatever was there before. Or keep the content of a file's old part
  and lose its growth.
* what happened in a folder (a file was made, taken away, renamed) is kept or lost each for itself until the folder is
  flushed, whatever became of the file. What was lost of a file is lost under all of its names.

A file that is mapped for writing holds anything at all after a cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from sessionplane.proof.powercut.trace import (
    Create,
    Event,
    FlushBegun,
    Flushed,
    NotUnderstood,
    Rename,
    Sent,
    Share,
    Truncate,
    Unlink,
    Write,
)

SECTOR = 512


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The power failed; the seed decides about what was not flushed. What comes next happens after a new start."""

    seed: int


Happening = Event | PowerCut

_KEPT = (0.0, 0.5, 0.5, 0.5, 0.5, 1.0)
"""How likely a write is kept that was not flushed; one of these for each file and cut."""
_TORN = 0.3
_GROWS_ANYWAY = 0.3


@dataclass(slots=True)
class _File:
    """What is on the disk for certain, and what was asked for since, in order."""

    safe: bytearray = field(default_factory=bytearray)
    unsafe: list[Write | Truncate] = field(default_factory=list)
    shared: bool = False
    flushed: int = 0

    @property
    def count(self) -> int:
        """How many changes there were since the file was made."""
        return self.flushed + len(self.unsafe)

    def flush(self, count: int) -> None:
        """Make certain the first so many changes, as far as they are not yet."""
        done = self.unsafe[: max(0, count - self.flushed)]
        for change in done:
            _apply(self.safe, change)
        del self.unsafe[: len(done)]
        self.flushed += len(done)

    def cut(self, chance: Random) -> bytes | bytearray:
        """Return what the file holds after a power cut."""
        content = bytearray(self.safe)
        kept = chance.choice(_KEPT)
        longest = 0
        for change in self.unsafe:
            end = change.size if isinstance(change, Truncate) else change.offset + len(change.data)
            longest = max(longest, end)
            if chance.random() < kept:
                _keep(content, change, chance)
        if len(content) < longest and chance.random() < _GROWS_ANYWAY:
            _grow(content, chance.choice((longest, chance.randint(len(content), longest))), chance)
        if self.shared:
            return chance.choice((b"", bytes(len(content)), chance.randbytes(len(content))))
        return content


def _apply(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _keep(content: bytearray, change: Write | Truncate, chance: Random) -> None:
    """Apply a change as a disk does that loses power meanwhile: whole, or in part."""
    if isinstance(change, Truncate) or chance.random() >= _TORN:
        _apply(content, change)
        return
    for piece in _sectors(change):
        if chance.random() < 0.5:  # noqa: PLR2004 - half of them
            if piece.offset > len(content):
                _grow(content, piece.offset, chance)
            _apply(content, piece)


def _sectors(change: Write) -> list[Write]:
    """Take a write apart where a disk may."""
    end = change.offset + len(change.data)
    cuts = [change.offset, *range((change.offset // SECTOR + 1) * SECTOR, end, SECTOR), end]
    return [
        Write(change.name, first, change.data[first - change.offset : last - change.offset])
        for first, last in pairwise(cuts)
    ]


def _grow(content: bytearray, size: int, chance: Random) -> None:
    """Let a file grow without its content."""
    more = size - len(content)
    content.extend(chance.choice((bytes, chance.randbytes))(more))


class Disk:
    """One folder, as it is told about it."""

    def __init__(self) -> None:
        # Names as every process sees them now; as they are on the disk for certain; and what happened in between.
        self._names: dict[str, _File] = {}
        self._safe: dict[str, _File] = {}
        self._unsafe: list[dict[str, _File | None]] = []
        self._flushed = 0
        # Which file a flush under way is of (None: the folder) and how many changes it covers, by its number.
        self._flushing: dict[int, tuple[_File | None, int]] = {}

    def apply(self, event: Happening) -> None:
        """Follow what a process did. Raises NotUnderstood."""
        match event:
            case Write() | Truncate():
                self._file(event.name).unsafe.append(event)
            case Create():
                self._create(event)
            case Unlink():
                self._file(event.name)
                self._happen({event.name: None})
            case Rename():
                self._happen({event.name: None, event.to: self._file(event.name)})
            case Share():
                self._file(event.name).shared = True
            case FlushBegun():
                self._begin_flush(event)
            case Flushed():
                self._end_flush(event)
            case PowerCut():
                self._start_anew(self.cut(Random(event.seed)))
            case Sent():
                pass

    def cut(self, chance: Random) -> dict[str, bytes | bytearray]:
        """Return the folder's files after a power cut now."""
        names = dict(self._safe)
        kept = chance.choice(_KEPT)
        for change in self._unsafe:
            if chance.random() < kept:
                _rename(names, change)
        # In order, so that one seed means one outcome.
        return {name: names[name].cut(chance) for name in sorted(names)}

    def whole(self) -> dict[str, bytes | None]:
        """Return the folder's files as processes see them now; None for what no call tells."""
        found: dict[str, bytes | None] = {}
        for name, file in self._names.items():
            content = bytearray(file.safe)
            for change in file.unsafe:
                _apply(content, change)
            found[name] = None if file.shared else bytes(content)
        return found

    @property
    def unsafe_count(self) -> int:
        """How many changes a power cut may take now, beside those of files that hold anything anyhow."""
        return len(self._unsafe) + sum(len(file.unsafe) for file in self._names.values() if not file.shared)

    def _start_anew(self, files: Mapping[str, bytes | bytearray]) -> None:
        self._safe = {name: _File(safe=bytearray(content)) for name, content in files.items()}
        self._names = dict(self._safe)
        self._unsafe = []
        self._flushed = 0
        self._flushing = {}

    def _file(self, name: str) -> _File:
        file = self._names.get(name)
        if file is None:
            raise NotUnderstood(f"There is no file {name!r}")
        return file

    def _create(self, event: Create) -> None:
        if event.name not in self._names:
            self._happen({event.name: _File()})
        elif event.emptied:
            self._file(event.name).unsafe.append(Truncate(event.name, 0))

    def _happen(self, change: dict[str, _File | None]) -> None:
        _rename(self._names, change)
        self._unsafe.append(change)

    def _begin_flush(self, event: FlushBegun) -> None:
        file = self._file(event.name) if event.name else None
        covered = file.count if file is not None else self._flushed + len(self._unsafe)
        self._flushing[event.number] = (file, covered)

    def _end_flush(self, event: Flushed) -> None:
        file, covered = self._flushing.pop(event.number)
        if file is not None:
            file.flush(covered)
            return
        done = self._unsafe[: max(0, covered - self._flushed)]
        for change in done:
            _rename(self._safe, change)
        del self._unsafe[: len(done)]
        self._flushed += len(done)


def _rename(names: dict[str, _File], change: dict[str, _File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
