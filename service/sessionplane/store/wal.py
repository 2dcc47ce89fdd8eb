"""Whether the write-ahead log that a crash left behind is whole, asked before SQLite recovers from it.

SQLite reads a log up to the first frame whose checksum does not fit, and drops the rest without a word: right after a
crash, where that is what was being written, and wrong after a flipped bit, where it is commits that were acknowledged.
This module tells the two apart. It must never write, and must be asked before the log is written again.

Every commit is flushed before the next one begins, so a crash leaves at most one transaction in doubt. A frame that
does not fit, with more than one commit behind it that follow each other by their checksums, was therefore flushed once
and is damaged now. Commits that do not follow each other are what several crashes left behind. If the frame is in the
last transaction, nobody can know from the file; resume tokens still do. See
https://sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_READ_BYTES_MAX = 16 * 1024 * 1024
_MAGIC = 0x377F0682
_BIG_ENDIAN = 1
_WORD = 0xFFFFFFFF


class _Header(NamedTuple):
    """The log's header: its first word, the size of a page, two salts that all of its frames repeat, its checksum."""

    magic: int
    page_bytes: int
    salts: tuple[int, int]
    checksum: tuple[int, int]

    @property
    def order(self) -> str:
        """The order of the bytes in which checksums read words."""
        return ">" if self.magic & _BIG_ENDIAN else "<"


class _Frame(NamedTuple):
    """A frame: where it begins, whether it shows the salts of this log, whether it ends a commit, its checksum."""

    start: int
    is_ours: bool
    is_commit: bool
    checksum: tuple[int, int]


def damage(database: Path) -> str:
    """Return what is damaged in a database's log; empty if it is whole, ends as a crash leaves it, or is not there.

    A log that was folded in time has four MiB, which take a tenth of a second. Of one that grew behind a long reader
    only the first 16 MiB are read, since a server that was killed has to be back soon.
    """
    log = Path(f"{database.resolve()}-wal")
    try:
        with log.open("rb", buffering=0) as file:
            data = file.read(_READ_BYTES_MAX)
    except FileNotFoundError:
        return ""
    if len(data) <= _HEADER_BYTES:
        return ""
    header = _header(data)
    if header.magic & ~_BIG_ENDIAN != _MAGIC or _sum(header.order, data[:24], (0, 0)) != header.checksum:
        # It was flushed before the first frame was written.
        return f"{log} is damaged in its header, with all its commits behind it"
    frames = _frames(data, header)
    whole = _whole(data, header, frames)
    lost = _commits(data, header, frames[whole:])
    return f"{log} is damaged at frame {whole + 1}, with {lost} commits behind it" if lost > 1 else ""


def _header(data: bytes) -> _Header:
    magic, _, page_bytes, _, salt, other, one, two = struct.unpack(">8I", data[:_HEADER_BYTES])
    return _Header(magic, page_bytes, (salt, other), (one, two))


def _frames(data: bytes, header: _Header) -> list[_Frame]:
    """Find the frames up to the last one of this log; behind it stands what an earlier log left."""
    step = _FRAME_HEADER_BYTES + header.page_bytes
    found = []
    for start in range(_HEADER_BYTES, len(data) - step + 1, step):
        _, pages, salt, other, one, two = struct.unpack_from(">6I", data, start)
        found.append(_Frame(start, (salt, other) == header.salts, pages > 0, (one, two)))
    while found and not found[-1].is_ours:
        found.pop()
    return found


def _fits(data: bytes, header: _Header, frame: _Frame, before: tuple[int, int]) -> bool:
    """Say whether a frame follows the one that has the checksum `before`."""
    page = frame.start + _FRAME_HEADER_BYTES
    order = header.order
    checksum = _sum(order, data[frame.start : frame.start + 8], before)
    return frame.is_ours and frame.checksum == _sum(order, data[page : page + header.page_bytes], checksum)


def _whole(data: bytes, header: _Header, frames: list[_Frame]) -> int:
    """Return how many frames fit, one after the other."""
    before = header.checksum
    for number, frame in enumerate(frames):
        if not _fits(data, header, frame, before):
            return number
        before = frame.checksum
    return len(frames)


def _commits(data: bytes, header: _Header, frames: list[_Frame]) -> int:
    """Return how many commits follow each other without a break, at the most, behind the first of these frames."""
    most = count = 0
    for frame, following in pairwise(frames):
        count = count if _fits(data, header, following, frame.checksum) else 0
        count += following.is_ours and following.is_commit
        most = max(most, count)
    return most


def _sum(order: str, data: bytes, before: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum behind more bytes, of which there are eight, or a multiple."""
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & _WORD
        two = (two + odd + one) & _WORD
    return one, two
