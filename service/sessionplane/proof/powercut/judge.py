"""What is left after a cut, opened by the real store and held against all that had to be kept.

Owns the questions that are asked of it: can it be opened at all; is its file whole; does each named invariant hold;
does every log read to its end; is everything there that anybody was told; is no publication there in part; does it take
new work. It must never repair anything but by opening the store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.proof.powercut import evidence
from sessionplane.proof.powercut.evidence import Fact, Kept
from sessionplane.store import connections
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.invariants import INVARIANTS
from sessionplane.store.reading import SqliteReadTx
from sessionplane.store.sqlite import open_store
from sessionplane.store.verifying import Verifier

DATABASE = "sessionplane.db"

_SHOWN = 3


def lay_out(folder: Path, files: Mapping[str, bytes | bytearray]) -> None:
    """Make a folder hold just these files."""
    for old in folder.iterdir():
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


class Judge:
    """Judges what cuts of one recording left. After most of them the file is, byte for byte, what it was after another
    one; it is looked into once.
    """

    def __init__(self) -> None:
        self._states: dict[bytes, _State] = {}

    async def problems(self, folder: Path, wanted: Iterable[Fact]) -> list[str]:
        """Open what is left in a folder, and say what is wrong with it; nothing, if all is well."""
        database = folder / DATABASE
        unusable = await _use(database)
        if unusable:
            return [unusable]
        digest = blake2b(database.read_bytes()).digest()
        state = self._states.get(digest)
        if state is None:
            state = self._states[digest] = _look(database)
        return [*state.problems, *_lost(state.kept, wanted)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is in a file, and what is wrong with it by itself."""

    kept: Kept
    problems: Sequence[str]


async def _use(database: Path) -> str:
    """Open a file as a server does, write into it, and close it; returns what was in the way."""
    try:
        store = open_store(database)
    except (StoreUnusable, sqlite3.Error) as error:
        return f"it cannot be opened: {error}"
    try:
        await store.submit(lambda tx: tx.save_fact("proof", "it takes new work"))
    except SessionPlaneError as error:
        return f"it takes no new work: {error!r} {error.__cause__!r}"
    finally:
        await store.close()
    left = [path.name for path in database.parent.glob(f"{database.name}-*")]
    return f"closing left {left}" if left else ""


def _look(database: Path) -> _State:
    """Look into a closed file."""
    try:
        with closing(connections.open_reader(database)) as connection:
            kept = evidence.kept(connection)
            found = [*_damage(connection), *_broken(connection)]
        halves = [f"published in part: {half}" for half in kept.halves()[:_SHOWN]]
        return _State(kept=kept, problems=[*found, *halves, *_unreadable(database)])
    except sqlite3.Error as error:
        return _State(kept=Kept(), problems=[f"it cannot be read: {error}"])


def _damage(connection: sqlite3.Connection) -> list[str]:
    said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    return [] if said == ["ok"] else [f"the file is damaged: {'; '.join(said)}"]


def _broken(connection: sqlite3.Connection) -> list[str]:
    tx = SqliteReadTx(connection, "")
    broken = {name: tx.violations(name, limit=_SHOWN) for name in INVARIANTS}
    return [f"{name}: {each.total} rows, {each.examples}" for name, each in broken.items() if each.total]


def _unreadable(database: Path) -> list[str]:
    with Verifier(database) as verifier:
        return [f"{each.session_id}: {each.problem}" for each in verifier.sessions() if each.problem][:_SHOWN]


def _lost(kept: Kept, wanted: Iterable[Fact]) -> list[str]:
    missing = kept.missing(wanted)
    shown = "; ".join(" ".join(fact) for fact in missing[:_SHOWN])
    return [f"acknowledged and lost: {len(missing)} facts: {shown}"] if missing else []
