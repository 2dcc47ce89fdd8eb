"""A process that has imported everything and done nothing else. What tests start is forked from it.

Run as `python -m tests.support.origin <descriptor>` by `forked`, which sends a message for each process over that
socket; it ends with the tests. gRPC may be imported before a fork, but nothing of it may have been made and no second
thread may run: so it makes nothing, and is never the process of the tests.

Between it and each process stands a keeper, the process's parent, which tells the tests how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import sessionplane
import sessionplane_client

MESSAGE_BYTES_MAX = 128 * 1024


def main(descriptor: int) -> None:
    """Fork until the tests are over; returns only in what was forked, as the process that was asked for."""
    _import_all()
    gc.freeze()  # collecting would copy every page in each process
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "an import has started a thread"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is meant for the tests
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 4)
            _take_away_the_dead()
            if not message:
                raise SystemExit
            if os.fork() == 0:
                break
            _close(descriptors)
    _keep(descriptors)
    _become(**json.loads(message))


def _import_all() -> None:
    for package in (sessionplane, sessionplane_client):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for loaded_lazily in ("rich.console", "rich.table", "uvloop"):
        import_module(loaded_lazily)


def _take_away_the_dead() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _keep(descriptors: Sequence[int]) -> None:
    """Fork the process, say its number, and how it ends. Returns only in the process."""
    *streams, status = descriptors
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(status)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        _close(streams)
        return
    _close(streams)
    with suppress(OSError):  # the tests are gone
        os.write(status, f"{process}\n".encode())
        _, ended = os.waitpid(process, 0)
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _become(argv: list[str], environ: dict[str, str], folder: str) -> None:
    sys.argv = argv
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
