"""Who may open a database: one process at a time, on a local disk.

Owns the lock file. It must never open the database itself: closing any handle on that file would drop the
locks that SQLite holds on it for this process.

The lock is an flock on `<database>.lock`, taken before the database is opened and held until after it was
closed. The kernel drops it when the process dies, however it dies, so there is nothing to clean up and the
file stays. A crash between any two lines leaves a file without a lock.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from sessionplane.domain.errors import StoreBusy
from sessionplane.store.failures import StoreUnusable

_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(
    r"nfs|nfs4|cifs|smb\d?|smbfs|9p|afs|ceph|lustre|glusterfs|ncpfs|davfs"
    r"|fuse\.(sshfs|rclone|gcsfuse|.*s3.*|.*smb.*|.*nfs.*|.*dav.*|ceph.*|glusterfs.*)"
)
"""Types of file systems whose locks or shared memory other machines do not see, or not in time."""


class OwnerLock:
    """The right to open a database."""

    def __init__(self, database: Path) -> None:
        """Take the lock.

        Raises StoreBusy, with the database's path, if another process has it, and StoreUnusable if there can be
        no lock file beside it.
        """
        try:
            self._handle = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreUnusable(f"{database}.lock cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise StoreBusy(path=database) from None

    def release(self) -> None:
        """Give the lock up. Closing the handle does it."""
        os.close(self._handle)


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
