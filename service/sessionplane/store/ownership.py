"""Who may open a database: one process at a time, on a local disk, under one name.

Owns the lock file, and the look at whether an open database still stands under its names. It must never open the
database itself: closing any handle on that file would drop the locks that SQLite holds on it for this process.

The lock is an flock on `<database>.lock`, taken before the database is opened and held until after it was
closed. The kernel drops it when the process dies, however it dies, so there is nothing to clean up and the
file stays. A crash between any two lines leaves a file without a lock.

A symbolic link leads to the lock of what it names, as SQLite puts its log beside that. A hard link cannot be
followed, so a file that has two names is refused: SQLite would keep a log for each of them.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple

from sessionplane.domain.errors import StoreBusy
from sessionplane.store.failures import StoreUnusable

_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(
    r"nfs|nfs4|cifs|smb\d?|smbfs|9p|afs|ceph|lustre|glusterfs|ncpfs|davfs"
    r"|fuse\.(sshfs|rclone|gcsfuse|.*s3.*|.*smb.*|.*nfs.*|.*dav.*|ceph.*|glusterfs.*)"
)
"""Types of file systems whose locks or shared memory other machines do not see, or not in time."""
_ENDINGS = ("", "-wal", "-shm", ".lock")
"""What the names of an open database's files end in."""


class OwnerLock:
    """The right to open a database."""

    def __init__(self, database: Path) -> None:
        """Take the lock.

        Raises StoreBusy, with the database's path, if another process has it, and StoreUnusable if there can be
        no lock file beside it.
        """
        lock = f"{database.resolve()}.lock"
        try:
            self._handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(f"{lock} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise StoreBusy(path=database) from None

    def release(self) -> None:
        """Give the lock up. Closing the handle does it."""
        os.close(self._handle)


class _Identity(NamedTuple):
    """Which file a name stands for: two names of one identity are the same file."""

    device: int
    inode: int


class Whereabouts:
    """The files of an open database, to be found again: one that was removed or replaced under the server is still
    open, but what is written to it is gone with the process.
    """

    def __init__(self, database: Path) -> None:
        """Note which files they are. The database must be open."""
        real = database.resolve()
        self._files = {path: _identity(path) for path in (Path(f"{real}{end}") for end in _ENDINGS)}

    def lost(self) -> Path | None:
        """Return a file that no longer stands under its name; None if all of them do."""
        return next((path for path, known in self._files.items() if _identity(path) != known), None)


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino)


def refuse_second_name(database: Path) -> None:
    """Raise StoreUnusable if the database has a second name, under which another server could have it."""
    if database.is_file() and database.stat().st_nlink > 1:
        raise StoreUnusable(
            f"{database} has a second name (a hard link). SQLite keeps a log for each name, so what was committed"
            " under the one is missing under the other. Remove one name, or make a copy by `sessionplane backup`."
        )


def refuse_network_file_system(database: Path, *, mounts: Path = _MOUNTS) -> None:
    """Raise StoreUnusable if the database would stand on a network file system.

    Where the system does not list its mounts (it is not Linux), nothing is refused.
    """
    directory = database.parent.resolve()
    kind = file_system(directory, mounts)
    if _NETWORK.fullmatch(kind):
        raise StoreUnusable(
            f"{directory} is on a network file system ({kind}), where SQLite's locks cannot be trusted and a"
            " database can be damaged. Use a directory on a local disk."
        )


def file_system(directory: Path, mounts: Path) -> str:
    """Return the type of the file system that a directory is on; empty if that cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = Path(), ""
    for line in lines:
        _, point, each, *_ = line.split(" ")
        mounted = Path(_unescaped(point))
        # A later line covers an earlier one of the same place.
        if directory.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, each
    return kind


def _unescaped(point: str) -> str:
    """Undo the octal escapes with which the kernel writes blanks in a path."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
