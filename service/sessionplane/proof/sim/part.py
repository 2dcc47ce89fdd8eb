"""The simulation as a part of the self-test: many seeds, on all cores, judged and counted."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

from sessionplane.proof.parts import Outcome, Progress
from sessionplane.proof.sim.census import count as count_all
from sessionplane.proof.sim.census import missing
from sessionplane.proof.sim.disk import Cabinet, memory
from sessionplane.proof.sim.plan import plan
from sessionplane.proof.sim.simulation import simulate
from sessionplane.proof.sim.story import tell
from sessionplane.proof.workers import workers

BLOCK_SEEDS = 20
TOLD_MAX = 20
"""So many broken seeds are told one by one."""

CLAIM = (
    "Whatever crashes, stalls, gets lost or comes twice, at any moment: no simulated client was ever lied to,"
    " and every run came to its end in time."
)


@dataclass(frozen=True, slots=True)
class Block:
    """What a block of seeds brought: how many there were, what happened, and the first line of what is broken."""

    seeds: int
    counts: Counter[str]
    broken: Sequence[tuple[int, str]]


def run(count: int, *, folder: Path, progress: Progress, first: int = 0) -> Outcome:
    """Play `count` seeds from the `first` one on. Each that breaks a promise leaves its story in the folder."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    done = 0
    for block in _blocks(range(first, first + count), folder):
        done += block.seeds
        counts += block.counts
        broken += block.broken
        progress(done, count)
    seconds = time.monotonic() - began
    return Outcome(
        name="simulation",
        claim=CLAIM,
        checked=done,
        unit="seeds",
        failures=[*_told(sorted(broken)), *missing(counts, done)],
        measured={
            "calls": sum(number for thing, number in counts.items() if thing.startswith("answered ")),
            "crashes_and_restarts": counts["crash"] + counts["restart"],
            "simulated_hours": round(counts["virtual second"] / 3600, 1),
            "seeds_per_second": round(done / seconds, 1),
        },
        seconds=seconds,
    )


def _told(broken: Sequence[tuple[int, str]]) -> Iterator[str]:
    for seed, how in broken[:TOLD_MAX]:
        yield f"seed {seed}: {how}; again: python -m sessionplane.proof.sim {seed}"
    if len(broken) > TOLD_MAX:
        yield f"and {len(broken) - TOLD_MAX} more seeds"


def _blocks(seeds: range, folder: Path) -> Iterator[Block]:
    """Play blocks of seeds in as many processes as there are cores, as they come to their end."""
    blocks = [seeds[at : at + BLOCK_SEEDS] for at in range(0, len(seeds), BLOCK_SEEDS)]
    with memory() as root, workers(_begin, root) as pool:
        waiting = [pool.submit(play, block, folder) for block in blocks]
        for each in as_completed(waiting):
            yield each.result()


_CABINETS: list[Cabinet] = []
"""The disks of this worker: one, made as it begins."""


def _begin(root: Path) -> None:
    folder = root / str(os.getpid())
    folder.mkdir()
    _CABINETS.append(Cabinet(folder))
    # What is loaded stays; and what a seed leaves in circles is small, so a look at all of it can wait.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def play(seeds: Sequence[int], folder: Path) -> Block:
    """Play seeds one after the other in this process, which has its disks."""
    counts: Counter[str] = Counter()
    broken = []
    for seed in seeds:
        recorded = simulate(plan(seed), _CABINETS[-1])
        counts += count_all(recorded.history)
        if recorded.broken:
            (folder / f"seed-{seed}.txt").write_text("\n".join(tell(recorded)))
            broken.append((seed, ": ".join(recorded.broken[0])))
    return Block(len(seeds), counts, broken)
