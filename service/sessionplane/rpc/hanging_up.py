"""Hanging up: the connections of one address are ended underneath the gRPC core.

As a server stops, the core ends what it has not handed out yet, and what comes while it stops, as bare CANCELLED: up to
all of a burst of 400 calls. Clients do not repeat what was cancelled. A connection that is over is UNAVAILABLE to all
of them, so it ends before the core can say anything else. What was written before is still delivered.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DESCRIPTORS = ("/proc/self/fd", "/dev/fd")
"""Where a process finds its own descriptors. Without either, nothing is hung up."""


def hang_up(address: str) -> None:
    """End what listens on an address (host:port or unix:path), and then all connections to it.

    In this order, so that none comes that is not seen.
    """
    for listening in (True, False):
        for each in _sockets(address):
            if bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is listening:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR if listening else socket.SHUT_WR)


def _sockets(address: str) -> Iterator[socket.socket]:
    """Go through the sockets of this process whose own end is at an address."""
    for name in _descriptors():
        with suppress(OSError):  # it was closed meanwhile
            if stat.S_ISSOCK(os.fstat(name).st_mode):
                with socket.socket(fileno=os.dup(name)) as found:
                    if _is_at(found.getsockname(), address):
                        yield found


def _descriptors() -> list[int]:
    folder = next((each for each in map(Path, _DESCRIPTORS) if each.is_dir()), None)
    return [int(each.name) for each in folder.iterdir()] if folder is not None else []


def _is_at(here: object, address: str) -> bool:
    if isinstance(here, tuple):
        return str(here[1]) == address.rpartition(":")[2]
    return address == f"unix:{here}"
