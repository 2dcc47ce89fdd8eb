"""The servers under measurement: real processes, started for one run of the benchmarks and stopped with it.

CPU time is the kernel's account of a process, user and system together, so a busy neighbour costs patience and little
truth. It is read from the process's CPU clock: what /proc/<pid>/stat shows in ticks of 10 ms, without the ticks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_S = 30.0
STOP_S = 20.0

LOG_BOUNDS = {
    # A replay of 100,000 events needs a longer log than the default allows. Nothing else is changed.
    "SESSIONPLANE_LIMITS__LOG_EVENTS_MAX": "1000000",
    "SESSIONPLANE_LIMITS__LOG_BYTES_MAX": "1000000000",
}


class ServerFailed(Exception):
    """A server did not start, or is gone."""


@dataclass(frozen=True)
class Server:
    """A running server process."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time that the process has used."""
        # What clock_getcpuclockid(3) returns for a process on Linux.
        return time.clock_gettime((~self.pid << 3) | 2)


def machine_cpu_s() -> float:
    """Return the CPU time that everything on this machine has used, waiting excluded."""
    with Path("/proc/stat").open(encoding="utf-8") as stat:
        user, nice, system, _, _, interrupt, soft, *_ = (int(ticks) for ticks in stat.readline().split()[1:])
    return (user + nice + system + interrupt + soft) / TICKS_PER_S


@contextlib.contextmanager
def sessionplane(folder: Path, name: str = "bench", **limits: int) -> Iterator[Server]:
    """Serve a database in the folder, a new one unless it is there, as an operator would."""
    command = ["-m", "sessionplane", "serve", "--listen", "127.0.0.1:0", "--log-format", "json"]
    kept = {each: value for each, value in os.environ.items() if not each.startswith("SESSIONPLANE_")}
    given = {f"SESSIONPLANE_LIMITS__{limit.upper()}": str(value) for limit, value in limits.items()}
    with _process(
        [*command, "--db", str(folder / f"{name}.db")], folder / f"{name}.log", kept | LOG_BOUNDS | given
    ) as server:
        yield server


@contextlib.contextmanager
def floor(folder: Path) -> Iterator[Server]:
    """Serve the floors."""
    command = [str(HERE / "floor_server.py"), str(folder / "floor.db")]
    with _process(command, folder / "floor.log", dict(os.environ)) as server:
        yield server


@contextlib.contextmanager
def _process(arguments: list[str], log: Path, environment: dict[str, str]) -> Iterator[Server]:
    with log.open("w", encoding="utf-8") as lines:
        process = subprocess.Popen([sys.executable, *arguments], stderr=lines, env=environment)
    try:
        yield Server(address=_ready(process, log), pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the line that says where the server listens."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"server.ready"' in line:
                address: str = json.loads(line)["address"]
                return address
        time.sleep(0.02)
    raise ServerFailed(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
