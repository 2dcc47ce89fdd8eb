"""What each page of a database is, read from the bytes as https://sqlite.org/fileformat2.html has them."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

_BTREE = {2: "index interior", 5: "table interior", 10: "index leaf", 13: "table leaf"}
_INTERIOR = (2, 5)


class Pages:
    """The pages of a closed database, by what they are: `kinds` is kind -> page numbers, from 1."""

    def __init__(self, database: Path) -> None:
        self.data = database.read_bytes()
        self.size = int.from_bytes(self.data[16:18], "big")
        self._found: dict[int, str] = {}
        with closing(sqlite3.connect(database)) as connection:
            found = connection.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall()
        self._walk(1)
        schema = [number for number, kind in self._found.items() if "leaf" in kind]
        for (root,) in found:
            self._walk(root)
        self._walk_free()
        self.kinds: dict[str, list[int]] = defaultdict(list)
        for number in range(1, len(self.data) // self.size + 1):
            # Rows that are longer than a page go on in pages that no tree has.
            kind = "schema" if number in schema else self._found.get(number, "overflow")
            self.kinds[kind].append(number)

    def page(self, number: int) -> bytes:
        """Return a page's bytes."""
        return self.data[(number - 1) * self.size : number * self.size]

    def _walk(self, number: int) -> None:
        page = self.page(number)
        header = 100 if number == 1 else 0
        kind = page[header]
        self._found[number] = _BTREE[kind]
        if kind in _INTERIOR:
            self._walk(_number(page, header + 8))
            for cell in range(int.from_bytes(page[header + 3 : header + 5], "big")):
                at = header + 12 + 2 * cell
                self._walk(_number(page, int.from_bytes(page[at : at + 2], "big")))

    def _walk_free(self) -> None:
        trunk = _number(self.data, 32)
        while trunk:
            page = self.page(trunk)
            self._found[trunk] = "freelist"
            for leaf in range(_number(page, 4)):
                self._found[_number(page, 8 + 4 * leaf)] = "freelist"
            trunk = _number(page, 0)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
