"""What a process costs, as the kernel sees it."""

from __future__ import annotations

import time
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is in use."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used: what clock_getcpuclockid(3) reads."""
    return time.clock_gettime((~pid << 3) | 2)
